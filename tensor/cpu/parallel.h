// Loops over all cores whose results do not depend on how many there are.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <optional>
#include <vector>

#include "tensor/real.h"

namespace lem::cpu {

inline constexpr int64_t kSerialWork =
    32768;  // below so many elementary operations a parallel region costs more than it gains

/// An exception that leaves a parallel region ends the program (OpenMP says so), and one that skips a thread's part of
/// a loop leaves the others waiting. So what a thread does that can throw, as allocations can, is done through this:
/// the first exception is kept, and thrown where the region has ended.
class Caught {
 public:
  template <class Body>
  void operator()(Body body) noexcept {
    try {
      body();
    } catch (...) {
#pragma omp critical(lem_caught)
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::exception_ptr first_;
};

/// body(i, space) for i in [0, n), the same i to the same thread whenever there are as many. Each thread's space is a
/// Space of its own, made by make() when it first needs one.
template <class Make, class Body>
void parallel_with(int64_t n, int threads, Make make, Body body) {
  Caught caught;
#pragma omp parallel num_threads(threads)
  {
    std::optional<decltype(make())> space;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n; ++i)
      caught([&] {
        if (!space) space.emplace(make());
        body(i, *space);
      });
  }
  caught.rethrow();
}

/// body(begin, end) over pieces of [0, n). `grain`: elementary operations per element.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body body) {
  if (n * grain < kSerialWork || omp_in_parallel()) {
    if (n > 0) body(int64_t(0), n);
    return;
  }
  Caught caught;
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads(), t = omp_get_thread_num();
    const int64_t begin = n * t / threads, end = n * (t + 1) / threads;
    if (begin < end) caught([&] { body(begin, end); });
  }
  caught.rethrow();
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
