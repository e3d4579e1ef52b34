// The continuous memory's kernels in plain loops and in double: what they must equal. Expectations are the closed forms
// of tensor/expectation.h, which expectation_test.cpp holds against integrals.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/kernel_types.h"

namespace lem::naive {

using Array = std::vector<double>;

// Bases are in the memory of the host.

/// psi (n, N); t (n)
Array basis_evaluate(const Array& t, BasisView basis);
/// r (n, N); density (2, n)
Array basis_expectation(const Array& density, BasisView basis, DensityKind kind);

struct ContinuousAttentionInputs {
  ContinuousAttention s;
  BasisView basis;
  Array density;  // (2, B, H, T)
  Array values;   // (B, N, H·D)
};
struct ContinuousAttentionGradients {
  Array ddensity, dvalues;
};
/// z (B, T, H·D)
Array continuous_attention_forward(const ContinuousAttentionInputs& x);
ContinuousAttentionGradients continuous_attention_backward(const Array& dz, const ContinuousAttentionInputs& x);

/// mass (B, bins); density (2, B, n)
Array sticky_histogram(const Array& density, int64_t B, int64_t n, int64_t bins);

struct StickyPoints {
  Array points;                    // (B, R)
  std::vector<int32_t> fallbacks;  // (B)
};
/// mass (B, bins); streams (B)
StickyPoints sticky_points(const Array& mass, StickyDraw draw, StickyPlace place, const std::vector<Stream>& streams,
                           int64_t bins, int64_t R);

}  // namespace lem::naive
