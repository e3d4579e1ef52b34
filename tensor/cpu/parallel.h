// Loops over all cores whose results do not depend on how many there are. All loops that threads share are written with
// these:
//   parallel_for     ranges of equal size, one a thread, which may have memory of its own for its range
//   parallel_items   items of unequal size, each to whichever thread is free
//   reduce_rows      sums over rows
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <vector>

#include "tensor/real.h"

namespace lem::cpu {

/// Below so many elementary operations a parallel region costs more than it gains.
inline constexpr int64_t kSerialWork = 32768;

/// Threads for `work` elementary operations: one where that is too little to share, or is shared already.
inline int threads_for(int64_t work) { return work < kSerialWork || omp_in_parallel() ? 1 : omp_get_max_threads(); }

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

/// body(begin, end) over pieces of [0, n), the same to the same thread whenever there are as many. `grain`: elementary
/// operations per element.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body body) {
  if (n <= 1 || threads_for(n * grain) == 1) {
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

/// body(i, thread) for i in [0, n), in no particular order. `threads`, numbered from 0, is what threads_for() gave.
template <class Body>
void parallel_items(int64_t n, int threads, Body body) {
  if (n <= 1 || threads == 1) {
    for (int64_t i = 0; i < n; ++i) body(i, 0);
    return;
  }
  Caught caught;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t i = 0; i < n; ++i) caught([&] { body(i, omp_get_thread_num()); });
  caught.rethrow();
}

/// body(i, first, last) for the parts [first, last) of items i, of `size` each, that lie in [begin, end) of all of
/// them.
template <class Body>
void for_items(int64_t begin, int64_t end, int64_t size, Body body) {
  while (begin < end) {
    const int64_t i = begin / size, last = std::min(end, (i + 1) * size);
    body(i, begin - i * size, last - i * size);
    begin = last;
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
