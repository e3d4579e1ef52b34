// Loops over all cores whose results do not depend on how many there are.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tensor/real.h"

namespace lem::cpu {

inline constexpr int64_t kSerialWork =
    32768;  // below so many elementary operations a parallel region costs more than it gains

/// body(begin, end) over pieces of [0, n). `grain`: elementary operations per element.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body body) {
  if (n * grain < kSerialWork || omp_in_parallel()) {
    if (n > 0) body(int64_t(0), n);
    return;
  }
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads(), t = omp_get_thread_num();
    const int64_t begin = n * t / threads, end = n * (t + 1) / threads;
    if (begin < end) body(begin, end);
  }
}

/// Reduction over rows into `cols` sums: body(begin, end, partial) adds rows [begin, end) into partial (cols), which
/// starts at zero. The blocks of rows are fixed, and their partial sums are added in order: the same bits for any
/// number of threads.
template <class Body>
void reduce_rows(real* sums, int64_t rows, int64_t cols, Body body) {
  constexpr int64_t kBlock = 256;
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  std::vector<real> partial(static_cast<size_t>(blocks * cols));
  parallel_for(blocks, kBlock * cols, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      body(i * kBlock, std::min(rows, (i + 1) * kBlock), partial.data() + i * cols);
  });
  for (int64_t i = 0; i < blocks; ++i)
    for (int64_t c = 0; c < cols; ++c) sums[c] += partial[size_t(i * cols + c)];
}

}  // namespace lem::cpu
