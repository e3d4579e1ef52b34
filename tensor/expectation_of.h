// What all expectations of tensor/expectation.h share: the result, the class that each case specialises, and what a
// parabola and a truncated Gaussian know of themselves.
#pragma once

#include "tensor/kernel_types.h"
#include "tensor/special.h"

namespace lem::LEM_DEVICE {

template <class Number>
struct ExpectationOf {
  Number value = 0, dmu = 0, dsigma2 = 0;  // E_p[ψ], ∂/∂μ, ∂/∂σ²
};

template <BasisKind basis, DensityKind density, class Number>
class Expect;

/// Half the width of the parabola.
template <class Number>
LEM_FUNCTION Number half_width(Number sigma2) {
  return std::cbrt(Number(1.5) * sigma2);
}

/// N(t; μ, σ²)/Z on [0, 1], what all its expectations share.
struct Truncated {
  double mu, sigma2, sigma;
  double log_mass, at_zero, at_one;  // ln Z, N₀ and N₁

  LEM_FUNCTION Truncated(double mu, double sigma2) : mu(mu), sigma2(sigma2), sigma(std::sqrt(sigma2)) {
    log_mass = log_normal_mass(-mu / sigma, (1 - mu) / sigma);
    at_zero = over_mass(0), at_one = over_mass(1);
  }
  /// N(t; μ, σ²)/Z, from logarithms: both may underflow when their ratio doesn't.
  LEM_FUNCTION double over_mass(double t) const {
    const double x = (t - mu) / sigma;
    return std::exp(-0.5 * x * x - log_mass) * kInverseRoot2Pi / sigma;
  }
};

}  // namespace lem::LEM_DEVICE
