// The closed forms of tensor/expectation.h on the CPU, in double, and what it integrates numerically: rules of 20
// points, whose sums run in vector lanes.
#pragma once

#include <array>

#include "tensor/cpu/simd.h"
#include "tensor/expectation.h"

namespace lem::cpu {

using Expectation = ExpectationOf<double>;

/// The n-point Gauss–Legendre rule on [−1, 1], exact for polynomials up to degree 2n − 1. Nodes are the roots of the
/// Legendre polynomial P_n by Newton's method from cos(π (i + ¾)/(n + ½)); weights 2/((1 − x²) P_n'(x)²).
template <int n>
struct GaussLegendre {
  std::array<double, n> x, weight;
  GaussLegendre() {
    for (int i = 0; i < n; ++i) {
      double root = std::cos(kPi * (i + 0.75) / (n + 0.5)), slope = 1;
      for (int step = 0; step < 8; ++step) {
        double p0 = 1, p1 = root;  // P_{k−1}, P_k
        for (int k = 1; k < n; ++k) {
          const double p2 = ((2 * k + 1) * root * p1 - k * p0) / (k + 1);
          p0 = p1, p1 = p2;
        }
        slope = n * (root * p1 - p0) / (root * root - 1);
        root -= p1 / slope;
      }
      x[i] = root, weight[i] = 2 / ((1 - root * root) * slope * slope);
    }
  }
};
inline constexpr int kNodes = 20;
inline const GaussLegendre<kNodes>& gauss_legendre() {
  static const GaussLegendre<kNodes> rule;
  return rule;
}

/// With k = a/s ≤ 2 the rule's error for e^{−k²x²/2} is below 2^{n+1} n!³ k^{2n}/((2n + 1) (2n)!²) = 1e-24 for n = 20.
template <>
inline Expectation narrow_parabola_sums(double a, double d, double inverse) {
  const auto& rule = gauss_legendre();
  double value = 0, slope = 0, bend = 0;
#pragma omp simd reduction(+ : value, slope, bend)
  for (int i = 0; i < kNodes; ++i) {
    const double x = rule.x[i], u = (a * x - d) * inverse, rest = 1 - x * x;
    const double psi = rest * rule.weight[i] * exp(-0.5 * u * u);
    value += psi, slope -= psi * u, bend += psi * rest * (u * u - 1);
  }
  return {value, slope, bend};
}

/// Powers under the truncated Gaussian, where no recursion is stable for small and for large j alike: six panels over
/// what counts of [0, 1], so that one spans at most 3σ and a sixth of [0, 1]; there both factors of t^j N(t; μ, σ²),
/// which is like e^{−j(1 − t)} for large j, are smooth enough for 1e-12 up to j ≈ 600. Then (T1), (T2) with
/// E[ψ'] = j M_{j−1}, E[ψ''] = j (j − 1) M_{j−2}.
template <>
class Expect<BasisKind::power, DensityKind::truncated_gaussian, double> {
 public:
  Expect(double mu, double sigma2) : p_(mu, sigma2) { begin(); }
  Expectation operator()(double exponent, double) {
    const int j = int(exponent);
    if (j < at_) begin();
    for (; at_ < j; ++at_) M_.push(sum());
    const double E = M_.now, slope = j * M_.last, bend = double(j) * (j - 1) * M_.before;
    const double one = (1 - E) * p_.at_one, zero = ((j == 0) - E) * p_.at_zero;
    const double ends = j * p_.at_one - (j == 1) * p_.at_zero;
    return {E, slope - one + zero, 0.5 * (bend - ends - ((1 - p_.mu) * one + p_.mu * zero) / p_.sigma2)};
  }

 private:
  static constexpr int kPanels = 6;

  /// From t^0 on.
  void begin() {
    const Reach within(p_.mu, p_.sigma2);
    const double half = (within.hi - within.lo) / (2 * kPanels);
    const auto& rule = gauss_legendre();
    for (int i = 0; i < kPanels * kNodes; ++i) {
      t_[i] = within.lo + half * (2 * (i / kNodes) + 1 + rule.x[i % kNodes]);
      term_[i] = p_.over_mass(t_[i]) * half * rule.weight[i % kNodes];
    }
    at_ = 0, M_ = {.now = sum()};
  }
  /// E[t^j] for the next j.
  double sum() {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < kPanels * kNodes; ++i) sum += term_[i], term_[i] *= t_[i];
    return sum;
  }

  Truncated p_;
  alignas(64) double t_[kPanels * kNodes], term_[kPanels * kNodes];  // nodes, and weight · p t^j there
  int at_;
  Moments M_;
};

/// row (N): the expectations of all basis functions under one density.
inline void expectation_row(Expectation* row, BasisView basis, DensityKind kind, double mu, double sigma2) {
  for_kinds<double>(basis.kind, kind, [&]<class E>(E*) {
    E expect(mu, sigma2);
    for (int64_t j = 0; j < basis.N; ++j) row[j] = expect(basis.a[j], basis.b[j]);
  });
}

}  // namespace lem::cpu
