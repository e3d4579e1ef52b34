// The basis ψ_1 … ψ_N of the continuous memory, as a specification on the host (docs/continuous-memory.md,
// "Bases").
//
//   gaussian    ψ_j(t) = N(t; m_j, s_j²)     a = centres m, b = widths s
//   power       ψ_j(t) = t^j                 a = exponents 0 … N−1
//   sine        ψ_j(t) = sin(ω_j t)          a = ω_j = πj, j = 1 … N
//   cosine      ψ_j(t) = cos(ω_j t)          a = ω_j = πj, j = 0 … N−1
//   rectangle   ψ_j(t) = 1 on [a_j, b_j)     N boxes of width 1/N side by side; the last one holds 1, too
#pragma once

#include <string>
#include <vector>

#include "tensor/kernel_types.h"

namespace lem {

struct Basis {
  BasisKind kind = BasisKind::gaussian;
  std::vector<double> a, b;  // (N) each: the two parameters of BasisView, in double

  int64_t size() const { return int64_t(a.size()); }
  /// ψ_j(t)
  double evaluate(int64_t j, double t) const;
  /// ψ(t), (N)
  std::vector<double> evaluate(double t) const;
};

/// N basis functions of one kind. `widths` are the Gaussians' Σ and must be empty for the other kinds.
/// Gaussians: centres linspace(0, 1, N/|Σ|), each with every width of Σ in turn: (m_1, s_1), (m_1, s_2), …, (m_2, s_1),
/// … A single centre stands at 0, as linspace(0, 1, 1) has it.
Basis make_basis(BasisKind kind, int64_t N, const std::vector<double>& widths = {});

const char* name(BasisKind kind);
const char* name(DensityKind kind);

}  // namespace lem
