// Expectations of sine and cosine (tensor/expectation.h): imaginary and real part of the characteristic function
// E[e^{iωt}].
#pragma once

#include "tensor/expectation_of.h"

namespace lem::LEM_DEVICE {

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

}  // namespace lem::LEM_DEVICE
