// E_p[ψ_j] and its derivatives by μ and σ² for every basis function ψ and density p (docs/continuous-memory.md): one
// class Expect<basis, density, Number> each, made for one density (μ, σ²) and then asked for one basis function (a_j,
// b_j) after the other.
//
// Densities, with location μ and variance σ²:
//   gaussian            p = N(t; μ, σ²) on ℝ
//   truncated_gaussian  p = N(t; μ, σ²)/Z on [0, 1],  Z = Φ((1 − μ)/σ) − Φ(−μ/σ)
//   parabola            p = (a² − (t − μ)²)/(2σ²) on |t − μ| ≤ a = (3σ²/2)^{1/3};
//                       in x = (t − μ)/a: ¾ (1 − x²) on [−1, 1]
//
// Two identities give nearly all derivatives. Densities on ℝ that only shift with μ:  ∂/∂μ E[ψ] = E[ψ'].
// The Gaussian solves the heat equation, ∂N/∂σ² = ½ ∂²N/∂t²:  ∂/∂σ² E[ψ] = ½ E[ψ''].
// Integrating by parts on [0, 1] leaves boundary terms; with N₀ = N(0; μ, σ²)/Z, N₁ = N(1; μ, σ²)/Z, E = E[ψ]:
//   (T1)  ∂/∂μ  E = E[ψ'] − (ψ(1) − E) N₁ + (ψ(0) − E) N₀
//   (T2)  ∂/∂σ² E = ½ ( E[ψ''] − ψ'(1) N₁ + ψ'(0) N₀ − ((1 − μ) (ψ(1) − E) N₁ + μ (ψ(0) − E) N₀)/σ² )
// For the parabola, ∂a/∂σ² = a/(3σ²) and ∂/∂a E[ψ(μ + a x)] = E[x ψ'] = (a/5) E_q[ψ''], q = 15/16 (1 − x²)², so
//   (P)   ∂/∂σ² E = a²/(15σ²) E_q[ψ''].
//
// The CPU computes in double throughout. GPUs do 1 multiplication in double for 32 or 64 in float, so they use float
// where it keeps 1e-6 of the result's norm: Gaussian and parabola density with Gaussians, waves and rectangles. In
// double on every device are
//   powers: their recursions add up rounding over j;
//   the truncated Gaussian: far tails and boundary terms are differences of large logarithms and of large terms.
// What is integrated numerically differs by device and stands in tensor/cpu/expectation.h and cuda/expectation.h: as
// many points as its digits want, in vector lanes there and in one thread's registers here.
#pragma once

#include <type_traits>

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

// ---- Gaussian basis: ψ = N(t; m, s²) --------------------------------------------------------------------------------

/// The convolution r = N(μ; m, A), A = s² + σ²; with x = μ − m: ∂/∂μ = −r x/A, ∂/∂σ² = ½ r (x²/A² − 1/A).
template <class Number>
class Expect<BasisKind::gaussian, DensityKind::gaussian, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), sigma2_(sigma2) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number m, Number s) const {
    const Number root = inverse_root(s * s + sigma2_), x = (mu_ - m) * root;  // in units of √A
    const Number r = Number(kInverseRoot2Pi) * root * std::exp2(Number(-0.72134752044448170) * x * x);  // ½ log₂ e
    return {r, -r * x * root, Number(0.5) * r * root * root * (x * x - 1)};
  }

 private:
  Number mu_, sigma2_;
};

/// What the restriction of N(mean, v) to [0, 1] adds to its moments: with α, β the two ends in units of √v and ΔΦ the
/// mass inside,
///   E[t − mean] = shift = √v (φ(α) − φ(β))/ΔΦ,   E[(t − mean)²] = v + spread, spread = v (α φ(α) − β φ(β))/ΔΦ.
struct Restriction {
  double log_mass, shift, spread;
  LEM_FUNCTION Restriction(double mean, double v) {
    const double root = std::sqrt(v), alpha = -mean / root, beta = (1 - mean) / root;
    log_mass = log_normal_mass(alpha, beta);
    const double left = std::exp(-0.5 * alpha * alpha - log_mass) * kInverseRoot2Pi;
    const double right = std::exp(-0.5 * beta * beta - log_mass) * kInverseRoot2Pi;
    shift = root * (left - right), spread = v * (alpha * left - beta * right);
  }
};

/// N(t; m, s²) N(t; μ, σ²) = N(μ; m, A) N(t; c, v), c − μ = −d σ²/A, v = s² σ²/A, hence
///   r = N(μ; m, A) · mass_{c,v}[0, 1] / Z.
/// The logarithm's derivatives are differences of moments of N(c, v) and N(μ, σ²), both restricted to [0, 1]:
///   ∂ ln r/∂μ = (E_{c,v}[t − μ] − E_p[t − μ])/σ²,   ∂ ln r/∂σ² = (E_{c,v}[(t − μ)²] − E_p[(t − μ)²])/(2σ⁴),
/// where the parts that don't come from the ends are those of p on ℝ, written out so that nothing cancels.
template <class Number>
class Expect<BasisKind::gaussian, DensityKind::truncated_gaussian, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), sigma2_(sigma2), own_(mu, sigma2) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number m, Number s) const {
    const double x = mu_ - m, A = double(s) * s + sigma2_, d = x / A, offset = -d * sigma2_;
    const Restriction product(mu_ + offset, double(s) * s * sigma2_ / A);
    const double r = std::exp(-0.5 * x * d + product.log_mass - own_.log_mass) * kInverseRoot2Pi / std::sqrt(A);
    const double first = product.shift - own_.shift;
    const double second = product.spread + 2 * offset * product.shift - own_.spread;
    return {Number(r), Number(r * (-d + first / sigma2_)),
            Number(0.5 * r * (d * d - 1 / A + second / (sigma2_ * sigma2_)))};
  }

 private:
  double mu_, sigma2_;
  Restriction own_;
};

/// Where the parabola is narrow, a ≤ 2s: E[ψ], E[ψ'] and E_q[ψ''] by Gauss–Legendre in x = (t − μ)/a, each of
/// Σ w (1 − x²) e^{−u²/2}, −Σ … u and Σ … (1 − x²) (u² − 1), u = (a x − d)/s, inverse = 1/s. Each device has its own.
template <class Number>
LEM_FUNCTION ExpectationOf<Number> narrow_parabola_sums(Number a, Number d, Number inverse);

/// With d = m − μ and Δ the difference between u = (t − m)/s at α, t = μ − a, and at β, t = μ + a,
/// a² − (t − μ)² = a² − d² − 2ds u − s²u² gives
///   r = [(a² − d² − s²) ΔΦ + 2ds Δφ + s² Δ(uφ)]/(2σ²),
///   ∂r/∂μ = ∫ ψ (t − μ)/σ² dt = (d ΔΦ − s Δφ)/σ²,   ∂r/∂σ² = (a²/3 ΔΦ/σ² − r)/σ²   (p vanishes at both ends).
/// Where the parabola is narrow these terms cancel like (s/a)²; but there the integrands of r, E[ψ'] and (P) are so
/// smooth in x that a Gauss–Legendre rule is exact to rounding.
template <class Number>
class Expect<BasisKind::gaussian, DensityKind::parabola, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), sigma2_(sigma2), a_(half_width(sigma2)) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number m, Number s) const {
    const Number d = m - mu_, inverse = 1 / s;
    if (a_ <= 2 * s) {
      const ExpectationOf<Number> sums = narrow_parabola_sums(a_, d, inverse);
      const Number unit = Number(0.75 * kInverseRoot2Pi) * inverse;  // 15/16 · 1/15 is ¾ · 1/12
      return {unit * sums.value, unit * inverse * sums.dmu,
              unit * inverse * inverse * sums.dsigma2 * a_ * a_ / (12 * sigma2_)};
    }
    const Number alpha = (-a_ - d) * inverse, beta = (a_ - d) * inverse;
    const Number at_a = normal_pdf(alpha), at_b = normal_pdf(beta), mass = normal_mass(alpha, beta);
    const Number variance = 1 / sigma2_;
    const Number r =
        Number(0.5) * variance *
        (((a_ - d) * (a_ + d) - s * s) * mass + 2 * d * s * (at_b - at_a) + s * s * (beta * at_b - alpha * at_a));
    return {r, (d * mass - s * (at_b - at_a)) * variance, (a_ * a_ / 3 * mass * variance - r) * variance};
  }

 private:
  Number mu_, sigma2_, a_;
};

// ---- rectangles: ψ = 1 on [lo, hi) ----------------------------------------------------------------------------------

/// With u = (t − μ)/σ and Δ between the two edges: r = ΔΦ, ∂r/∂μ = −Δφ/σ, ∂r/∂σ² = −Δ(uφ)/(2σ²). Where the box is
/// narrow these differences lose digits; in float they are then the integrals of φ, −uφ and (1 − u²)φ by Gauss–Legendre
/// with 4 points (for half widths up to ¼ its error is below 1e-8).
template <class Number>
class Expect<BasisKind::rectangle, DensityKind::gaussian, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), inverse_(1 / std::sqrt(sigma2)) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number lo, Number hi) const { return (*this)(lo, hi, hi - lo); }
  /// The width by itself, where the edges are rounded.
  LEM_FUNCTION ExpectationOf<Number> operator()(Number lo, Number hi, Number width) const {
    if (!(lo < hi)) return {};
    const Number half = Number(0.5) * width * inverse_;
    Number mass = 0, slope = 0, bend = 0;  // ΔΦ, Δφ, −Δ(uφ)
    if (sizeof(Number) == sizeof(float) && half <= Number(0.25)) {
      const Number centre = (Number(0.5) * (lo + hi) - mu_) * inverse_;
      constexpr Number x[2] = {Number(0.3399810435848563), Number(0.8611363115940526)};
      constexpr Number w[2] = {Number(0.6521451548625461), Number(0.34785484513745374)};
      for (int i = 0; i < 4; ++i) {
        const Number u = centre + (i % 2 ? -half : half) * x[i / 2], p = half * w[i / 2] * normal_pdf(u);
        mass += p, slope -= p * u, bend += p * (u * u - 1);
      }
    } else {
      const Number l = (lo - mu_) * inverse_, h = (hi - mu_) * inverse_, at_l = normal_pdf(l), at_h = normal_pdf(h);
      mass = normal_mass(l, h), slope = at_h - at_l, bend = l * at_l - h * at_h;
    }
    return {mass, -slope * inverse_, Number(0.5) * bend * inverse_ * inverse_};
  }

 private:
  Number mu_, inverse_;
};

/// As the Gaussian's, with the box cut to [0, 1] and all divided by Z, whose derivatives enter by the quotient rule.
template <class Number>
class Expect<BasisKind::rectangle, DensityKind::truncated_gaussian, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : p_(mu, sigma2) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number from, Number to) const {
    const double lo = from > 0 ? from : 0, hi = to < 1 ? to : 1;
    if (!(lo < hi)) return {};
    const double r = std::exp(log_normal_mass((lo - p_.mu) / p_.sigma, (hi - p_.mu) / p_.sigma) - p_.log_mass);
    const double at_lo = p_.over_mass(lo), at_hi = p_.over_mass(hi);
    const double by_mu = at_lo - at_hi + r * (p_.at_one - p_.at_zero);
    const double by_sigma2 =
        (lo - p_.mu) * at_lo - (hi - p_.mu) * at_hi + r * ((1 - p_.mu) * p_.at_one + p_.mu * p_.at_zero);
    return {Number(r), Number(by_mu), Number(by_sigma2 / (2 * p_.sigma2))};
  }

 private:
  Truncated p_;
};

/// The distribution function in x = (t − μ)/a is (2 + 3x − x³)/4 on [−1, 1], and with Δ between the edges, cut to
/// [−1, 1],
///   ∂r/∂μ = −Δp,   ∂r/∂σ² = −Δ(p x) ∂a/∂σ² = −Δ(¾ (1 − x²) x)/(3σ²).
/// All are written by the box's own width, which keeps its digits where the difference of two neighbouring x would not.
template <class Number>
class Expect<BasisKind::rectangle, DensityKind::parabola, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), sigma2_(sigma2), a_(half_width(sigma2)) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number lo, Number hi) const {
    Number l = (lo - mu_) / a_, h = (hi - mu_) / a_, width = (hi - lo) / a_;
    if (!(l > -1 && h < 1)) {
      l = l < -1 ? -1 : l > 1 ? 1 : l, h = h < -1 ? -1 : h > 1 ? 1 : h;
      width = h - l;
    }
    const Number rest = h * h + h * l + l * l;
    return {Number(0.25) * width * (3 - rest), Number(0.75) * width * (h + l) / a_,
            Number(-0.25) * width * (1 - rest) / sigma2_};
  }

 private:
  Number mu_, sigma2_, a_;
};

/// Edge k of `bins` equal bins of [0, 1]; the outer two stand a little outside, so that a density on the rim counts.
LEM_FUNCTION double bin_edge(int64_t k, int64_t bins) {
  return k == 0 ? -1e-6 : k == bins ? 1 + 1e-6 : double(k) / double(bins);
}

// ---- sine and cosine: imaginary and real part of the characteristic function E[e^{iωt}] -----------------------------

constexpr bool is_wave(BasisKind basis) { return basis == BasisKind::sine || basis == BasisKind::cosine; }

/// The part of a wave and its derivatives that the basis is.
template <BasisKind basis, class Number, class Wave>
LEM_FUNCTION ExpectationOf<Number> part(Complex<Wave> value, Complex<Wave> dmu, Complex<Wave> dsigma2) {
  if constexpr (basis == BasisKind::sine) return {Number(value.im), Number(dmu.im), Number(dsigma2.im)};
  return {Number(value.re), Number(dmu.re), Number(dsigma2.re)};
}

/// E = e^{iωμ − ω²σ²/2}, ∂/∂μ = iωE, ∂/∂σ² = −½ω²E.
template <BasisKind basis, class Number>
requires(is_wave(basis)) class Expect<basis, DensityKind::gaussian, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), sigma2_(sigma2) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number omega, Number) const {
    const Complex<Number> E = std::exp(Number(-0.5) * omega * omega * sigma2_) * wave(omega, mu_);
    return part<basis, Number>(E, omega * times_i(E), Number(-0.5) * omega * omega * E);
  }

 private:
  Number mu_, sigma2_;
};

/// e^{iωμ} 3 j₁(k)/k with k = ωa, ∂/∂μ = iωE, and by (P) ∂/∂σ² = −ω² a²/(15σ²) e^{iωμ} 15 j₂(k)/k². The spherical
/// Bessel functions come from sine and cosine and, for small k, where these cancel, from j_n(k)/kⁿ = Σ_m (−k²/2)^m/(m!
/// (2n + 2m + 1)!!).
template <BasisKind basis, class Number>
requires(is_wave(basis)) class Expect<basis, DensityKind::parabola, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : mu_(mu), sigma2_(sigma2), a_(half_width(sigma2)) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number omega, Number) const {
    const Number k = omega * a_;
    Number one, two;  // j₁(k)/k, j₂(k)/k²
    if (std::fabs(k) >= 2) {
      const Number inverse = 1 / k;
      const Complex<Number> w = wave(omega, a_);
      one = (w.im * inverse - w.re) * inverse * inverse;
      two = ((3 * inverse * inverse - 1) * w.im - 3 * w.re * inverse) * inverse * inverse * inverse;
    } else {
      constexpr int terms = sizeof(Number) == sizeof(float) ? 9 : 14;
      Number term1 = Number(1.0 / 3), term2 = Number(1.0 / 15);
      one = term1, two = term2;
      for (int m = 0; m < terms; ++m) {
        one += term1 *= Number(-0.5) * k * k / Number((m + 1) * (2 * m + 5));
        two += term2 *= Number(-0.5) * k * k / Number((m + 1) * (2 * m + 7));
      }
    }
    const Complex<Number> carrier = wave(omega, mu_), E = 3 * one * carrier;
    return part<basis, Number>(E, omega * times_i(E), -k * k / sigma2_ * two * carrier);
  }

 private:
  Number mu_, sigma2_, a_;
};

/// ∫_edge^∞ N(t; μ, σ²) e^{iω(t − edge)} dt for an edge right of μ, divided by the scale e^{−shrink}: with
/// x = (edge − μ)/σ, ½ e^{−x²/2} w((ωσ + ix)/√2).
LEM_FUNCTION Complex<double> wave_tail(double edge, double mu, double sigma, double omega, double shrink) {
  const double x = (edge - mu) / sigma, height = std::exp(shrink - 0.5 * x * x);
  if (height < 1e-18) return {0, 0};
  return 0.5 * height * faddeeva({omega * sigma * kRootHalf, x * kRootHalf});
}

/// E[e^{iωt}] on [0, 1], given at_one = e^{iω}: there is no elementary form, but the complex error function w gives
/// one. For μ in [0, 1] the whole line less two tails, each bounded by 1, so that nothing cancels. With μ < 0 it is the
/// difference of the tails at 0 and 1, without their common e^{−μ²/2σ²}; and μ > 1 is the mirror image t → 1 − t.
LEM_FUNCTION Complex<double> wave_on_unit(double mu, double sigma, double log_mass, double omega,
                                          Complex<double> at_one) {
  const bool mirrored = mu > 1;
  if (mirrored) mu = 1 - mu;
  const double shrink = mu < 0 ? 0.5 * mu * mu / (sigma * sigma) : 0;
  const Complex<double> right = at_one * wave_tail(1, mu, sigma, omega, shrink);
  const Complex<double> left = wave_tail(0, mu < 0 ? mu : -mu, sigma, omega, shrink);
  Complex<double> E = left - right;
  if (!(mu < 0)) E = std::exp(-0.5 * omega * omega * sigma * sigma) * turn(omega * mu) - conjugate(left) - right;
  E = std::exp(-shrink - log_mass) * E;
  return mirrored ? at_one * conjugate(E) : E;
}

/// (T1), (T2) with ψ' = iωψ, ψ'' = −ω²ψ.
template <BasisKind basis, class Number>
requires(is_wave(basis)) class Expect<basis, DensityKind::truncated_gaussian, Number> {
 public:
  LEM_FUNCTION Expect(Number mu, Number sigma2) : p_(mu, sigma2) {}
  LEM_FUNCTION ExpectationOf<Number> operator()(Number frequency, Number) const {
    const double omega = frequency;
    const Complex<double> at_one = turn(omega), E = wave_on_unit(p_.mu, p_.sigma, p_.log_mass, omega, at_one);
    const Complex<double> one = p_.at_one * (at_one - E), zero = p_.at_zero * (Complex<double>{1, 0} - E);
    const Complex<double> slopes = omega * times_i(p_.at_one * at_one - Complex<double>{p_.at_zero, 0});
    const Complex<double> ends = 1 / p_.sigma2 * ((1 - p_.mu) * one + p_.mu * zero);
    return part<basis, Number>(E, omega * times_i(E) - one + zero, 0.5 * (-omega * omega * E - slopes - ends));
  }

 private:
  Truncated p_;
};

// ---- powers: ψ = t^j, always in double ------------------------------------------------------------------------------

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

// ---- one of them, by what is known when the program runs ------------------------------------------------------------

/// make(null pointer to the class Expect<basis, density, Number>), on the host.
template <class Number, class Make>
auto for_kinds(BasisKind basis, DensityKind density, Make make) {
  const auto with_basis = [&]<BasisKind kBasis>(std::integral_constant<BasisKind, kBasis>) {
    switch (density) {
      case DensityKind::truncated_gaussian:
        return make(static_cast<Expect<kBasis, DensityKind::truncated_gaussian, Number>*>(nullptr));
      case DensityKind::parabola:
        return make(static_cast<Expect<kBasis, DensityKind::parabola, Number>*>(nullptr));
      default:
        return make(static_cast<Expect<kBasis, DensityKind::gaussian, Number>*>(nullptr));
    }
  };
  switch (basis) {
    case BasisKind::power:
      return with_basis(std::integral_constant<BasisKind, BasisKind::power>());
    case BasisKind::sine:
      return with_basis(std::integral_constant<BasisKind, BasisKind::sine>());
    case BasisKind::cosine:
      return with_basis(std::integral_constant<BasisKind, BasisKind::cosine>());
    case BasisKind::rectangle:
      return with_basis(std::integral_constant<BasisKind, BasisKind::rectangle>());
    default:
      return with_basis(std::integral_constant<BasisKind, BasisKind::gaussian>());
  }
}

}  // namespace lem::LEM_DEVICE
