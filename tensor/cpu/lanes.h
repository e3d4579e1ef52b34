// Arithmetic on whole vector registers, for the loops that are too hot to leave to the compiler's judgement: an
// exponential, and a small matrix product for operands that are made in the cache and used once.
#pragma once

#include <array>
#include <cstdint>
#include <numbers>

#include "tensor/cpu/vector.h"

namespace lem::cpu {

// The block of C that a product holds in registers: three quarters of them, the others for B's vectors and A's scalar.
inline constexpr int kBlockVectors = 3, kBlockRows = kVectorRegisters / 4;

typedef std::conditional_t<kDouble, int64_t, int32_t> Integer;
typedef Integer IntegerVector __attribute__((vector_size(kVectorBytes)));

/// The coefficients (ln 2)^k/k! of the series 2^f = Σ c_k f^k.
template <int terms>
constexpr std::array<real, terms> exp2_series() {
  std::array<real, terms> c{};
  double term = 1;
  for (int k = 0; k < terms; ++k) c[k] = real(term), term *= std::numbers::ln2 / (k + 1);
  return c;
}

/// 2^x for x ≤ 0, to 1 unit in the last place beyond the rounding of x. 0 below 2^−100: what is multiplied with it then
/// never leaves the normal numbers, on which processors are fast. NaN stays NaN.
///
/// 2^x = 2^k 2^f with k the integer next to x and |f| ≤ ½. Adding 1.5 · 2^mantissa rounds x to k, which then stands in
/// the lowest bits of the sum; shifted up and biased they are the bits of 2^k. The first dropped term of the series is
/// 5e-9 in float (8 terms) and 4e-18 in double (14).
inline Vector exp2_negative(Vector x) {
  constexpr int mantissa = kDouble ? 52 : 23, terms = kDouble ? 14 : 8;
  constexpr auto c = exp2_series<terms>();
  constexpr real rounder = real(1.5) * real(int64_t(1) << mantissa);
  const Vector lowest = Vector{} - 100;
  const Vector clamped = x < lowest ? lowest : x;
  const Vector shifted = clamped + rounder, f = clamped - (shifted - rounder);
  Vector e = Vector{} + c.back();
  for (int k = terms - 2; k >= 0; --k) e = e * f + c[k];
  const IntegerVector power = ((IntegerVector)shifted << mantissa) + (Integer(kDouble ? 1023 : 127) << mantissa);
  return x < lowest ? Vector{} : e * (Vector)power;
}

/// A matrix read element by element: element (i, j) at p[i·row + j·col].
struct Strided {
  const real* p;
  int64_t row, col;
};

/// The block of M rows and V vectors of C at c: held in registers while k runs.
template <int M, int V>
inline void product_block(real* c, int64_t ldc, Strided a, const real* b, int64_t ldb, int64_t k, bool add) {
  Vector sum[M][V];
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < V; ++v) sum[i][v] = add ? load(c + i * ldc + v * kLanes) : Vector{};
  for (int64_t l = 0; l < k; ++l) {
    Vector row[V];
    for (int v = 0; v < V; ++v) row[v] = load(b + l * ldb + v * kLanes);
    for (int i = 0; i < M; ++i) {
      const real x = a.p[i * a.row + l * a.col];
      for (int v = 0; v < V; ++v) sum[i][v] += x * row[v];
    }
  }
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < V; ++v) store(c + i * ldc + v * kLanes, sum[i][v]);
}

/// V vectors of all m rows of C: whole blocks, then the rest by halves.
template <int V, int M = kBlockRows>
inline void product_panel(real* c, int64_t ldc, Strided a, const real* b, int64_t ldb, int64_t m, int64_t k, bool add) {
  int64_t i = 0;
  for (; i + M <= m; i += M) product_block<M, V>(c + i * ldc, ldc, {a.p + i * a.row, a.row, a.col}, b, ldb, k, add);
  if constexpr (M > 1)
    product_panel<V, M / 2>(c + i * ldc, ldc, {a.p + i * a.row, a.row, a.col}, b, ldb, m - i, k, add);
}

/// C (m, n) = A (m, k) B (k, n), or += with `add`, on the calling thread and without the packing that a BLAS does
/// first: columns of B lie in lanes, elements of A are broadcast. n must be a multiple of kLanes; C and B have rows ldc
/// and ldb apart.
inline void lane_product(real* c, int64_t ldc, Strided a, const real* b, int64_t ldb, int64_t m, int64_t n, int64_t k,
                         bool add) {
  int64_t col = 0;
  for (; col + kBlockVectors * kLanes <= n; col += kBlockVectors * kLanes)
    product_panel<kBlockVectors>(c + col, ldc, a, b + col, ldb, m, k, add);
  for (; col < n; col += kLanes) product_panel<1>(c + col, ldc, a, b + col, ldb, m, k, add);
}

}  // namespace lem::cpu
