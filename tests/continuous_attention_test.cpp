// Attention to the continuous memory: the tiled kernels against z = rᵀ values written as plain loops over the closed
// forms.
#include <omp.h>

#include "nn/basis.h"
#include "tensor/backend.h"
#include "tensor/cpu/expectation.h"
#include "tests/catch.h"
#include "tests/naive_continuous.h"
#include "tests/numeric.h"

using namespace lem;
using test::random_fill;
using test::relative_error;

namespace {

using Array = std::vector<real>;

struct Case {
  BasisKind basis;
  DensityKind density;
  int64_t N, B, T, H, D;
  double low, high;  // range of σ²
};

struct Problem {
  Case c;
  Array a, b, density, values, dz;
  explicit Problem(Case c) : c(c) {
    const Basis host = c.basis == BasisKind::gaussian ? make_basis(c.basis, c.N, {.05, .2}) : make_basis(c.basis, c.N);
    a.assign(host.a.begin(), host.a.end()), b.assign(host.b.begin(), host.b.end());
    const int64_t n = c.B * c.H * c.T;
    density = random_fill(n, 1, .01, .99);
    const Array sigma2 = random_fill(n, 2, c.low, c.high);
    density.insert(density.end(), sigma2.begin(), sigma2.end());
    values = random_fill(c.B * c.N * c.H * c.D, 3), dz = random_fill(c.B * c.T * c.H * c.D, 4);
  }
  BasisView view() const { return {c.basis, c.N, a.data(), b.data()}; }
  ContinuousAttention sizes() const { return {c.B, c.T, c.H, c.D, c.density}; }
  Array forward(const Array& density, const Array& values) const {
    Array z(dz.size(), real(NAN));
    cpu::continuous_attention_forward(z.data(), density.data(), values.data(), view(), sizes());
    return z;
  }
  void backward(Array& ddensity, Array& dvalues) const {
    ddensity.assign(density.size(), real(NAN)), dvalues.assign(values.size(), real(NAN));
    cpu::continuous_attention_backward(ddensity.data(), dvalues.data(), dz.data(), density.data(), values.data(),
                                       view(), sizes());
  }
  naive::ContinuousAttentionInputs inputs() const {
    return {sizes(), view(), {density.begin(), density.end()}, {values.begin(), values.end()}};
  }
};

const DensityKind kDensities[] = {DensityKind::gaussian, DensityKind::truncated_gaussian, DensityKind::parabola};

}  // namespace

TEST_CASE("continuous attention agrees with plain loops", "[continuous]") {
  std::vector<Case> cases;
  for (DensityKind density : kDensities) {
    for (BasisKind basis : {BasisKind::gaussian, BasisKind::sine, BasisKind::cosine, BasisKind::rectangle})
      cases.push_back({basis, density, 34, 2, 33, 3, 5, 1e-3, .05});
    cases.push_back({BasisKind::power, density, 9, 2, 33, 3, 5, 1e-3, .05});
  }
  for (int64_t T : {1, 31, 33, 128, 129, 257})  // around the tile
    cases.push_back({BasisKind::gaussian, DensityKind::gaussian, 64, 1, T, 2, 50, 1e-4, .05});
  for (int64_t D : {1, 7, 8, 31, 33, 64})
    cases.push_back({BasisKind::gaussian, DensityKind::gaussian, 62, 2, 40, 3, D, 1e-4, .05});
  cases.push_back({BasisKind::gaussian, DensityKind::gaussian, 2, 1, 5, 1, 3, 1e-6, 1e-5});
  cases.push_back({BasisKind::gaussian, DensityKind::gaussian, 8, 0, 5, 1, 3, 1e-6, 1e-5});
  for (const Case& c : cases) {
    INFO(name(c.basis) << " x " << name(c.density) << ": N " << c.N << ", T " << c.T << ", D " << c.D);
    const Problem problem(c);
    const naive::ContinuousAttentionInputs x = problem.inputs();
    const auto expected = naive::continuous_attention_backward({problem.dz.begin(), problem.dz.end()}, x);
    const double tolerance = kDouble ? 1e-12 : 2e-5;
    CHECK(relative_error(problem.forward(problem.density, problem.values), naive::continuous_attention_forward(x)) <=
          tolerance);
    Array ddensity, dvalues;
    problem.backward(ddensity, dvalues);
    CHECK(relative_error(dvalues, expected.dvalues) <= tolerance);
    CHECK(relative_error(ddensity, expected.ddensity) <= tolerance);
  }
}

TEST_CASE("continuous attention: backward agrees with finite differences", "[continuous]") {
  if (!kDouble) return;  // float has no digits for this: make REAL=double
  for (DensityKind density : kDensities)
    for (BasisKind basis :
         {BasisKind::gaussian, BasisKind::power, BasisKind::sine, BasisKind::cosine, BasisKind::rectangle}) {
      INFO(name(basis) << " x " << name(density));
      const Problem problem({basis, density, basis == BasisKind::power ? 6 : 8, 2, 5, 2, 3, 5e-3, .05});
      Array ddensity, dvalues;
      problem.backward(ddensity, dvalues);
      // Rectangles under the parabola have a kink in the second derivative where an edge meets the parabola's end.
      const bool kinks = basis == BasisKind::rectangle && density == DensityKind::parabola;
      const std::vector<double> by_density =
          test::finite_difference([&](const Array& x) { return problem.forward(x, problem.values); }, problem.density,
                                  problem.dz, kinks ? 1e-6 : 2e-5);
      const std::vector<double> by_values = test::finite_difference(
          [&](const Array& x) { return problem.forward(problem.density, x); }, problem.values, problem.dz, 1e-2);
      CHECK(relative_error(ddensity, by_density) <= 1e-7);
      CHECK(relative_error(dvalues, by_values) <= 1e-7);
      // Planted: ∂r/∂σ² without its ½, one element of dvalues missing.
      Array wrong = ddensity;
      for (size_t i = wrong.size() / 2; i < wrong.size(); ++i) wrong[i] *= 2;
      CHECK_FALSE(relative_error(wrong, by_density) <= 1e-7);
      wrong = dvalues, wrong[1] = 0;
      CHECK_FALSE(relative_error(wrong, by_values) <= 1e-7);
    }
}

TEST_CASE("continuous attention gives the same bits for any number of threads", "[continuous]") {
  const Problem problem({BasisKind::gaussian, DensityKind::gaussian, 64, 2, 300, 3, 10, 1e-4, .05});
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const Array z = problem.forward(problem.density, problem.values);
  Array ddensity, dvalues, ddensity2, dvalues2;
  problem.backward(ddensity, dvalues);
  omp_set_num_threads(3);
  CHECK(problem.forward(problem.density, problem.values) == z);
  problem.backward(ddensity2, dvalues2);
  CHECK(ddensity2 == ddensity);
  CHECK(dvalues2 == dvalues);
  omp_set_num_threads(threads);
}

TEST_CASE("no density makes an expectation NaN or infinite", "[continuous]") {
  Array mu, sigma2;
  for (double m : {0.0, 1e-30, 1e-7, .25, .5, 1 - 6e-8, 1.0})
    for (double s : {1e-6, 1e-4, 1e-2, 1.0, 100.0, 1e6}) mu.push_back(real(m)), sigma2.push_back(real(s));
  const int64_t n = int64_t(mu.size());
  Array density = mu;
  density.insert(density.end(), sigma2.begin(), sigma2.end());
  for (DensityKind kind : kDensities)
    for (BasisKind basis :
         {BasisKind::gaussian, BasisKind::power, BasisKind::sine, BasisKind::cosine, BasisKind::rectangle}) {
      const Basis host = basis == BasisKind::gaussian ? make_basis(basis, 128, {.005, .01}) : make_basis(basis, 128);
      const Array a(host.a.begin(), host.a.end()), b(host.b.begin(), host.b.end());
      Array r(n * 128);
      const BasisView view{basis, 128, a.data(), b.data()};
      cpu::basis_expectation(r.data(), density.data(), view, kind, n);
      std::vector<cpu::Expectation> row(128);
      int bad = 0;
      for (int64_t i = 0; i < n; ++i) {
        cpu::expectation_row(row.data(), view, kind, density[i], density[n + i]);
        for (int64_t j = 0; j < 128; ++j)
          bad += !(std::isfinite(r[i * 128 + j]) && std::isfinite(float(row[j].dmu)) &&
                   std::isfinite(float(row[j].dsigma2)));
      }
      INFO(name(basis) << " x " << name(kind));
      CHECK(bad == 0);
    }
}
