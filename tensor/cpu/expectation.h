// E_p[ψ] and its derivatives by μ and σ² for every basis function ψ and density p (model.md §2 and §3), in double.
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
#pragma once

#include <algorithm>
#include <complex>
#include <vector>

#include "tensor/cpu/special.h"
#include "tensor/kernel_types.h"

namespace lem::cpu {

struct Expectation {
  double value = 0, dmu = 0, dsigma2 = 0;  // E_p[ψ], ∂/∂μ, ∂/∂σ²
};

/// N(t; mean, variance)
inline double normal_pdf(double t, double mean, double variance) {
  const double d = t - mean;
  return std::exp(-0.5 * d * d / variance) / (kSqrt2Pi * std::sqrt(variance));
}

/// One density, with what all basis functions share.
struct Density {
  DensityKind kind;
  double mu, sigma2, sigma;
  double a = 0;                    // parabola: half width
  double log_mass = 0;             // ln Z; 0 for densities on ℝ
  double at_zero = 0, at_one = 0;  // truncated: N₀, N₁; 0 for densities on ℝ

  Density(DensityKind kind, double mu, double sigma2) : kind(kind), mu(mu), sigma2(sigma2), sigma(std::sqrt(sigma2)) {
    if (kind == DensityKind::parabola) a = std::cbrt(1.5 * sigma2);
    if (kind == DensityKind::truncated_gaussian) {
      log_mass = log_normal_mass(-mu / sigma, (1 - mu) / sigma);
      at_zero = over_mass(0), at_one = over_mass(1);
    }
  }
  /// N(t; μ, σ²)/Z, from logarithms: both may underflow when their ratio doesn't.
  double over_mass(double t) const {
    const double x = (t - mu) / sigma;
    return std::exp(-0.5 * x * x - log_mass) / (kSqrt2Pi * sigma);
  }
};

// ---- Gaussian basis: ψ = N(t; m, s²) ----------------------------------------------------------------------------

/// p Gaussian: the convolution N(μ; m, A), A = s² + σ²; with d = μ − m: ∂/∂μ = −r d/A, ∂/∂σ² = ½ r (d²/A² − 1/A).
inline Expectation gaussian_on_gaussian(const Density& p, double m, double s) {
  const double A = s * s + p.sigma2, d = (p.mu - m) / A, r = normal_pdf(p.mu, m, A);
  return {r, -r * d, 0.5 * r * (d * d - 1 / A)};
}

/// What the restriction of N(mean, v) to [0, 1] adds to its moments: with α, β the two ends in units of √v and ΔΦ the
/// mass inside,
///   E[t − mean] = shift = √v (φ(α) − φ(β))/ΔΦ,   E[(t − mean)²] = v + spread, spread = v (α φ(α) − β φ(β))/ΔΦ.
struct Restriction {
  double log_mass, shift, spread;
  Restriction(double mean, double v) {
    const double root = std::sqrt(v), alpha = -mean / root, beta = (1 - mean) / root;
    log_mass = log_normal_mass(alpha, beta);
    const double left = std::exp(-0.5 * alpha * alpha - log_mass) / kSqrt2Pi;
    const double right = std::exp(-0.5 * beta * beta - log_mass) / kSqrt2Pi;
    shift = root * (left - right), spread = v * (alpha * left - beta * right);
  }
};

/// p truncated Gaussian. N(t; m, s²) N(t; μ, σ²) = N(μ; m, A) N(t; c, v), c − μ = −d σ²/A, v = s² σ²/A, hence
///   r = N(μ; m, A) · mass_{c,v}[0, 1] / Z.
/// The logarithm's derivatives are differences of moments of N(c, v) and N(μ, σ²), both restricted to [0, 1]:
///   ∂ ln r/∂μ = (E_{c,v}[t − μ] − E_p[t − μ])/σ²,   ∂ ln r/∂σ² = (E_{c,v}[(t − μ)²] − E_p[(t − μ)²])/(2σ⁴),
/// where the parts that don't come from the ends are those of p on ℝ, written out so that nothing cancels.
inline Expectation gaussian_on_truncated(const Density& p, double m, double s) {
  const double A = s * s + p.sigma2, d = (p.mu - m) / A, offset = -d * p.sigma2, v = s * s * p.sigma2 / A;
  const Restriction product(p.mu + offset, v), own(p.mu, p.sigma2);
  const double x = p.mu - m;
  const double r = std::exp(-0.5 * x * x / A + product.log_mass - own.log_mass) / (kSqrt2Pi * std::sqrt(A));
  const double first = product.shift - own.shift, second = product.spread + 2 * offset * product.shift - own.spread;
  return {r, r * (-d + first / p.sigma2), 0.5 * r * (d * d - 1 / A + second / (p.sigma2 * p.sigma2))};
}

/// p parabola. With u = (t − m)/s between α = (μ − a − m)/s and β = (μ + a − m)/s, d = m − μ, and Δ the difference
/// between the two ends, a² − (t − μ)² = a² − d² − 2ds u − s²u² gives
///   r = [ (a² − d² − s²) ΔΦ + 2ds Δφ + s² Δ(uφ) ]/(2σ²),
///   ∂r/∂μ = ∫ ψ (t − μ)/σ² dt = (d ΔΦ − s Δφ)/σ²,   ∂r/∂σ² = (a²/3 ΔΦ/σ² − r)/σ²   (p vanishes at both ends).
/// Where the parabola is narrow, k = a/s ≤ 2, these terms cancel like k⁻²; but there the integrands of r, E[ψ'] and (P)
/// are so smooth in x that a Gauss–Legendre rule of n = 20 points is exact to rounding: its error for e^{−k²x²/2} is
/// below 2^{n+1} n!³ k^{2n}/((2n + 1) (2n)!²) = 1e-24 at k = 2.
inline Expectation gaussian_on_parabola(const Density& p, double m, double s) {
  const double a = p.a, d = m - p.mu;
  if (a <= 2 * s) {
    const auto& rule = gauss_legendre();
    double value = 0, slope = 0, bend = 0;  // E[ψ], E[ψ'] s, E_q[ψ''] s², but for constants
#pragma omp simd reduction(+ : value, slope, bend)
    for (size_t i = 0; i < rule.x.size(); ++i) {
      const double x = rule.x[i], u = (a * x - d) / s, rest = 1 - x * x;
      const double psi = rest * rule.weight[i] * exp(-0.5 * u * u);
      value += psi, slope -= psi * u, bend += psi * rest * (u * u - 1);
    }
    const double unit = 0.75 / (kSqrt2Pi * s);
    return {unit * value, unit / s * slope,
            unit / (s * s) * bend * a * a / (12 * p.sigma2)};  // 15/16 · 1/15 is ¾ · 1/12
  }
  const double alpha = (-a - d) / s, beta = (a - d) / s;
  const double pdf_a = std::exp(-0.5 * alpha * alpha) / kSqrt2Pi, pdf_b = std::exp(-0.5 * beta * beta) / kSqrt2Pi;
  // The mass, from the side on which Φ is small.
  const double mass = alpha > 0 ? normal_cdf(-alpha) - normal_cdf(-beta) : normal_cdf(beta) - normal_cdf(alpha);
  const double r =
      ((a * a - d * d - s * s) * mass + 2 * d * s * (pdf_b - pdf_a) + s * s * (beta * pdf_b - alpha * pdf_a)) /
      (2 * p.sigma2);
  return {r, (d * mass - s * (pdf_b - pdf_a)) / p.sigma2, (a * a / 3 * mass / p.sigma2 - r) / p.sigma2};
}

inline Expectation expect_gaussian(const Density& p, double m, double s) {
  switch (p.kind) {
    case DensityKind::gaussian:
      return gaussian_on_gaussian(p, m, s);
    case DensityKind::truncated_gaussian:
      return gaussian_on_truncated(p, m, s);
    case DensityKind::parabola:
      return gaussian_on_parabola(p, m, s);
  }
  return {};
}

// ---- rectangles: ψ = 1 on [lo, hi) ------------------------------------------------------------------------------

/// p Gaussian: r = ΔΦ, ∂r/∂μ = −ΔN, and by the heat equation ∂r/∂σ² = −Δ((t − μ) N)/(2σ²), Δ between lo and hi.
/// p truncated Gaussian: [lo, hi] is cut to [0, 1], all is divided by Z, whose own derivatives enter by the quotient
/// rule.
/// p parabola: its distribution function is (2 + 3x − x³)/4 in x = (t − μ)/a, cut to [−1, 1];
///   ∂r/∂μ = −Δp,   ∂r/∂σ² = −Δ(p x) ∂a/∂σ² = −Δ(¾ (1 − x²) x)/(3σ²).
inline Expectation expect_rectangle(const Density& p, double lo, double hi) {
  if (p.kind == DensityKind::parabola) {
    const double l = std::clamp((lo - p.mu) / p.a, -1.0, 1.0), h = std::clamp((hi - p.mu) / p.a, -1.0, 1.0);
    // (2 + 3x − x³)/4 at h less at l = (h − l)(3 − h² − hl − l²)/4
    return {0.25 * (h - l) * (3 - h * h - h * l - l * l), -0.75 / p.a * (l - h) * (l + h),
            -0.25 / p.sigma2 * (h * (1 - h * h) - l * (1 - l * l))};
  }
  const bool truncated = p.kind == DensityKind::truncated_gaussian;
  if (truncated) lo = std::clamp(lo, 0.0, 1.0), hi = std::clamp(hi, 0.0, 1.0);
  if (!(lo < hi)) return {};
  const double r = std::exp(log_normal_mass((lo - p.mu) / p.sigma, (hi - p.mu) / p.sigma) - p.log_mass);
  const double at_lo = p.over_mass(lo), at_hi = p.over_mass(hi);
  const double by_mu = -(at_hi - at_lo) + r * (p.at_one - p.at_zero);
  const double by_sigma2 =
      -((hi - p.mu) * at_hi - (lo - p.mu) * at_lo) + r * ((1 - p.mu) * p.at_one + p.mu * p.at_zero);
  return {r, by_mu, by_sigma2 / (2 * p.sigma2)};
}

// ---- sine and cosine: the characteristic function E[e^{iωt}] ----------------------------------------------------

/// E[e^{iωt}] and derivatives: the cosine is the real part, the sine the imaginary part.
struct Wave {
  std::complex<double> value, dmu, dsigma2;
};

/// j_n(k)/kⁿ for the spherical Bessel functions n = 1, 2: from sine and cosine, and for small k, where these cancel,
/// from j_n(k)/kⁿ = Σ_m (−k²/2)^m/(m! (2n + 2m + 1)!!).
inline double bessel_ratio(int n, double k) {
  if (std::abs(k) >= 2)
    return n == 1 ? (std::sin(k) - k * std::cos(k)) / (k * k * k)
                  : ((3 - k * k) * std::sin(k) - 3 * k * std::cos(k)) / (k * k * k * k * k);
  double term = n == 1 ? 1.0 / 3 : 1.0 / 15, sum = term;
  for (int m = 0; m < 14; ++m) sum += term *= -0.5 * k * k / ((m + 1) * (2 * n + 2 * m + 3));
  return sum;
}

/// ∫_edge^∞ N(t; μ, σ²) e^{iωt} dt for an edge right of μ, divided by the scale e^{−shrink}: with x = (edge − μ)/σ,
///   ½ e^{iω edge} e^{−x²/2} w((ωσ + ix)/√2).
inline std::complex<double> wave_tail(double edge, double mu, double sigma, double omega, double shrink) {
  const double x = (edge - mu) / sigma, height = std::exp(shrink - 0.5 * x * x);
  if (height < 1e-18) return 0;
  constexpr double r = std::numbers::sqrt2 / 2;
  return 0.5 * height * std::polar(1.0, omega * edge) * faddeeva({omega * sigma * r, x * r});
}

/// E[e^{iωt}] on [0, 1]: there is no elementary form, but the complex error function w gives one. The whole line less
/// two tails, each bounded by 1, so that nothing cancels while μ ∈ [0, 1]. With μ < 0 it is the difference of the tails
/// at 0 and 1, without their common e^{−x²/2}; and μ > 1 is the mirror image t → 1 − t.
inline std::complex<double> wave_on_truncated(double mu, double sigma, double log_mass, double omega) {
  if (mu > 1) return std::polar(1.0, omega) * std::conj(wave_on_truncated(1 - mu, sigma, log_mass, omega));
  if (mu < 0) {
    const double shrink = 0.5 * mu * mu / (sigma * sigma);
    return (wave_tail(0, mu, sigma, omega, shrink) - wave_tail(1, mu, sigma, omega, shrink)) *
           std::exp(-shrink - log_mass);
  }
  const double damping = std::exp(-0.5 * omega * omega * sigma * sigma);
  const std::complex<double> left = std::conj(wave_tail(0, -mu, sigma, omega, 0));
  return (damping * std::polar(1.0, omega * mu) - left - wave_tail(1, mu, sigma, omega, 0)) * std::exp(-log_mass);
}

/// p Gaussian: E = e^{iωμ − ω²σ²/2}, ∂/∂μ = iωE, ∂/∂σ² = −½ω²E. Truncated: (T1), (T2) with ψ' = iωψ, ψ'' = −ω²ψ.
/// Parabola: e^{iωμ} 3 j₁(k)/k, k = ωa, and by (P) ∂/∂σ² = −ω² a²/(15σ²) e^{iωμ} 15 j₂(k)/k².
inline Wave expect_wave(const Density& p, double omega) {
  const std::complex<double> i_omega(0, omega), carrier = std::polar(1.0, omega * p.mu);
  if (p.kind == DensityKind::gaussian) {
    const std::complex<double> E = carrier * std::exp(-0.5 * omega * omega * p.sigma2);
    return {E, i_omega * E, -0.5 * omega * omega * E};
  }
  if (p.kind == DensityKind::parabola) {
    const std::complex<double> E = carrier * 3.0 * bessel_ratio(1, omega * p.a);
    return {E, i_omega * E, -omega * omega * p.a * p.a / p.sigma2 * bessel_ratio(2, omega * p.a) * carrier};
  }
  const std::complex<double> E = wave_on_truncated(p.mu, p.sigma, p.log_mass, omega), at_one = std::polar(1.0, omega);
  const std::complex<double> one = (at_one - E) * p.at_one, zero = (1.0 - E) * p.at_zero;
  const std::complex<double> slopes = i_omega * (at_one * p.at_one - p.at_zero);
  return {E, i_omega * E - one + zero,
          0.5 * (-omega * omega * E - slopes - ((1 - p.mu) * one + p.mu * zero) / p.sigma2)};
}

// ---- powers: ψ = t^j --------------------------------------------------------------------------------------------

/// Moments stop here: E[t^j] on ℝ grows without bound (wide densities, large j), and float must not see an infinity.
inline constexpr double kLargestMoment = 1e18;

/// M_j = E[t^j], j = 0 … n − 1, under a density on ℝ. By parts, from (t − μ) N = −σ² N' and its like for a density
/// proportional to (1 − x²)^q, x = (t − μ)/a (q = 1 is the parabola, q = 2 what (P) needs):
///   gaussian      M_{j+1} = μ M_j + j σ² M_{j−1}
///   (1 − x²)^q    (j + 2q + 2) M_{j+1} = (2j + 2q + 2) μ M_j + j (a² − μ²) M_{j−1}
/// For μ ≥ 0 the moments are the growing solution of the recursion, so that rounding does not build up.
inline void moments_on_line(const Density& p, int q, double* M, int n) {
  for (int j = 0; j < n; ++j) {
    const double i = j - 1;  // M_j from M_{j−1} and M_{j−2}
    if (j == 0) {
      M[j] = 1;
    } else if (p.kind == DensityKind::gaussian) {
      M[j] = p.mu * M[j - 1] + (j > 1 ? i * p.sigma2 * M[j - 2] : 0);
    } else {
      const double rise = (2 * i + 2 * q + 2) * p.mu * M[j - 1];
      const double fall = j > 1 ? i * (p.a - p.mu) * (p.a + p.mu) * M[j - 2] : 0;
      M[j] = (rise + fall) / (i + 2 * q + 2);
    }
    M[j] = std::clamp(M[j], -kLargestMoment, kLargestMoment);
  }
}

/// The same under the truncated Gaussian, where no recursion is stable for small and for large j alike: six
/// Gauss–Legendre panels of 20 points over the part of [0, 1] within 9σ of the density's peak. A panel spans at most 3σ
/// and a sixth of [0, 1]; there both factors of t^j N(t; μ, σ²), which is like e^{−j(1 − t)} for large j, are smooth
/// enough for 1e-12 up to j ≈ 600.
inline void moments_on_unit(const Density& p, double* M, int n) {
  // Mass outside [0, 1] counts from the nearer end: with μ < 0 the density falls at least like e^{−t |μ|/σ²} from 0 on.
  const double reach =
      p.mu < 0 || p.mu > 1 ? std::min(9 * p.sigma, 40 * p.sigma2 / std::max(-p.mu, p.mu - 1)) : 9 * p.sigma;
  const double peak = std::clamp(p.mu, 0.0, 1.0);
  const double lo = std::max(0.0, peak - reach), hi = std::min(1.0, peak + reach), half = (hi - lo) / 12;
  constexpr int panels = 6, nodes = 20;
  const auto& rule = gauss_legendre();
  double t[panels * nodes], term[panels * nodes];
  for (int i = 0; i < panels * nodes; ++i) {
    t[i] = lo + half * (2 * (i / nodes) + 1 + rule.x[i % nodes]);
    term[i] = p.over_mass(t[i]) * half * rule.weight[i % nodes];
  }
  for (int j = 0; j < n; ++j) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < panels * nodes; ++i) sum += term[i], term[i] *= t[i];
    M[j] = sum;
  }
}

/// E[t^j], j = 0 … n − 1: E[ψ'] = j M_{j−1} and E[ψ''] = j (j − 1) M_{j−2} in the identities above.
inline void expect_powers(const Density& p, Expectation* out, int n) {
  std::vector<double> M(n), Q(n);
  if (p.kind == DensityKind::truncated_gaussian) {
    moments_on_unit(p, M.data(), n);
  } else {
    moments_on_line(p, 1, M.data(), n);
  }
  if (p.kind == DensityKind::parabola) moments_on_line(p, 2, Q.data(), n);
  for (int j = 0; j < n; ++j) {
    const double E = M[j], slope = j > 0 ? j * M[j - 1] : 0, bend = j > 1 ? double(j) * (j - 1) * M[j - 2] : 0;
    if (p.kind == DensityKind::gaussian) {
      out[j] = {E, slope, 0.5 * bend};
    } else if (p.kind == DensityKind::parabola) {
      out[j] = {E, slope, j > 1 ? p.a * p.a / (15 * p.sigma2) * j * (j - 1) * Q[j - 2] : 0};
    } else {
      const double one = (1 - E) * p.at_one, zero = ((j == 0) - E) * p.at_zero;
      const double ends = j * p.at_one - (j == 1) * p.at_zero;
      out[j] = {E, slope - one + zero, 0.5 * (bend - ends - ((1 - p.mu) * one + p.mu * zero) / p.sigma2)};
    }
  }
}

// ---- a whole basis ----------------------------------------------------------------------------------------------

/// row (N): the expectations of all basis functions under one density.
inline void expectation_row(Expectation* row, BasisView basis, DensityKind kind, double mu, double sigma2) {
  const Density p(kind, mu, sigma2);
  if (basis.kind == BasisKind::power) {
    const int n = 1 + int(*std::max_element(basis.a, basis.a + basis.N));
    std::vector<Expectation> powers(n);
    expect_powers(p, powers.data(), n);
    for (int64_t j = 0; j < basis.N; ++j) row[j] = powers[int(basis.a[j])];
    return;
  }
  for (int64_t j = 0; j < basis.N; ++j) {
    const double a = basis.a[j], b = basis.b[j];
    if (basis.kind == BasisKind::gaussian) row[j] = expect_gaussian(p, a, b);
    if (basis.kind == BasisKind::rectangle) row[j] = expect_rectangle(p, a, b);
    if (basis.kind == BasisKind::sine || basis.kind == BasisKind::cosine) {
      const Wave wave = expect_wave(p, a);
      const bool sine = basis.kind == BasisKind::sine;
      row[j] = sine ? Expectation{wave.value.imag(), wave.dmu.imag(), wave.dsigma2.imag()}
                    : Expectation{wave.value.real(), wave.dmu.real(), wave.dsigma2.real()};
    }
  }
}

}  // namespace lem::cpu
