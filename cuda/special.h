// The special functions that the expectations of the continuous memory are written in: Gaussian masses that survive far
// tails, and the complex error function. The mathematics is that of tensor/cpu/special.h.
#pragma once

#include "cuda/device.h"

namespace lem::LEM_DEVICE {

inline constexpr double kPi = 3.14159265358979323846, kRootHalf = 0.70710678118654752440;

/// Φ(beta) − Φ(alpha), alpha ≤ beta, from the side on which Φ is small. NaN stays NaN.
__device__ inline float normal_mass(float alpha, float beta) {
  const bool right = alpha > 0;
  const float low = right ? -beta : alpha, high = right ? -alpha : beta;
  return 0.5f * (erfcf(-float(kRootHalf) * high) - erfcf(-float(kRootHalf) * low));
}

/// e^{x²} erfc(x), x ≥ 0: of size 1/(x √π) where erfc itself underflows. From x = 25 on its asymptotic series
/// 1/(x √π) Σ (−1)^k (2k − 1)!!/(2x²)^k.
__device__ inline double scaled_erfc(double x) {
  if (x < 25) return exp(x * x) * erfc(x);
  const double q = -1 / (2 * x * x);
  double sum = 1, term = 1;
  for (int k = 1; k <= 7; ++k) {
    term *= q * (2 * k - 1);
    sum += term;
  }
  return sum / (x * 1.77245385090551602730);  // √π
}

/// ln(Φ(beta) − Φ(alpha)), alpha < beta: by erf where 0 lies between the two; else in the tail, and with its leading
/// e^{−alpha²/2} taken out, so that a mass of 1e-5000 has a logarithm, too.
__device__ inline double log_normal_mass(double alpha, double beta) {
  const bool left = beta < 0;
  const double low = left ? -beta : alpha, high = left ? -alpha : beta;
  if (low <= 0) return log(0.5 * (erf(high * kRootHalf) - erf(low * kRootHalf)));
  const double ratio = exp(-0.5 * (high - low) * (high + low));
  return -0.5 * low * low + log(0.5 * (scaled_erfc(low * kRootHalf) - ratio * scaled_erfc(high * kRootHalf)));
}

// ---- complex numbers ----

template <class Number>
struct Complex {
  Number re, im;
};
template <class Number>
__device__ inline Complex<Number> operator+(Complex<Number> a, Complex<Number> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class Number>
__device__ inline Complex<Number> operator-(Complex<Number> a, Complex<Number> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class Number>
__device__ inline Complex<Number> operator*(Complex<Number> a, Complex<Number> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class Number>
__device__ inline Complex<Number> operator*(Number a, Complex<Number> b) {
  return {a * b.re, a * b.im};
}
template <class Number>
__device__ inline Complex<Number> operator/(Complex<Number> a, Complex<Number> b) {
  const Number scale = 1 / (b.re * b.re + b.im * b.im);
  return {scale * (a.re * b.re + a.im * b.im), scale * (a.im * b.re - a.re * b.im)};
}
template <class Number>
__device__ inline Complex<Number> conjugate(Complex<Number> a) {
  return {a.re, -a.im};
}
/// i a
template <class Number>
__device__ inline Complex<Number> times_i(Complex<Number> a) {
  return {-a.im, a.re};
}
/// e^{i angle}
__device__ inline Complex<double> turn(double angle) {
  double s, c;
  sincos(angle, &s, &c);
  return {c, s};
}

// ---- the complex error function ----

/// w(z) = e^{−z²} erfc(−iz) for Im z ≥ 0, by the trapezoidal rule of step h = √(π/12) in (iz/π) ∫ e^{−t²}/(z² − t²) dt
/// with 12 nodes t > 0 (or t ≥ 0), and the residue of the poles ±z where they lie close to the axis. Of the two grids,
/// (k + ½)h and kh, the one whose nodes are farther from z is taken; tensor/cpu/special.h has the reasons.
__device__ inline Complex<double> faddeeva(Complex<double> z) {
  constexpr double h = 0.5116633539732443;
  // (2h/π) e^{−t²}, and half of it at t = 0
  static constexpr double weights[2][12] = {
      {0.305098399160051, 0.18073566856384893, 0.06342372596268706, 0.013184497283710194, 0.001623601108607449,
       0.00011844017606685909, 5.118264087700048e-06, 1.3102382619123267e-07, 1.98692651738847e-09,
       1.784913914329984e-11, 9.498536269129188e-14, 2.9943325866350226e-16},
      {0.16286750396764, 0.250706969245996, 0.1143068661759066, 0.030873237291066932, 0.004939647571913579,
       0.0004681809075069738, 2.6286657996136444e-05, 8.743010328483455e-07, 1.7226242202279123e-08,
       2.010592452144192e-10, 1.3901494352731522e-12, 5.693808656908752e-15}};
  const bool mirrored = z.re < 0;
  if (mirrored) z.re = -z.re;
  const double cell = z.re / h - floor(z.re / h);
  const bool whole = z.re > z.im && cell > 0.25 && cell < 0.75;  // near a node of the half-integer grid
  const Complex<double> z2 = z * z;
  Complex<double> sum = {0, 0};  // Σ weight/(z² − t²)
  for (int k = 0; k < 12; ++k) {
    const double t = (whole ? k : k + 0.5) * h, u = z2.re - t * t;
    const double weight = weights[whole][k] / (u * u + z2.im * z2.im);
    sum.re += weight * u, sum.im -= weight * z2.im;
  }
  Complex<double> w = times_i(z * sum);
  if (z.im < kPi / h) {
    const Complex<double> around = exp(2 * kPi / h * z.im) * turn(-2 * kPi / h * z.re);  // e^{−2πiz/h}
    const double sign = whole ? -1 : 1;
    w = w + 2 * exp(-z2.re) * turn(-z2.im) / Complex<double>{1 + sign * around.re, sign * around.im};
  }
  return mirrored ? conjugate(w) : w;
}

/// ∫_edge^∞ N(t; μ, σ²) e^{iω(t − edge)} dt for an edge right of μ, divided by the scale e^{−shrink}: with
/// x = (edge − μ)/σ, ½ e^{−x²/2} w((ωσ + ix)/√2).
__device__ inline Complex<double> wave_tail(double edge, double mu, double sigma, double omega, double shrink) {
  const double x = (edge - mu) / sigma, height = exp(shrink - 0.5 * x * x);
  if (height < 1e-18) return {0, 0};
  return 0.5 * height * faddeeva({omega * sigma * kRootHalf, x * kRootHalf});
}

/// E[e^{iωt}] under N(t; μ, σ²)/Z on [0, 1], given log_mass = ln Z and at_one = e^{iω}. For μ in [0, 1] the whole line
/// less two tails, each bounded by 1, so that nothing cancels. With μ < 0 it is the difference of the tails at 0 and 1,
/// without their common e^{−μ²/2σ²}; and μ > 1 is the mirror image t → 1 − t.
__device__ inline Complex<double> wave_on_unit(double mu, double sigma, double log_mass, double omega,
                                               Complex<double> at_one) {
  const bool mirrored = mu > 1;
  if (mirrored) mu = 1 - mu;
  const double shrink = mu < 0 ? 0.5 * mu * mu / (sigma * sigma) : 0;
  const Complex<double> right = at_one * wave_tail(1, mu, sigma, omega, shrink);
  const Complex<double> left = wave_tail(0, mu < 0 ? mu : -mu, sigma, omega, shrink);
  Complex<double> E = left - right;
  if (!(mu < 0)) E = exp(-0.5 * omega * omega * sigma * sigma) * turn(omega * mu) - conjugate(left) - right;
  E = exp(-shrink - log_mass) * E;
  return mirrored ? at_one * conjugate(E) : E;
}

}  // namespace lem::LEM_DEVICE
