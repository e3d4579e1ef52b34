// E_p[ψ_j] and its derivatives by μ and σ² in device code, for every basis and density: one class Expect<basis,
// density> each, made for one density (μ, σ²) and then asked for one basis function (a_j, b_j) after the other. Here
// are Gaussians, rectangles and waves; powers are in expect_powers.h, and expectation.h has them all. The formulas are
// those of docs/continuous-memory.md and, with their derivations, of the head of tensor/cpu/expectation.h:
//   ∂/∂μ E[ψ] = E[ψ'], ∂/∂σ² E[ψ] = ½ E[ψ''] for Gaussians on ℝ; the same with boundary terms on [0, 1];
//   ∂/∂σ² E[ψ] = a²/(15σ²) E_q[ψ''] for the parabola of half width a.
//
// Consumer GPUs do 1 multiplication in double for 32 or 64 in float, so float is used where it keeps 1e-6 of the
// result's norm: Gaussian and parabola density with Gaussians, waves and rectangles. Forms that lose digits there are
// replaced by ones that don't, as said with each. In double are
//   powers: their recursions add up rounding over j;
//   the truncated Gaussian: far tails and boundary terms are differences of large logarithms and of large terms.
#pragma once

#include "cuda/device.h"
#include "cuda/special.h"

namespace lem::LEM_DEVICE {

struct Expectation {
  float value = 0, dmu = 0, dsigma2 = 0;  // E_p[ψ], ∂/∂μ, ∂/∂σ²
};

inline constexpr float kInverseRoot2Pi = 0.3989422804014327f;  // 1/√(2π)

template <BasisKind basis, DensityKind density>
class Expect;

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

// ---- Gaussian basis: ψ = N(t; m, s²) ----

/// r = N(μ; m, A), A = s² + σ²; with x = μ − m: ∂/∂μ = −r x/A, ∂/∂σ² = ½ r (x²/A² − 1/A).
template <>
class Expect<BasisKind::gaussian, DensityKind::gaussian> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), sigma2_(sigma2) {}
  __device__ Expectation operator()(float m, float s) const {
    const float root = rsqrtf(s * s + sigma2_), x = (mu_ - m) * root;      // in units of √A
    const float r = kInverseRoot2Pi * root * exp2f(-0.72134752f * x * x);  // ½ log₂ e
    return {r, -r * x * root, 0.5f * r * root * root * (x * x - 1)};
  }

 private:
  float mu_, sigma2_;
};

/// With d = m − μ and Δ the difference between u = (t − m)/s at t = μ + a and at t = μ − a:
///   r = [(a² − d² − s²) ΔΦ + 2ds Δφ + s² Δ(uφ)]/(2σ²),  ∂r/∂μ = (d ΔΦ − s Δφ)/σ²,  ∂r/∂σ² = (a²/3 ΔΦ/σ² − r)/σ².
/// Narrow parabolas, a ≤ 2s, where these cancel: Gauss–Legendre in x = (t − μ)/a for E[ψ], E[ψ'] and E_q[ψ'']; with 10
/// points its error is below 1e-8.
template <>
class Expect<BasisKind::gaussian, DensityKind::parabola> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), sigma2_(sigma2), a_(cbrtf(1.5f * sigma2)) {}
  __device__ Expectation operator()(float m, float s) const {
    const float d = m - mu_, inverse = 1 / s;
    if (a_ <= 2 * s) {
      float value = 0, slope = 0, bend = 0;  // 4/3 √(2π) s times E[ψ], s E[ψ'] and 4/5 s² E_q[ψ'']
#pragma unroll
      for (int i = 0; i < 10; ++i) {
        const float x = float(node10(i)), u = (a_ * x - d) * inverse, rest = 1 - x * x;
        const float psi = rest * float(weight10(i)) * expf(-0.5f * u * u);
        value += psi, slope -= psi * u, bend += psi * rest * (u * u - 1);
      }
      const float unit = 0.75f * kInverseRoot2Pi * inverse;
      return {unit * value, unit * inverse * slope, unit * inverse * inverse * bend * a_ * a_ / (12 * sigma2_)};
    }
    const float alpha = (-a_ - d) * inverse, beta = (a_ - d) * inverse;
    const float at_a = kInverseRoot2Pi * expf(-0.5f * alpha * alpha);
    const float at_b = kInverseRoot2Pi * expf(-0.5f * beta * beta);
    const float mass = normal_mass(alpha, beta), variance = 1 / sigma2_;
    const float r =
        0.5f * variance *
        (((a_ - d) * (a_ + d) - s * s) * mass + 2 * d * s * (at_b - at_a) + s * s * (beta * at_b - alpha * at_a));
    return {r, (d * mass - s * (at_b - at_a)) * variance, (a_ * a_ / 3 * mass * variance - r) * variance};
  }

 private:
  float mu_, sigma2_, a_;
};

/// N(t; μ, σ²)/Z on [0, 1], what all its expectations share.
class Truncated {
 public:
  __device__ Truncated(float mu, float sigma2) : mu(mu), sigma2(sigma2), sigma(sqrt(double(sigma2))) {
    log_mass = log_normal_mass(-this->mu / sigma, (1 - this->mu) / sigma);
    at_zero = over_mass(0), at_one = over_mass(1);
  }
  /// N(t; μ, σ²)/Z, from logarithms: both may underflow when their ratio doesn't.
  __device__ double over_mass(double t) const {
    const double x = (t - mu) / sigma;
    return exp(-0.5 * x * x - log_mass) * kRoot / sigma;
  }

  static constexpr double kRoot = 0.3989422804014327;  // 1/√(2π)
  double mu, sigma2, sigma;
  double log_mass, at_zero, at_one;  // ln Z and p(0), p(1)
};

/// What the restriction of N(mean, v) to [0, 1] adds to its moments: with α, β the two ends in units of √v and ΔΦ the
/// mass inside, E[t − mean] = shift = √v (φ(α) − φ(β))/ΔΦ, E[(t − mean)²] = v + spread, spread = v (α φ(α) − β
/// φ(β))/ΔΦ.
struct Restriction {
  double log_mass, shift, spread;
  __device__ Restriction(double mean, double v) {
    const double root = sqrt(v), alpha = -mean / root, beta = (1 - mean) / root;
    log_mass = log_normal_mass(alpha, beta);
    const double left = exp(-0.5 * alpha * alpha - log_mass) * Truncated::kRoot;
    const double right = exp(-0.5 * beta * beta - log_mass) * Truncated::kRoot;
    shift = root * (left - right), spread = v * (alpha * left - beta * right);
  }
};

/// N(t; m, s²) N(t; μ, σ²) = N(μ; m, A) N(t; c, v) with v = s² σ²/A, hence r = N(μ; m, A) · mass_{c,v}[0, 1]/Z, and the
/// derivatives of ln r are differences of the moments of N(c, v) and N(μ, σ²), both restricted to [0, 1].
template <>
class Expect<BasisKind::gaussian, DensityKind::truncated_gaussian> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), sigma2_(sigma2), own_(mu, sigma2) {}
  __device__ Expectation operator()(float m, float s) const {
    const double x = mu_ - m, A = double(s) * s + sigma2_, d = x / A, offset = -d * sigma2_;
    const Restriction product(mu_ + offset, double(s) * s * sigma2_ / A);
    const double r = exp(-0.5 * x * d + product.log_mass - own_.log_mass) * Truncated::kRoot / sqrt(A);
    const double first = product.shift - own_.shift;
    const double second = product.spread + 2 * offset * product.shift - own_.spread;
    return {float(r), float(r * (-d + first / sigma2_)),
            float(0.5 * r * (d * d - 1 / A + second / (sigma2_ * sigma2_)))};
  }

 private:
  double mu_, sigma2_;
  Restriction own_;
};

// ---- rectangles: ψ = 1 on [lo, hi) ----

/// With u = (t − μ)/σ and Δ between the two edges: r = ΔΦ, ∂r/∂μ = −Δφ/σ, ∂r/∂σ² = −Δ(uφ)/(2σ²). Where the box is
/// narrow these differences lose digits; there they are the integrals of φ, −uφ and (1 − u²)φ by Gauss–Legendre with 4
/// points (for half widths up to ¼ its error is below 1e-8).
template <>
class Expect<BasisKind::rectangle, DensityKind::gaussian> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), inverse_(1 / sqrtf(sigma2)) {}
  __device__ Expectation operator()(float lo, float hi) const { return (*this)(lo, hi, hi - lo); }
  /// The width by itself, where the edges are rounded.
  __device__ Expectation operator()(float lo, float hi, float width) const {
    if (!(lo < hi)) return {};
    const float half = 0.5f * width * inverse_;
    float mass = 0, slope = 0, bend = 0;  // ΔΦ, Δφ, −Δ(uφ)
    if (half <= 0.25f) {
      const float centre = (0.5f * (lo + hi) - mu_) * inverse_;
      constexpr float x[2] = {0.3399810435848563f, 0.8611363115940526f};
      constexpr float w[2] = {0.6521451548625461f, 0.34785484513745374f};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float u = centre + (i % 2 ? -half : half) * x[i / 2];
        const float p = half * kInverseRoot2Pi * w[i / 2] * expf(-0.5f * u * u);
        mass += p, slope -= p * u, bend += p * (u * u - 1);
      }
    } else {
      const float l = (lo - mu_) * inverse_, h = (hi - mu_) * inverse_;
      const float at_l = kInverseRoot2Pi * expf(-0.5f * l * l), at_h = kInverseRoot2Pi * expf(-0.5f * h * h);
      mass = normal_mass(l, h), slope = at_h - at_l, bend = l * at_l - h * at_h;
    }
    return {mass, -slope * inverse_, 0.5f * bend * inverse_ * inverse_};
  }

 private:
  float mu_, inverse_;
};

/// The distribution function in x = (t − μ)/a is (2 + 3x − x³)/4 on [−1, 1]. The difference of a narrow box is
/// written by the box's own width, which keeps its digits where the difference of two neighbouring x would not.
template <>
class Expect<BasisKind::rectangle, DensityKind::parabola> {
 public:
  __device__ Expect(float mu, float sigma2) : mu_(mu), sigma2_(sigma2), a_(cbrtf(1.5f * sigma2)) {}
  __device__ Expectation operator()(float lo, float hi) const {
    float l = (lo - mu_) / a_, h = (hi - mu_) / a_, width = (hi - lo) / a_;
    if (!(l > -1 && h < 1)) {
      l = l < -1 ? -1 : l > 1 ? 1 : l, h = h < -1 ? -1 : h > 1 ? 1 : h;
      width = h - l;
    }
    const float rest = h * h + h * l + l * l;
    return {0.25f * width * (3 - rest), 0.75f * width * (h + l) / a_, -0.25f * width * (1 - rest) / sigma2_};
  }

 private:
  float mu_, sigma2_, a_;
};

/// As the Gaussian's, with the box cut to [0, 1] and all divided by Z, whose derivatives enter by the quotient rule.
template <>
class Expect<BasisKind::rectangle, DensityKind::truncated_gaussian> {
 public:
  __device__ Expect(float mu, float sigma2) : p_(mu, sigma2) {}
  __device__ Expectation operator()(float from, float to) const {
    const double lo = from > 0 ? from : 0, hi = to < 1 ? to : 1;
    if (!(lo < hi)) return {};
    const double r = exp(log_normal_mass((lo - p_.mu) / p_.sigma, (hi - p_.mu) / p_.sigma) - p_.log_mass);
    const double at_lo = p_.over_mass(lo), at_hi = p_.over_mass(hi);
    const double by_mu = at_lo - at_hi + r * (p_.at_one - p_.at_zero);
    const double by_sigma2 =
        (lo - p_.mu) * at_lo - (hi - p_.mu) * at_hi + r * ((1 - p_.mu) * p_.at_one + p_.mu * p_.at_zero);
    return {float(r), float(by_mu), float(by_sigma2 / (2 * p_.sigma2))};
  }

 private:
  Truncated p_;
};

// ---- sine and cosine: imaginary and real part of E[e^{iωt}] ----

/// The part of a wave and its derivatives that the basis is.
template <BasisKind basis, class Number>
__device__ inline Expectation part(Complex<Number> value, Complex<Number> dmu, Complex<Number> dsigma2) {
  if constexpr (basis == BasisKind::sine) return {float(value.im), float(dmu.im), float(dsigma2.im)};
  return {float(value.re), float(dmu.re), float(dsigma2.re)};
}

/// e^{iωt} in float: the rounding error of the product, up to 1e-4 at ω = 2000, is what fmaf finds, and turns the
/// result by as much.
__device__ inline Complex<float> wave(float omega, float t) {
  const float angle = omega * t, rest = fmaf(omega, t, -angle);
  float s, c;
  sincosf(angle, &s, &c);
  return {c - rest * s, s + rest * c};
}

/// E = e^{iωμ − ω²σ²/2}, ∂/∂μ = iωE, ∂/∂σ² = −½ω²E.
template <BasisKind basis>
class WaveOnGaussian {
 public:
  __device__ WaveOnGaussian(float mu, float sigma2) : mu_(mu), sigma2_(sigma2) {}
  __device__ Expectation operator()(float omega, float) const {
    const Complex<float> E = expf(-0.5f * omega * omega * sigma2_) * wave(omega, mu_);
    return part<basis>(E, omega * times_i(E), -0.5f * omega * omega * E);
  }

 private:
  float mu_, sigma2_;
};
template <>
class Expect<BasisKind::sine, DensityKind::gaussian> : public WaveOnGaussian<BasisKind::sine> {
  using WaveOnGaussian::WaveOnGaussian;
};
template <>
class Expect<BasisKind::cosine, DensityKind::gaussian> : public WaveOnGaussian<BasisKind::cosine> {
  using WaveOnGaussian::WaveOnGaussian;
};

/// e^{iωμ} 3 j₁(k)/k with k = ωa, ∂/∂μ = iωE, ∂/∂σ² = −ω² a²/σ² e^{iωμ} j₂(k)/k². The spherical Bessel functions come
/// from sine and cosine and, for small k, where these cancel, from j_n(k)/kⁿ = Σ_m (−k²/2)^m/(m! (2n + 2m + 1)!!).
template <BasisKind basis>
class WaveOnParabola {
 public:
  __device__ WaveOnParabola(float mu, float sigma2) : mu_(mu), sigma2_(sigma2), a_(cbrtf(1.5f * sigma2)) {}
  __device__ Expectation operator()(float omega, float) const {
    const float k = omega * a_;
    float one, two;  // j₁(k)/k, j₂(k)/k²
    if (fabsf(k) >= 2) {
      const float inverse = 1 / k;
      const Complex<float> w = wave(omega, a_);
      one = (w.im * inverse - w.re) * inverse * inverse;
      two = ((3 * inverse * inverse - 1) * w.im - 3 * w.re * inverse) * inverse * inverse * inverse;
    } else {
      float term1 = 1.0f / 3, term2 = 1.0f / 15;
      one = term1, two = term2;
#pragma unroll
      for (int m = 0; m < 9; ++m) {
        one += term1 *= -0.5f * k * k / float((m + 1) * (2 * m + 5));
        two += term2 *= -0.5f * k * k / float((m + 1) * (2 * m + 7));
      }
    }
    const Complex<float> carrier = wave(omega, mu_), E = 3 * one * carrier;
    return part<basis>(E, omega * times_i(E), -k * k / sigma2_ * two * carrier);
  }

 private:
  float mu_, sigma2_, a_;
};
template <>
class Expect<BasisKind::sine, DensityKind::parabola> : public WaveOnParabola<BasisKind::sine> {
  using WaveOnParabola::WaveOnParabola;
};
template <>
class Expect<BasisKind::cosine, DensityKind::parabola> : public WaveOnParabola<BasisKind::cosine> {
  using WaveOnParabola::WaveOnParabola;
};

/// The whole line less two tails, which the complex error function gives (wave_on_unit), and the boundary terms of its
/// derivatives, ψ' = iωψ, ψ'' = −ω²ψ.
template <BasisKind basis>
class WaveOnTruncated {
 public:
  __device__ WaveOnTruncated(float mu, float sigma2) : p_(mu, sigma2) {}
  __device__ Expectation operator()(float frequency, float) const {
    const double omega = frequency;
    const Complex<double> at_one = turn(omega), E = wave_on_unit(p_.mu, p_.sigma, p_.log_mass, omega, at_one);
    const Complex<double> one = p_.at_one * (at_one - E), zero = p_.at_zero * (Complex<double>{1, 0} - E);
    const Complex<double> slopes = omega * times_i(p_.at_one * at_one - Complex<double>{p_.at_zero, 0});
    const Complex<double> ends = 1 / p_.sigma2 * ((1 - p_.mu) * one + p_.mu * zero);
    return part<basis>(E, omega * times_i(E) - one + zero, 0.5 * (-omega * omega * E - slopes - ends));
  }

 private:
  Truncated p_;
};
template <>
class Expect<BasisKind::sine, DensityKind::truncated_gaussian> : public WaveOnTruncated<BasisKind::sine> {
  using WaveOnTruncated::WaveOnTruncated;
};
template <>
class Expect<BasisKind::cosine, DensityKind::truncated_gaussian> : public WaveOnTruncated<BasisKind::cosine> {
  using WaveOnTruncated::WaveOnTruncated;
};

}  // namespace lem::LEM_DEVICE
