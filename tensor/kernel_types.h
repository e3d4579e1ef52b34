// The few structs and enumerations that kernel signatures (kernels.h) are written in. Plain data: they are passed to
// CUDA kernels by value.
#pragma once

#include <cstdint>

#include "tensor/random.h"
#include "tensor/real.h"

namespace lem {

/// C = alpha · op(A) op(B) + beta · C, row-major, for each of `batch` matrices `stride_*` apart.
/// op(A): (m, k), op(B): (k, n), C: (m, n); ld* is the distance between rows as stored. stride_c = 0: all products add
/// up into one C, in order, and beta scales what it held before.
struct Gemm {
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
  int64_t lda, ldb, ldc;
  real alpha = 1, beta = 0;
  int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
};

enum class Activation { identity, relu, gelu };

/// Dropout of rate p with the mask drawn from `stream`, element i of the tensor from draw first + i. p = 0: none.
struct Dropout {
  real p = 0;
  Stream stream{};
  uint64_t first = 0;
};

/// Sizes and options of relative attention. Queries are the last T of the K positions that keys cover, so query i
/// stands at position i + K − T and sees keys j ≤ i + K − T; r's row of the pair (i, j) is T − 1 − i + j.
struct RelativeAttention {
  int64_t B, T, K, H, D;
  int64_t window = 0;  // > 0: only the last `window` of the keys a query may see (Transformer-XL's same_length)
  real scale = 1;      // 1 / √D
  Dropout dropout{};   // of the probabilities; element ((b·H + h)·T + i)·K + j; its first draw begins a head
};

enum class BasisKind { gaussian, power, sine, cosine, rectangle };

/// N basis functions ψ_j on [0, 1], each with two parameters, in the memory of the device:
///   gaussian   a: centre m_j, b: width s_j   ψ = N(t; m_j, s_j²)
///   power      a: exponent j                 ψ = t^j
///   sine       a: frequency ω_j              ψ = sin(ω_j t)
///   cosine     a: frequency ω_j              ψ = cos(ω_j t)
///   rectangle  a: left edge, b: right edge   ψ = 1 on [a, b), on [a, b] where b = 1, 0 elsewhere
struct BasisView {
  BasisKind kind;
  int64_t N;
  const real* a;  // (N)
  const real* b;  // (N)
};

/// The density p with location μ and variance σ²; `truncated_*` is restricted to [0, 1] and renormalised.
enum class DensityKind { gaussian, truncated_gaussian, parabola };

/// Sizes of attention to the continuous memory.
struct ContinuousAttention {
  int64_t B, T, H, D;
  DensityKind density = DensityKind::gaussian;
};

/// How sticky memories turn the histogram into points (docs/sticky-memories.md).
enum class StickyDraw { stratified, multinomial };
enum class StickyPlace { left, centre, uniform };

struct AdamStep {
  real lr, beta1, beta2, eps, weight_decay;  // weight_decay is AdamW's, decoupled
  real correction1, correction2;             // 1 − β₁^t, 1 − β₂^t
  real clip;                                 // > 0: gradients are scaled down so that their global norm is at most this
};

}  // namespace lem
