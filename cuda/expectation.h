// The closed forms of tensor/expectation.h on a GPU, in float, and what it integrates numerically: rules of 10 points,
// which one thread adds up.
#pragma once

#include "cuda/device.h"
#include "tensor/expectation.h"

namespace lem::LEM_DEVICE {

using Expectation = ExpectationOf<float>;

/// Nodes and weights of the Gauss–Legendre rule on [−1, 1] with 10 points, exact for polynomials up to degree 19.
__device__ inline double node10(int i) {
  static constexpr double x[5] = {0.14887433898163122, 0.43339539412924716, 0.6794095682990244, 0.8650633666889845,
                                  0.9739065285171717};
  return i < 5 ? -x[4 - i] : x[i - 5];
}
__device__ inline double weight10(int i) {
  static constexpr double w[5] = {0.2955242247147529, 0.26926671930999624, 0.21908636251598207, 0.14945134915058053,
                                  0.06667134430868873};
  return i < 5 ? w[4 - i] : w[i - 5];
}

/// With 10 points the error is below 1e-8.
template <>
__device__ inline Expectation narrow_parabola_sums(float a, float d, float inverse) {
  float value = 0, slope = 0, bend = 0;
#pragma unroll
  for (int i = 0; i < 10; ++i) {
    const float x = float(node10(i)), u = (a * x - d) * inverse, rest = 1 - x * x;
    const float psi = rest * float(weight10(i)) * expf(-0.5f * u * u);
    value += psi, slope -= psi * u, bend += psi * rest * (u * u - 1);
  }
  return {value, slope, bend};
}

/// t^n by repeated squaring
__device__ inline double integer_power(double t, int n) {
  double power = 1;
  for (; n > 0; n /= 2, t *= t)
    if (n % 2) power *= t;
  return power;
}

/// Powers under the truncated Gaussian, where no recursion is stable for small and for large j alike: eight panels over
/// what counts of [0, 1]. The weights are divided by their own sum, and so
///   ∂/∂μ E[ψ] = E[(t − E[t]) ψ]/σ²,   ∂/∂σ² E[ψ] = E[((t − μ)² − E[(t − μ)²]) ψ]/(2σ⁴)
/// need neither Z nor boundary terms.
template <>
class Expect<BasisKind::power, DensityKind::truncated_gaussian, float> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), sigma2_(sigma2) {
    const Reach within(mu_, sigma2_);
    peak_ = within.peak, lo_ = within.lo, half_ = (within.hi - within.lo) / (2 * kPanels);
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

/// f(j, expectation) for the `count` ≤ 8 basis functions a[j], b[j].
template <class E, class F>
__device__ inline void eight_expectations(E& expect, const float* a, const float* b, int count, F f) {
  if constexpr (requires { expect.eight(a, count, f); }) {
    expect.eight(a, count, f);
  } else {
    for (int j = 0; j < count; ++j) f(j, expect(a[j], b[j]));
  }
}

}  // namespace lem::LEM_DEVICE
