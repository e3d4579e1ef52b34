// Reductions. Sums run over fixed blocks and add the blocks in order, so that the bits do not depend on the threads.
#include <bit>
#include <cmath>
#include <type_traits>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"

namespace lem::cpu {
namespace {

/// Σ term(i) over [0, n), each block in double: ten million squares would lose digits in float.
template <class Term>
double blocked_sum(int64_t n, Term term) {
  constexpr int64_t kBlock = 16384;
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  std::vector<double> partial(static_cast<size_t>(blocks));
  parallel_for(blocks, kBlock, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      constexpr int kLanes = 16;
      double lanes[kLanes] = {};
      const int64_t begin = b * kBlock, end = std::min(n, begin + kBlock);
      int64_t i = begin;
      for (; i + kLanes <= end; i += kLanes)
        for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
      for (; i < end; ++i) lanes[0] += term(i);
      for (int lane = 0; lane < kLanes; ++lane) partial[size_t(b)] += lanes[lane];
    }
  });
  double total = 0;
  for (double p : partial) total += p;
  return total;
}

}  // namespace

void sum(real* y, const real* x, int64_t n) {
  y[0] = real(blocked_sum(n, [=](int64_t i) { return double(x[i]); }));
}

void sum_squares(real* y, const real* x, int64_t n) {
  y[0] = real(blocked_sum(n, [=](int64_t i) { return double(x[i]) * double(x[i]); }));
}

void count_nonfinite(int32_t* y, const real* x, int64_t n) {
  using Bits = std::conditional_t<kDouble, uint64_t, uint32_t>;
  constexpr Bits exponent = kDouble ? Bits(0x7FF0000000000000) : Bits(0x7F800000);
  y[0] = int32_t(
      blocked_sum(n, [=](int64_t i) { return (std::bit_cast<Bits>(x[i]) & exponent) == exponent ? 1.0 : 0.0; }));
}

void column_sums(real* y, const real* x, int64_t rows, int64_t cols) {
  reduce_rows(y, rows, cols, [=](int64_t begin, int64_t end, real* partial) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t c = 0; c < cols; ++c) partial[c] += x[row * cols + c];
  });
}

void argmax(int32_t* y, const real* x, int64_t rows, int64_t cols) {
  parallel_for(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const real* xr = x + row * cols;
      int32_t best = 0;
      for (int64_t c = 1; c < cols; ++c)
        if (xr[c] > xr[best]) best = int32_t(c);
      y[row] = best;
    }
  });
}

}  // namespace lem::cpu
