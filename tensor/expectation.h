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
//
// Gaussians and rectangles stand here, waves and powers in files of their own.
#pragma once

#include <type_traits>

#include "tensor/expectation_of.h"
#include "tensor/expectation_powers.h"
#include "tensor/expectation_waves.h"

namespace lem::LEM_DEVICE {

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
