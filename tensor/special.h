// The special functions that the closed forms of the continuous memory are written in: softplus, Gaussian masses that
// survive far tails, complex numbers, and the complex error function.
//
// This file, tensor/pointwise.h and tensor/expectation.h are compiled for every device, by g++ and by nvcc, each time
// into the namespace of its backend (LEM_DEVICE; cuda/device.h sets it for .cu files).
#pragma once

#include <cmath>

#ifndef LEM_DEVICE
#define LEM_DEVICE cpu
#endif

// A function of the device, and a loop over the lanes of a processor's vectors: on a GPU every thread is a lane.
#ifdef __CUDACC__
#define LEM_FUNCTION __device__ inline
#define LEM_SIMD(...)
#else
#define LEM_FUNCTION inline
#define LEM_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define LEM_SIMD(...) LEM_PRAGMA(omp simd __VA_ARGS__)
#endif

namespace lem::LEM_DEVICE {

inline constexpr double kPi = 3.14159265358979323846, kRootHalf = 0.70710678118654752440;  // √½
inline constexpr double kInverseRoot2Pi = 0.39894228040143267794;                          // 1/√(2π)

LEM_FUNCTION double inverse_root(double x) { return 1 / std::sqrt(x); }
LEM_FUNCTION float inverse_root(float x) {
#ifdef __CUDACC__
  return rsqrtf(x);
#else
  return 1 / std::sqrt(x);
#endif
}

/// ln(1 + e^x), written so that neither tail overflows or cancels. NaN stays NaN.
template <class Number>
LEM_FUNCTION Number softplus(Number x) {
  return (x > 0 ? x : x <= 0 ? 0 : x) + std::log1p(std::exp(-std::fabs(x)));
}

/// N(x; 0, 1)
template <class Number>
LEM_FUNCTION Number normal_pdf(Number x) {
  return Number(kInverseRoot2Pi) * std::exp(Number(-0.5) * x * x);
}

/// Φ(x) = ∫_{−∞}^x N(0, 1), with all its digits in the lower tail.
template <class Number>
LEM_FUNCTION Number normal_cdf(Number x) {
  return Number(0.5) * std::erfc(Number(-kRootHalf) * x);
}

/// Φ(beta) − Φ(alpha), alpha ≤ beta, from the side on which Φ is small. NaN stays NaN.
template <class Number>
LEM_FUNCTION Number normal_mass(Number alpha, Number beta) {
  const bool right = alpha > 0;
  return normal_cdf(right ? -alpha : beta) - normal_cdf(right ? -beta : alpha);
}

/// erfcx(x) = e^{x²} erfc(x) for x ≥ 0: of size 1/(x √π) where erfc itself underflows. From x = 25 on its asymptotic
/// series 1/(x √π) Σ (−1)^k (2k − 1)!!/(2x²)^k, whose seventh term is below 1e-16 there.
LEM_FUNCTION double scaled_erfc(double x) {
  if (x < 25) return std::exp(x * x) * std::erfc(x);
  const double q = -1 / (2 * x * x);
  double sum = 1, term = 1;
  for (int k = 1; k <= 7; ++k) sum += term *= q * (2 * k - 1);
  return sum / (x * 1.77245385090551602730);  // √π
}

/// ln(Φ(beta) − Φ(alpha)), alpha < beta. The difference is taken where it doesn't cancel: of erf where 0 lies between
/// the two; else in the tail and with its leading e^{−alpha²/2} taken out, so that a mass of 1e-5000 has a logarithm,
/// too.
LEM_FUNCTION double log_normal_mass(double alpha, double beta) {
  const bool left = beta < 0;
  const double low = left ? -beta : alpha, high = left ? -alpha : beta;
  if (low <= 0) return std::log(0.5 * (std::erf(high * kRootHalf) - std::erf(low * kRootHalf)));
  const double ratio = std::exp(-0.5 * (high - low) * (high + low));
  return -0.5 * low * low + std::log(0.5 * (scaled_erfc(low * kRootHalf) - ratio * scaled_erfc(high * kRootHalf)));
}

// ---- complex numbers: std::complex is not for devices, and stops at every product to look for infinities ----

template <class Number>
struct Complex {
  Number re, im;
};
template <class Number>
LEM_FUNCTION Complex<Number> operator+(Complex<Number> a, Complex<Number> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class Number>
LEM_FUNCTION Complex<Number> operator-(Complex<Number> a, Complex<Number> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class Number>
LEM_FUNCTION Complex<Number> operator*(Complex<Number> a, Complex<Number> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class Number>
LEM_FUNCTION Complex<Number> operator*(Number a, Complex<Number> b) {
  return {a * b.re, a * b.im};
}
template <class Number>
LEM_FUNCTION Complex<Number> operator/(Complex<Number> a, Complex<Number> b) {
  const Number scale = 1 / (b.re * b.re + b.im * b.im);
  return {scale * (a.re * b.re + a.im * b.im), scale * (a.im * b.re - a.re * b.im)};
}
template <class Number>
LEM_FUNCTION Complex<Number> conjugate(Complex<Number> a) {
  return {a.re, -a.im};
}
/// i a
template <class Number>
LEM_FUNCTION Complex<Number> times_i(Complex<Number> a) {
  return {-a.im, a.re};
}
/// e^{i angle}
LEM_FUNCTION Complex<double> turn(double angle) {
  double s, c;
  sincos(angle, &s, &c);
  return {c, s};
}
/// e^{iωt}. In float the rounding error of the product, up to 1e-4 at ω = 2000, is what an FMA finds, and turns the
/// result by as much.
LEM_FUNCTION Complex<double> wave(double omega, double t) { return turn(omega * t); }
LEM_FUNCTION Complex<float> wave(float omega, float t) {
  const float angle = omega * t, rest = fmaf(omega, t, -angle);
  float s, c;
  sincosf(angle, &s, &c);
  return {c - rest * s, s + rest * c};
}

/// The complex error function (Faddeeva's) w(z) = e^{−z²} erfc(−iz) for Im z ≥ 0, to 1e-14 relative.
///
/// For Im z > 0, w(z) = (iz/π) ∫ e^{−t²}/(z² − t²) dt over ℝ. The trapezoidal rule of step h converges to such an
/// integral like e^{−(π/h)²} but for the poles at t = ±z; where they lie closer to the axis than π/h their residue is
/// added:
///   nodes (k + ½)h:  + 2e^{−z²}/(1 + e^{−2πiz/h}),   nodes kh:  + 2e^{−z²}/(1 − e^{−2πiz/h}).
/// Of the two grids the one whose nodes are farther from z is taken, since sum and residue both blow up at a node. With
/// 12 nodes and h = √(π/12) both errors are below 1e-15 (M. Al Azah, S. N. Chandler-Wilde, "Computation of the complex
/// error function using modified trapezoidal rules", SIAM J. Numer. Anal. 59, 2021, with the proof).
LEM_FUNCTION Complex<double> faddeeva(Complex<double> z) {
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
  const double cell = z.re / h - std::floor(z.re / h);
  const bool whole = z.re > z.im && cell > 0.25 && cell < 0.75;  // near a node of the half-integer grid
  const Complex<double> z2 = z * z;
  double re = 0, im = 0;  // Σ weight/(z² − t²)
  LEM_SIMD(reduction(+ : re, im))
  for (int k = 0; k < 12; ++k) {
    const double t = (whole ? k : k + 0.5) * h, u = z2.re - t * t;
    const double weight = weights[whole][k] / (u * u + z2.im * z2.im);
    re += weight * u, im -= weight * z2.im;
  }
  Complex<double> w = times_i(z * Complex<double>{re, im});
  if (z.im < kPi / h) {
    const Complex<double> around = std::exp(2 * kPi / h * z.im) * turn(-2 * kPi / h * z.re);  // e^{−2πiz/h}
    const double sign = whole ? -1 : 1;
    w = w + 2 * std::exp(-z2.re) * turn(-z2.im) / Complex<double>{1 + sign * around.re, sign * around.im};
  }
  return mirrored ? conjugate(w) : w;
}

}  // namespace lem::LEM_DEVICE
