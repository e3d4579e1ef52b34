// The special functions that the expectations of continuous memory are written in: Gaussian masses that survive far
// tails, the complex error function, and a Gauss–Legendre rule.
#pragma once

#include <array>
#include <cmath>
#include <complex>
#include <numbers>

namespace lem::cpu {

inline constexpr double kSqrt2Pi = 2.506628274631000502;  // √(2π)

/// Φ(x) = ∫_{−∞}^x N(0, 1), with all its digits in the lower tail.
inline double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

/// erfcx(x) = e^{x²} erfc(x), x ≥ 0: of size 1/(x √π) where erfc itself underflows. From x = 25 on its asymptotic
/// series 1/(x √π) Σ (−1)^k (2k − 1)!!/(2x²)^k, whose seventh term is below 1e-16 there.
inline double erfcx(double x) {
  if (x < 25) return std::exp(x * x) * std::erfc(x);
  const double q = -1 / (2 * x * x);
  double sum = 1, term = 1;
  for (int k = 1; k <= 7; ++k) sum += term *= q * (2 * k - 1);
  return sum / (x * std::sqrt(std::numbers::pi));
}

/// ln(Φ(beta) − Φ(alpha)), alpha < beta. The difference is taken where it doesn't cancel: of erf where 0 lies between
/// the two; else in the tail and with its leading e^{−alpha²/2} taken out, so that a mass of 1e-5000 has a logarithm,
/// too.
inline double log_normal_mass(double alpha, double beta) {
  constexpr double r = std::numbers::sqrt2 / 2;
  if (beta < 0) return log_normal_mass(-beta, -alpha);
  if (alpha <= 0) return std::log(0.5 * (std::erf(beta * r) - std::erf(alpha * r)));
  const double ratio = std::exp(-0.5 * (beta - alpha) * (beta + alpha));
  return -0.5 * alpha * alpha + std::log(0.5 * (erfcx(alpha * r) - ratio * erfcx(beta * r)));
}

/// Nodes t_k = (k + first) h of the trapezoidal rule below, squared, and their weights in the sum Σ weight/(z² − t²).
struct FaddeevaGrid {
  static constexpr int n = 12;
  double h, t2[n], weight[n];  // weight: (2h/π) e^{−t²}, and half of it at t = 0
  explicit FaddeevaGrid(double first) : h(std::sqrt(std::numbers::pi / n)) {
    for (int k = 0; k < n; ++k) {
      const double t = (k + first) * h;
      t2[k] = t * t;
      weight[k] = (t > 0 ? 2 : 1) * h / std::numbers::pi * std::exp(-t2[k]);
    }
  }
};

/// The complex error function (Faddeeva's) w(z) = e^{−z²} erfc(−iz) for Im z ≥ 0, to 1e-14 relative.
///
/// For Im z > 0, w(z) = (iz/π) ∫ e^{−t²}/(z² − t²) dt over ℝ. The trapezoidal rule of step h converges to such an
/// integral like e^{−(π/h)²} but for the poles at t = ±z; where they lie closer to the axis than π/h their residue is
/// added:
///   nodes (k + ½)h:  + 2e^{−z²}/(1 + e^{−2πiz/h}),   nodes kh:  + 2e^{−z²}/(1 − e^{−2πiz/h}).
/// Of the two grids the one whose nodes are farther from z is taken, since sum and residue both blow up at a node. With
/// 12 nodes and h = √(π/12) both errors are below 1e-15 (M. Al Azah, S. N. Chandler-Wilde, "Computation of the complex
/// error function using modified trapezoidal rules", SIAM J. Numer. Anal. 59, 2021, with the proof).
inline std::complex<double> faddeeva(std::complex<double> z) {
  using complex = std::complex<double>;
  static const FaddeevaGrid half_grid(0.5), whole_grid(0);
  if (z.real() < 0) return std::conj(faddeeva({-z.real(), z.imag()}));
  const double x = z.real(), y = z.imag(), h = half_grid.h, cell = x / h - std::floor(x / h);
  const bool whole = x > y && cell > 0.25 && cell < 0.75;  // near a node of the half-integer grid: take the integer one
  const FaddeevaGrid& grid = whole ? whole_grid : half_grid;
  const complex z2 = z * z;
  double re = 0, im = 0;  // Σ weight/(z² − t²)
#pragma omp simd reduction(+ : re, im)
  for (int k = 0; k < FaddeevaGrid::n; ++k) {
    const double u = z2.real() - grid.t2[k], w = grid.weight[k] / (u * u + z2.imag() * z2.imag());
    re += w * u, im -= w * z2.imag();
  }
  complex w = complex(0, 1) * z * complex(re, im);
  if (y < std::numbers::pi / h) {
    const complex turn = std::exp(complex(0, -2 * std::numbers::pi / h) * z);
    w += 2.0 * std::exp(-z2) / (whole ? 1.0 - turn : 1.0 + turn);
  }
  return w;
}

/// The n-point Gauss–Legendre rule on [−1, 1], exact for polynomials up to degree 2n − 1. Nodes are the roots of the
/// Legendre polynomial P_n by Newton's method from cos(π (i + ¾)/(n + ½)); weights 2/((1 − x²) P_n'(x)²).
template <int n>
struct GaussLegendre {
  std::array<double, n> x, weight;
  GaussLegendre() {
    for (int i = 0; i < n; ++i) {
      double root = std::cos(std::numbers::pi * (i + 0.75) / (n + 0.5)), slope = 1;
      for (int step = 0; step < 8; ++step) {
        double p0 = 1, p1 = root;  // P_{k−1}, P_k
        for (int k = 1; k < n; ++k) {
          const double p2 = ((2 * k + 1) * root * p1 - k * p0) / (k + 1);
          p0 = p1, p1 = p2;
        }
        slope = n * (root * p1 - p0) / (root * root - 1);
        root -= p1 / slope;
      }
      x[i] = root, weight[i] = 2 / ((1 - root * root) * slope * slope);
    }
  }
};

/// The rule that the expectations use.
inline const GaussLegendre<20>& gauss_legendre() {
  static const GaussLegendre<20> rule;
  return rule;
}

}  // namespace lem::cpu
