// The closed forms of tensor/expectation.h, in double, against integrals by brute force: every basis × density, values
// and both derivatives, to 1e-9.
#include "tensor/cpu/expectation.h"

#include <array>
#include <complex>

#include "nn/basis.h"
#include "tests/catch.h"
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
  long double decay = sigma;
  if (density == DensityKind::truncated_gaussian) {
    // Outside [0, 1] the density falls from the nearer end like e^{−t |μ|/σ²}.
    if (mu < 0) decay = v / -mu, hi = std::max(hi, 45 * decay);
    if (mu > 1) decay = v / (mu - 1), lo = std::min(lo, 1 - 45 * decay);
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
  long double feature = parabola ? half : std::min(sigma, decay);
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
    const int64_t panels = 24 + int64_t((ends[i + 1] - ends[i]) / (weightless ? std::min(sigma, decay) : feature) * 8);
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
  return for_kinds<double>(basis, density, [&]<class E>(E*) { return E(mu, sigma2)(a, b); });
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

/// The error of `got`, relative where the value is large and absolute where it is small.
double excess(double got, long double expected) { return double(std::abs(got - expected) / (1 + std::abs(expected))); }

/// Checks value and both derivatives against integrals, to `tolerance`.
void compare(BasisKind basis, double a, double b, DensityKind density, double mu, double sigma2, double tolerance) {
  const Expectation got = closed_form(basis, a, b, density, mu, sigma2);
  const Reference expected = reference(basis, a, b, density, mu, sigma2);
  INFO(name(basis) << " x " << name(density) << ": a = " << a << ", b = " << b << ", mu = " << mu
                   << ", sigma2 = " << sigma2);
  INFO("value " << got.value << ", expected " << double(expected.value));
  INFO("dmu " << got.dmu << ", expected " << double(expected.dmu));
  INFO("dsigma2 " << got.dsigma2 << ", expected " << double(expected.dsigma2));
  CHECK(excess(got.value, expected.value) <= tolerance);
  CHECK(excess(got.dmu, expected.dmu) <= tolerance);
  CHECK(excess(got.dsigma2, expected.dsigma2) <= tolerance);
}

}  // namespace

TEST_CASE("expectations and their derivatives agree with integrals", "[continuous]") {
  for (BasisKind basis : kBases)
    for (DensityKind density : kDensities)
      for (auto [a, b] : parameters(basis))
        for (double mu : {0.0, 1e-4, .02, .3, .5004, .97, 1.0})
          for (double sigma2 : {1e-6, 1e-4, 2.5e-3, .04, 1.0, 30.0}) {
            // Powers on ℝ under a wide density are astronomically large: not a use of theirs.
            const bool line = density != DensityKind::truncated_gaussian;
            if (basis == BasisKind::power && line && a > 3 && sigma2 > .1) continue;
            // Fast waves under a wide density are zero, and expensive to integrate.
            const bool wave = basis == BasisKind::sine || basis == BasisKind::cosine;
            if (wave && line && a > 10 && sigma2 > .1) continue;
            compare(basis, a, b, density, mu, sigma2, 1e-9);
          }
}

// A model's μ is a sigmoid and stays inside. Far outside, ∂/∂σ² is a small difference of terms of size μ²/σ⁴, and ln Z
// of size x²/2, x the distance in σ, so that digits are lost at 100 σ; but nothing breaks down to a mass of e^{−9800}.
TEST_CASE("truncated densities with their centre far outside", "[continuous]") {
  for (BasisKind basis : kBases)
    for (auto [a, b] : parameters(basis))
      for (double mu : {-1.0, -.02, 1.003, 1.4})
        for (double sigma2 : {1e-4, 2.5e-3, .3, 10.0}) {
          const double x = std::max(-mu, mu - 1) / std::sqrt(sigma2);
          compare(basis, a, b, DensityKind::truncated_gaussian, mu, sigma2, x > 30 ? 1e-4 : x > 5 ? 1e-8 : 1e-9);
        }
}

// High orders: there the reference would need millions of panels, but moments of a known density are known.
TEST_CASE("high powers on [0, 1]", "[continuous]") {
  // Under a very wide Gaussian p is uniform: E[t^j] = 1/(j + 1).
  Expect<BasisKind::power, DensityKind::truncated_gaussian, double> flat(.4, 1e8), cut(.5, 1e-3);
  for (int j = 0; j < 513; ++j) CHECK(std::abs(flat(j, 0).value - 1. / (j + 1)) <= 1e-9);
  CHECK(std::abs(flat(7, 0).value - 1. / 8) <= 1e-9);
  // Under a narrow one that the ends don't reach, the truncated and the plain Gaussian agree.
  Expect<BasisKind::power, DensityKind::gaussian, double> whole(.5, 1e-3);
  for (int j = 0; j < 20; ++j) {
    const Expectation power = cut(j, 0), other = whole(j, 0);
    CHECK(excess(power.value, other.value) <= 1e-12);
    CHECK(excess(power.dmu, other.dmu) <= 1e-10);
    CHECK(excess(power.dsigma2, other.dsigma2) <= 1e-10);
  }
}

TEST_CASE("a basis of powers may stand in any order", "[continuous]") {
  const std::vector<real> ascending = {0, 1, 2, 3, 5, 9}, mixed = {5, 2, 9, 0, 3, 1};
  for (DensityKind density : kDensities) {
    std::vector<Expectation> row(6), other(6);
    expectation_row(row.data(), {BasisKind::power, 6, ascending.data(), ascending.data()}, density, .3, .04);
    expectation_row(other.data(), {BasisKind::power, 6, mixed.data(), mixed.data()}, density, .3, .04);
    for (size_t i = 0; i < 6; ++i) {
      const size_t j = std::find(mixed.begin(), mixed.end(), ascending[i]) - mixed.begin();
      CHECK(row[i].value == other[j].value);
      CHECK(row[i].dmu == other[j].dmu);
      CHECK(row[i].dsigma2 == other[j].dsigma2);
    }
  }
}

TEST_CASE("densities integrate to one", "[continuous]") {
  for (DensityKind density : kDensities)
    for (double mu : {0.0, .3, 1.0})
      for (double sigma2 : {1e-6, 1e-3, .2, 50.0}) {
        INFO(name(density) << ", mu = " << mu << ", sigma2 = " << sigma2);
        for (const Expectation& e : {closed_form(BasisKind::rectangle, -1e4, 1e4, density, mu, sigma2),
                                     closed_form(BasisKind::power, 0, 0, density, mu, sigma2),
                                     closed_form(BasisKind::cosine, 0, 0, density, mu, sigma2)}) {
          CHECK(std::abs(e.value - 1) <= 1e-13);
          CHECK(std::abs(e.dmu) <= 1e-11);
          CHECK(std::abs(e.dsigma2) <= 1e-9);
        }
        // A Gaussian basis integrates to one over its centre, and so does its expectation under any density on ℝ.
        if (density == DensityKind::truncated_gaussian) continue;
        long double sum = 0;
        const double width = std::sqrt(sigma2) + .1;
        test::for_each_node(mu - 12 * width, mu + 12 * width, 4000, [&](long double m, long double weight) {
          sum += weight * closed_form(BasisKind::gaussian, double(m), .1, density, mu, sigma2).value;
        });
        CHECK(std::abs(double(sum) - 1) <= 1e-9);
      }
}

TEST_CASE("special functions", "[continuous]") {
  // w(iy) = e^{y²} erfc(y); w(x) = e^{−x²} + i (2/√π) D(x), D Dawson's integral = e^{−x²} ∫_0^x e^{t²} dt.
  for (double y : {0.0, 1e-9, .3, 1.0, 6.1, 6.2, 30.0, 1e3}) {
    CHECK(excess(faddeeva({0, y}).re, scaled_erfc(y)) <= 1e-14);
    CHECK(std::abs(faddeeva({0, y}).im) <= 1e-15);
  }
  for (double x : {1e-9, .1, .2558, .5117, .7676, 1.0, 2.5, 5.9}) {
    long double dawson = 0;
    test::for_each_node(0, x, 2000, [&](long double t, long double weight) {
      dawson += weight * std::exp(t * t - (long double)x * x);
    });
    const Complex<double> w = faddeeva({x, 0});
    CHECK(std::abs(w.re - std::exp(-x * x)) <= 1e-14);
    CHECK(std::abs(w.im - 2 / std::sqrt(kPi) * double(dawson)) <= 1e-14);
  }
  // Anywhere above the axis: w(z) = (i/π) ∫ e^{−t²}/(z − t) dt.
  for (double x : {-4.0, -.26, 0.0, .1, .5, .77, 3.0, 12.0, 700.0})
    for (double y : {.05, .5, 2.0, 5.0, 6.5, 60.0}) {
      std::complex<long double> sum = 0;
      test::for_each_node(-9, 9, 20000, [&](long double t, long double weight) {
        sum += weight * std::exp(-t * t) / (std::complex<long double>(x, y) - t);
      });
      const std::complex<double> expected(sum * std::complex<long double>(0, 1 / acosl(-1)));
      const Complex<double> w = faddeeva({x, y});
      CHECK(std::abs(std::complex<double>(w.re, w.im) - expected) <= 2e-14 * std::abs(expected));
    }
  CHECK(scaled_erfc(24.999) == Approx(scaled_erfc(25.001)).epsilon(1e-4));
  CHECK(excess(scaled_erfc(25), 0.022549572432641358) <= 1e-15);
  // The mass of [5, 6] and [50, 51] and its mirror image; a mass around 0; neighbours.
  CHECK(std::exp(log_normal_mass(5, 6)) == Approx(2.8566498421e-7).epsilon(1e-9));
  CHECK(log_normal_mass(50, 51) == Approx(-1254.8313611394).epsilon(1e-12));
  CHECK(log_normal_mass(-51, -50) == log_normal_mass(50, 51));
  CHECK(std::exp(log_normal_mass(-1, 1)) == Approx(.68268949213708585).epsilon(1e-14));
  CHECK(std::exp(log_normal_mass(1, 1 + 1e-6)) == Approx(.24197072451914337e-6).epsilon(1e-6));
}
