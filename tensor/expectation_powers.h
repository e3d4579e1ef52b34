// Expectations of powers (tensor/expectation.h): ψ = t^j, moments by recursions over j, always in double.
#pragma once

#include "tensor/expectation_of.h"

namespace lem::LEM_DEVICE {

/// Moments stop here: E[t^j] on ℝ grows without bound (wide densities, large j), and float must not see an infinity.
inline constexpr double kLargestMoment = 1e18;

/// M_j = E[t^j] for one j and the two before it. What has them remembers how far it has come, and goes on from there
/// where exponents ascend: a whole basis takes one pass.
struct Moments {
  double now = 1, last = 0, before = 0;
  LEM_FUNCTION void push(double next) {
    before = last, last = now;
    now = next > kLargestMoment ? kLargestMoment : next < -kLargestMoment ? -kLargestMoment : next;
  }
};

/// Integrating by parts, M_{j+1} = μ M_j + j σ² M_{j−1}. ∂/∂μ = j M_{j−1}, ∂/∂σ² = ½ j (j − 1) M_{j−2}. For μ ≥ 0 the
/// moments are the growing solution of the recursion, here and below, so that rounding does not build up.
template <class Number>
class Expect<BasisKind::power, DensityKind::gaussian, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), sigma2_(sigma2) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number exponent, Number) {
    const int j = int(exponent);
    if (j < at_) at_ = 0, M_ = {};
    for (; at_ < j; ++at_) M_.push(mu_ * M_.now + at_ * sigma2_ * M_.last);
    return {Number(M_.now), Number(j * M_.last), Number(0.5 * j * (j - 1) * M_.before)};
  }

 private:
  double mu_, sigma2_;
  int at_ = 0;
  Moments M_;
};

/// For a density proportional to (1 − x²)^q, x = (t − μ)/a, (j + 2q + 2) M_{j+1} = (2j + 2q + 2) μ M_j + j (a² − μ²)
/// M_{j−1}: M with q = 1 for the parabola itself, Q with q = 2 for (P), ∂/∂σ² = a²/(15σ²) j (j − 1) Q_{j−2}.
template <class Number>
class Expect<BasisKind::power, DensityKind::parabola, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), sigma2_(sigma2), a_(half_width(double(sigma2))) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number exponent, Number) {
    const int j = int(exponent);
    if (j < at_) at_ = 0, M_ = {}, Q_ = {};
    const double product = (a_ - mu_) * (a_ + mu_);
    for (; at_ < j; ++at_) {
      M_.push(((2 * at_ + 4) * mu_ * M_.now + at_ * product * M_.last) / (at_ + 4));
      Q_.push(((2 * at_ + 6) * mu_ * Q_.now + at_ * product * Q_.last) / (at_ + 6));
    }
    return {Number(M_.now), Number(j * M_.last), Number(a_ * a_ / (15 * sigma2_) * j * (j - 1) * Q_.before)};
  }

 private:
  double mu_, sigma2_, a_;
  int at_ = 0;
  Moments M_, Q_;
};

/// Where [0, 1] counts for powers under the truncated Gaussian: within 9σ of the density's peak; and mass outside [0,
/// 1] from the nearer end, from which the density falls at least like e^{−t |μ|/σ²}.
struct Reach {
  double peak, lo, hi;
  LEM_FUNCTION Reach(double mu, double sigma2) {
    const double sigma = std::sqrt(sigma2), beyond = mu < 0 ? -mu : mu - 1;
    const double reach = beyond > 0 && 40 * sigma2 < 9 * sigma * beyond ? 40 * sigma2 / beyond : 9 * sigma;
    peak = mu < 0 ? 0 : mu > 1 ? 1 : mu;
    lo = peak - reach > 0 ? peak - reach : 0;
    hi = peak + reach < 1 ? peak + reach : 1;
  }
};

}  // namespace lem::LEM_DEVICE
