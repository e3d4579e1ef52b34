// The closed forms of tensor/cpu/expectation.h against integrals by brute force: every basis × density, values and
// both derivatives, to 1e-9.
#include "tensor/cpu/expectation.h"

#include <array>
#include <catch2/catch.hpp>

#include "nn/basis.h"
#include "tests/numeric.h"

using namespace lem;
using namespace lem::cpu;

namespace {

const std::vector<BasisKind> kBases = {BasisKind::gaussian, BasisKind::power, BasisKind::sine, BasisKind::cosine,
                                       BasisKind::rectangle};
const std::vector<DensityKind> kDensities = {DensityKind::gaussian, DensityKind::truncated_gaussian,
                                             DensityKind::parabola};

/// ψ in long double, from its definition.
long double psi(BasisKind kind, double a, double b, long double t) {
  switch (kind) {
    case BasisKind::gaussian:
      return std::exp(-0.5L * (t - a) * (t - a) / b / b) / (b * std::sqrt(2 * acosl(-1)));
    case BasisKind::power:
      return std::pow(t, (long double)a);
    case BasisKind::sine:
      return std::sin(a * t);
    case BasisKind::cosine:
      return std::cos(a * t);
    case BasisKind::rectangle:
      return t >= a && t < b;
  }
  return 0;
}

struct Reference {
  long double value, dmu, dsigma2;
};

/// ∫ ψ p, ∫ ψ ∂p/∂μ, ∫ ψ ∂p/∂σ² by brute force, unnormalised p and the normalisation integrated alike.
Reference reference(BasisKind basis, double a, double b, DensityKind density, double mu, double sigma2) {
  const long double v = sigma2, sigma = std::sqrt(v), half = std::cbrt(1.5L * v);
  const bool parabola = density == DensityKind::parabola;
  long double lo = parabola ? mu - half : mu - 14 * sigma, hi = parabola ? mu + half : mu + 14 * sigma;
  if (density == DensityKind::truncated_gaussian) {
    // Outside [0, 1] the density falls from the end like e^{−|x| t/σ}, x the distance of the end in σ.
    if (mu < 0) hi = std::min<long double>(hi, 45 * v / -mu + 0), hi = std::max<long double>(hi, 45 * v / -mu);
    if (mu > 1)
      lo = std::max<long double>(lo, 1 - 45 * v / (mu - 1)), lo = std::min<long double>(lo, 1 - 45 * v / (mu - 1));
    lo = std::max<long double>(lo, 0), hi = std::min<long double>(hi, 1);
  }
  // Where a Gaussian basis function has no weight there is nothing to add, but for the normalisation of p.
  // The exponent is measured from its largest value on [lo, hi], so that far tails don't underflow.
  const long double peak = std::clamp<long double>(mu, lo, hi) - mu, top = peak * peak / (2 * v);
  // (p, ∂p/∂μ, ∂p/∂σ²), not normalised where p is a Gaussian
  auto p = [&](long double t) -> std::array<long double, 3> {
    const long double x = t - mu;
    if (parabola) return {(half * half - x * x) / (2 * v), x / v, half * half / (6 * v * v) * -1 + x * x / (2 * v * v)};
    const long double height = std::exp(top - x * x / (2 * v));
    return {height, height * x / v, height * x * x / (2 * v * v)};
  };
  // Pieces: rectangles split where they jump; panels resolve the narrowest feature.
  long double feature = parabola ? half : sigma;
  if (basis == BasisKind::gaussian) feature = std::min<long double>(feature, b);
  if (basis == BasisKind::sine || basis == BasisKind::cosine)
    feature = std::min<long double>(feature, 1 / std::max(1.0, a));
  if (basis == BasisKind::power) feature = std::min<long double>(feature, 0.5 / std::max(1.0, a));
  std::vector<long double> ends = {lo, hi};
  if (basis == BasisKind::rectangle)
    for (long double edge : {a, b}) ends.push_back(std::clamp<long double>(edge, lo, hi));
  if (basis == BasisKind::gaussian)
    for (long double edge : {a - 12 * b, a + 12 * b}) ends.push_back(std::clamp<long double>(edge, lo, hi));
  std::sort(ends.begin(), ends.end());
  std::array<long double, 3> Z{}, E{};  // ∫ p, ∂p/∂μ, ∂p/∂σ², without and with ψ
  for (size_t i = 0; i + 1 < ends.size(); ++i) {
    const bool weightless = basis == BasisKind::gaussian && i != 1;
    const int64_t panels = 24 + int64_t((ends[i + 1] - ends[i]) / (weightless ? sigma : feature) * 8);
    test::for_each_node(ends[i], ends[i + 1], panels, [&](long double t, long double weight) {
      const std::array<long double, 3> at = p(t);
      const long double value = weightless ? 0 : psi(basis, a, b, t);
      for (int k = 0; k < 3; ++k) Z[k] += weight * at[k], E[k] += weight * at[k] * value;
    });
  }
  if (parabola) return {E[0], E[1], E[2]};
  const long double mean = E[0] / Z[0];
  return {mean, (E[1] - mean * Z[1]) / Z[0], (E[2] - mean * Z[2]) / Z[0]};
}

Expectation closed_form(BasisKind basis, double a, double b, DensityKind density, double mu, double sigma2) {
  const Density p(density, mu, sigma2);
  switch (basis) {
    case BasisKind::gaussian:
      return expect_gaussian(p, a, b);
    case BasisKind::rectangle:
      return expect_rectangle(p, a, b);
    case BasisKind::power: {
      std::vector<Expectation> all(int(a) + 1);
      expect_powers(p, all.data(), int(all.size()));
      return all.back();
    }
    default: {
      const Wave w = expect_wave(p, a);
      if (basis == BasisKind::sine) return {w.value.imag(), w.dmu.imag(), w.dsigma2.imag()};
      return {w.value.real(), w.dmu.real(), w.dsigma2.real()};
    }
  }
}

/// Pairs (a, b) worth trying for a basis.
std::vector<std::pair<double, double>> parameters(BasisKind basis) {
  const double pi = 3.14159265358979323846;
  switch (basis) {
    case BasisKind::gaussian:
      return {{0, .005}, {.3, .01}, {.5, .05}, {.503, .2}, {1, .01}, {.25, 1}};
    case BasisKind::power:
      return {{0, 0}, {1, 0}, {2, 0}, {3, 0}, {8, 0}, {31, 0}};
    case BasisKind::sine:
    case BasisKind::cosine:
      return {{0, 0}, {pi, 0}, {2 * pi, 0}, {17 * pi, 0}, {128 * pi, 0}};
    case BasisKind::rectangle:
      return {{0, 1}, {.3, .5}, {.5, .503}, {0, 1. / 128}, {127. / 128, 1}};
  }
  return {};
}

double excess(double got, long double expected) { return double(std::abs(got - expected) / (1 + std::abs(expected))); }

}  // namespace

TEST_CASE("expectations and their derivatives agree with integrals", "[continuous]") {
  double worst = 0;
  for (BasisKind basis : kBases)
    for (DensityKind density : kDensities)
      for (auto [a, b] : parameters(basis))
        for (double mu : {0.0, 1e-4, .02, .3, .5004, .97, 1.0})
          for (double sigma2 : {1e-6, 1e-4, 2.5e-3, .04, 1.0, 30.0}) {
            // Powers on ℝ under a wide density are astronomically large: not a use of theirs.
            if (basis == BasisKind::power && density != DensityKind::truncated_gaussian && a > 3 && sigma2 > .1)
              continue;
            const Expectation got = closed_form(basis, a, b, density, mu, sigma2);
            const Reference expected = reference(basis, a, b, density, mu, sigma2);
            const double errors[] = {excess(got.value, expected.value), excess(got.dmu, expected.dmu),
                                     excess(got.dsigma2, expected.dsigma2)};
            INFO(name(basis) << " x " << name(density) << ": a = " << a << ", b = " << b << ", mu = " << mu
                             << ", sigma2 = " << sigma2);
            INFO("value " << got.value << " vs " << double(expected.value) << ", dmu " << got.dmu << " vs "
                          << double(expected.dmu) << ", dsigma2 " << got.dsigma2 << " vs " << double(expected.dsigma2));
            for (double error : errors) {
              CHECK(error <= 1e-9);
              worst = std::max(worst, error);
            }
          }
}
