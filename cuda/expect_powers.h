// E_p[t^j] and its derivatives, in double: recursions along j add up rounding, and E[t^j] spans many orders of
// magnitude.
#pragma once

#include "cuda/expect.h"

namespace lem::LEM_DEVICE {

/// Moments stop here: E[t^j] on ℝ grows without bound (wide densities, large j), and float must not see an infinity.
inline constexpr double kLargestMoment = 1e18;

/// M_j = E[t^j] for one j and the two before it, under a density on ℝ.
struct Moments {
  double now = 1, last = 0, before = 0;
  __device__ void push(double next) {
    before = last, last = now;
    now = next > kLargestMoment ? kLargestMoment : next < -kLargestMoment ? -kLargestMoment : next;
  }
};

/// Integrating by parts, M_{j+1} = μ M_j + j σ² M_{j−1}. The object remembers how far it has come, and goes on from
/// there where exponents ascend: a whole basis takes one pass. ∂/∂μ = j M_{j−1}, ∂/∂σ² = ½ j (j − 1) M_{j−2}.
template <>
class Expect<BasisKind::power, DensityKind::gaussian> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), sigma2_(sigma2) {}
  __device__ Expectation operator()(float exponent, float) {
    const int j = int(exponent);
    if (j < at_) at_ = 0, M_ = {};
    for (; at_ < j; ++at_) M_.push(mu_ * M_.now + at_ * sigma2_ * M_.last);
    return {float(M_.now), float(j * M_.last), float(0.5 * j * (j - 1) * M_.before)};
  }

 private:
  double mu_, sigma2_;
  int at_ = 0;
  Moments M_;
};

/// For a density proportional to (1 − x²)^q, x = (t − μ)/a, (j + 2q + 2) M_{j+1} = (2j + 2q + 2) μ M_j + j (a² − μ²)
/// M_{j−1}: M with q = 1 for the parabola itself, Q with q = 2 for ∂/∂σ² = a²/(15σ²) j (j − 1) Q_{j−2}.
template <>
class Expect<BasisKind::power, DensityKind::parabola> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), sigma2_(sigma2), a_(cbrt(1.5 * double(sigma2))) {}
  __device__ Expectation operator()(float exponent, float) {
    const int j = int(exponent);
    if (j < at_) at_ = 0, M_ = {}, Q_ = {};
    const double product = (a_ - mu_) * (a_ + mu_);
    for (; at_ < j; ++at_) {
      M_.push(((2 * at_ + 4) * mu_ * M_.now + at_ * product * M_.last) / (at_ + 4));
      Q_.push(((2 * at_ + 6) * mu_ * Q_.now + at_ * product * Q_.last) / (at_ + 6));
    }
    return {float(M_.now), float(j * M_.last), float(a_ * a_ / (15 * sigma2_) * j * (j - 1) * Q_.before)};
  }

 private:
  double mu_, sigma2_, a_;
  int at_ = 0;
  Moments M_, Q_;
};

/// t^n by repeated squaring
__device__ inline double integer_power(double t, int n) {
  double power = 1;
  for (; n > 0; n /= 2, t *= t)
    if (n % 2) power *= t;
  return power;
}

/// Under the truncated Gaussian no recursion is stable for small and for large j alike: Gauss–Legendre panels of 10
/// points over the part of [0, 1] within 9σ of the density's peak. The weights are divided by their own sum, and so
///   ∂/∂μ E[ψ] = E[(t − E[t]) ψ]/σ²,   ∂/∂σ² E[ψ] = E[((t − μ)² − E[(t − μ)²]) ψ]/(2σ⁴)
/// need neither Z nor boundary terms.
template <>
class Expect<BasisKind::power, DensityKind::truncated_gaussian> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), sigma2_(sigma2) {
    const double sigma = sqrt(sigma2_);
    // Mass outside [0, 1] counts from the nearer end, from which the density falls at least like e^{−t |μ|/σ²}.
    const double beyond = mu_ < 0 ? -mu_ : mu_ - 1;
    const double reach = beyond > 0 && 40 * sigma2_ < 9 * sigma * beyond ? 40 * sigma2_ / beyond : 9 * sigma;
    peak_ = mu_ < 0 ? 0 : mu_ > 1 ? 1 : mu_;
    lo_ = peak_ - reach > 0 ? peak_ - reach : 0;
    half_ = ((peak_ + reach < 1 ? peak_ + reach : 1) - lo_) / (2 * kPanels);
    double sum = 0, first = 0, second = 0;
    for (int i = 0; i < 10 * kPanels; ++i) {
      const double t = node(i), x = t - mu_, w = weight(i, t);
      sum += w, first += w * t, second += w * x * x;
    }
    total_ = 1 / sum, mean_ = first * total_, square_ = second * total_;
  }

  /// Up to 8 functions at once, f(j, expectation): they share the weights, and each power comes from the one before it.
  template <class F>
  __device__ void eight(const float* exponents, int count, F f) const {
    double value[8] = {}, dmu[8] = {}, dsigma2[8] = {};
    for (int i = 0; i < 10 * kPanels; ++i) {
      const double t = node(i), x = t - mu_, w = weight(i, t) * total_;
      const double by_mu = w * (t - mean_), by_sigma2 = w * (x * x - square_);
      double power = 0;
      int last = -2;
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (j < count) {
          const int exponent = int(exponents[j]);
          power = exponent == last + 1 ? power * t : integer_power(t, exponent);
          last = exponent;
          value[j] += w * power, dmu[j] += by_mu * power, dsigma2[j] += by_sigma2 * power;
        }
    }
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (j < count)
        f(j, Expectation{float(value[j]), float(dmu[j] / sigma2_), float(dsigma2[j] / (2 * sigma2_ * sigma2_))});
  }

 private:
  static constexpr int kPanels = 8;
  __device__ double node(int i) const { return lo_ + half_ * (2 * (i / 10) + 1 + node10(i % 10)); }
  /// The density at t, but for a factor, times the weight of the rule.
  __device__ double weight(int i, double t) const {
    return exp(-0.5 * (t - peak_) * (t + peak_ - 2 * mu_) / sigma2_) * weight10(i % 10);
  }

  double mu_, sigma2_, peak_, lo_, half_, total_, mean_, square_;
};

}  // namespace lem::LEM_DEVICE
