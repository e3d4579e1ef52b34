// The signal's fit by ridge regression (Martins et al., arXiv 2109.00301, section 3.1), on the host and in double.
//
// L vectors X (L, C) at positions t_1 … t_L become coefficients Gᵀ X (N, C), the minimiser of
//   ‖Fᵀ coeffs − X‖² + λ ‖coeffs‖²,   F[j,l] = ψ_j(t_l)  (N, L),   G = Fᵀ (F Fᵀ + λ I)⁻¹  (L, N).
// G knows positions, basis and λ only, so it is made once for every (L, kind) of update and then is one matrix product.
#pragma once

#include <vector>

#include "nn/basis.h"

namespace lem {

/// t_l = (l − ½)/L, l = 1 … L
std::vector<double> positions(int64_t L);

/// u_i = i/R, i = 1 … R: where the old signal is read when nothing better is known.
std::vector<double> uniform_points(int64_t R);

/// Where a contraction places its R old and L new vectors: τ·i/R and τ + (1 − τ)·l/L. (R + L)
std::vector<double> contraction_positions(int64_t R, double tau, int64_t L);

/// Where zero padding adds zero targets to `points` others: −(k − ½)/P and 1 + (k − ½)/P, k = 1 … ⌊(P + 1)/2⌋, P =
/// points: the midpoints at the fit's own spacing over [−½, 0) and (1, 1½].
std::vector<double> padding_positions(int64_t points);

/// G (L, N), row-major, for vectors at `positions` (L). With `pad` the fit also sees zeros at padding_positions(L):
/// their rows of G would meet zero vectors, so they are not returned.
std::vector<double> ridge_operator(const Basis& basis, const std::vector<double>& positions, double lambda, bool pad);

/// One contraction, coeffs = G_oldᵀ X_old + G_newᵀ X_new, where X_old = Ψ(u) coeffs_old (R, C) is the old signal at u.
struct Contraction {
  std::vector<double> G_old;  // (R, N)
  std::vector<double> G_new;  // (L, N)
  std::vector<double> A;      // (N, N) = G_oldᵀ Ψ(u) at u_i = i/R: then coeffs = A coeffs_old + G_newᵀ X_new
};
Contraction contraction(const Basis& basis, int64_t R, double tau, int64_t L, double lambda, bool pad);

}  // namespace lem
