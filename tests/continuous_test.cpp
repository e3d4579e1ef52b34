// The kernels of continuous memory: forward against the plain formulas, backward against finite differences (in double)
// or against the formulas' derivatives (in float), and planted mistakes that the checks must see.
#include "nn/basis.h"
#include "tensor/backend.h"
#include "tensor/cpu/expectation.h"
#include "tests/catch.h"
#include "tests/numeric.h"

using namespace lem;
using test::random_fill;
using test::relative_error;

namespace {

using Array = std::vector<real>;

/// A basis with its parameters in `real`, as kernels want them.
struct DeviceBasis {
  Array a, b;
  BasisView view;
  explicit DeviceBasis(const Basis& basis)
      : a(basis.a.begin(), basis.a.end()),
        b(basis.b.begin(), basis.b.end()),
        view{basis.kind, basis.size(), a.data(), b.data()} {}
};

Basis basis_of(BasisKind kind, int64_t N) {
  return kind == BasisKind::gaussian ? make_basis(kind, N, {.05, .2}) : make_basis(kind, N);
}

/// (2, n): μ in (0, 1), σ² in (low, high)
Array random_density(int64_t n, uint64_t stream, double low, double high) {
  Array density = random_fill(n, stream, .01, .99);
  const Array sigma2 = random_fill(n, stream + 1, low, high);
  density.insert(density.end(), sigma2.begin(), sigma2.end());
  return density;
}

/// In double, `gradient` must be the derivative of cotangent · f at x. In float this is not decidable, hence true.
bool is_gradient(const Array& gradient, const std::function<Array(const Array&)>& f, const Array& x,
                 const Array& cotangent, double step = 1e-4) {
  if (!kDouble) return true;
  const double error = relative_error(gradient, test::finite_difference(f, x, cotangent, step));
  if (!(error <= 1e-7)) UNSCOPED_INFO("gradient is off by " << error);
  return error <= 1e-7;
}

/// The same gradient with one element a thousandth off: what a check must not accept.
Array planted(Array gradient) {
  const auto largest =
      std::max_element(gradient.begin(), gradient.end(), [](real a, real b) { return std::abs(a) < std::abs(b); });
  *largest *= real(1.001);
  return gradient;
}

void require_gradient(const Array& gradient, const std::function<Array(const Array&)>& f, const Array& x,
                      const Array& cotangent, double step = 1e-4) {
  CHECK(is_gradient(gradient, f, x, cotangent, step));
  if (kDouble) CHECK_FALSE(is_gradient(planted(gradient), f, x, cotangent, step));
}

const double kTolerance = kDouble ? 1e-12 : 2e-5;

}  // namespace

TEST_CASE("basis_evaluate agrees with the host's basis", "[continuous]") {
  for (BasisKind kind :
       {BasisKind::gaussian, BasisKind::power, BasisKind::sine, BasisKind::cosine, BasisKind::rectangle})
    for (int64_t n : {0, 1, 33}) {
      const Basis host = basis_of(kind, 10);
      const DeviceBasis basis(host);
      const Array t = random_fill(n, 3, 0, 1);
      Array psi(n * 10);
      cpu::basis_evaluate(psi.data(), t.data(), basis.view, n);
      std::vector<double> expected;
      for (real ti : t)
        for (double value : host.evaluate(ti)) expected.push_back(value);
      INFO(name(kind) << ", n = " << n);
      CHECK(relative_error(psi, expected) <= (kDouble ? 1e-14 : 1e-5));
    }
}

TEST_CASE("head scores: the rank-two form equals the plain key path", "[continuous]") {
  const int64_t P = 2, B = 2, T = 33, H = 3, D = 5, C = H * D, N = 7;
  const Array q = random_fill(B * T * C, 1), keys = random_fill(B * N * C, 2), w = random_fill(P * N, 3);
  const real scale = real(1 / std::sqrt(double(D)));
  // k[b,p,:] = keysᵀ w_p (C)
  Array k(B * P * C);
  for (int64_t b = 0; b < B; ++b)
    for (int64_t p = 0; p < P; ++p)
      for (int64_t c = 0; c < C; ++c) {
        double sum = 0;
        for (int64_t j = 0; j < N; ++j) sum += double(keys[(b * N + j) * C + c]) * w[p * N + j];
        k[(b * P + p) * C + c] = real(sum);
      }
  // w_p · (keys_h q_i)/√D, as docs/continuous-memory.md has it
  std::vector<double> plain(P * B * H * T);
  for (int64_t p = 0; p < P; ++p)
    for (int64_t b = 0; b < B; ++b)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t t = 0; t < T; ++t)
          for (int64_t j = 0; j < N; ++j) {
            double score = 0;
            for (int64_t d = 0; d < D; ++d)
              score += double(keys[(b * N + j) * C + h * D + d]) * q[(b * T + t) * C + h * D + d];
            plain[((p * B + b) * H + h) * T + t] += w[p * N + j] * score * scale;
          }
  auto forward = [&](const Array& q, const Array& k) {
    Array s(P * B * H * T);
    cpu::head_scores_forward(s.data(), q.data(), k.data(), scale, P, B, T, H, D);
    return s;
  };
  CHECK(relative_error(forward(q, k), plain) <= kTolerance);

  const Array ds = random_fill(P * B * H * T, 4);
  Array dq(q.size(), real(NAN)), dk(k.size(), real(NAN));
  cpu::head_scores_backward(dq.data(), dk.data(), ds.data(), q.data(), k.data(), scale, P, B, T, H, D);
  require_gradient(
      dq, [&](const Array& x) { return forward(x, k); }, q, ds);
  require_gradient(
      dk, [&](const Array& x) { return forward(q, x); }, k, ds);
  // Bilinear: dq · q = dk · k = ds · s, in float as well.
  CHECK(test::dot(dq, q) == Approx(test::dot(ds, forward(q, k))).epsilon(1e-4).margin(1e-4));
  CHECK(test::dot(dk, k) == Approx(test::dot(ds, forward(q, k))).epsilon(1e-4).margin(1e-4));
}

TEST_CASE("density: sigmoid, softplus and the floor of the variance", "[continuous]") {
  const int64_t n = 33;
  const real floor = real(.3);
  Array s = random_fill(2 * n, 5, -4, 4);
  auto forward = [&](const Array& s) {
    Array density(2 * n);
    cpu::density_forward(density.data(), s.data(), floor, n);
    return density;
  };
  const Array density = forward(s);
  int floored = 0;
  for (int64_t i = 0; i < n; ++i) {
    CHECK(density[i] == Approx(1 / (1 + std::exp(-double(s[i])))));
    CHECK(density[n + i] == Approx(std::max(double(floor), std::log1p(std::exp(double(s[n + i]))))));
    floored += density[n + i] == floor;
  }
  CHECK(floored > 3);
  CHECK(floored < n - 3);
  const Array cotangent = random_fill(2 * n, 6);
  Array ds(2 * n, real(NAN));
  cpu::density_backward(ds.data(), cotangent.data(), s.data(), floor, n);
  require_gradient(ds, forward, s, cotangent);

  // Far out nothing overflows: μ → 0 or 1, σ² → s₁, derivatives finite.
  const Array far = {-200, 200, -200, 200};
  Array wide(4), dfar(4);
  cpu::density_forward(wide.data(), far.data(), real(1e-6), 2);
  CHECK((wide[0] >= 0 && wide[0] < 1e-30 && wide[1] == 1));
  CHECK((wide[2] == real(1e-6) && wide[3] == 200));
  const Array ones(4, 1);
  cpu::density_backward(dfar.data(), ones.data(), far.data(), real(1e-6), 2);
  CHECK((dfar[0] == Approx(0).margin(1e-30) && dfar[1] == Approx(0).margin(1e-30) && dfar[2] == 0 && dfar[3] == 1));
}

TEST_CASE("moments of a mixture of the basis", "[continuous]") {
  const int64_t n = 9, N = 12;
  const DeviceBasis basis(make_basis(BasisKind::gaussian, N, {.01, .05}));
  Array p = random_fill(n * N, 7, 0, 1);
  for (int64_t i = 0; i < n; ++i) {  // narrow ones as well: rows close to a single basis function
    if (i % 3 == 0) p[i * N + i] = 1000;
    real sum = 0;
    for (int64_t j = 0; j < N; ++j) sum += p[i * N + j];
    for (int64_t j = 0; j < N; ++j) p[i * N + j] /= sum;
  }
  const real floor = real(2e-3);  // some rows sit on it
  auto forward = [&](const Array& p) {
    Array density(2 * n);
    cpu::moments_forward(density.data(), p.data(), basis.view, floor, n);
    return density;
  };
  const Array density = forward(p);
  int floored = 0;
  for (int64_t i = 0; i < n; ++i) {
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < N; ++j) mean += double(p[i * N + j]) * basis.a[j];
    for (int64_t j = 0; j < N; ++j)
      variance += p[i * N + j] * (std::pow(basis.a[j] - mean, 2) + std::pow(double(basis.b[j]), 2));
    CHECK(density[i] == Approx(mean));
    CHECK(density[n + i] == Approx(std::max(variance, double(floor))).epsilon(1e-4));
    floored += density[n + i] == floor;
  }
  CHECK(floored > 0);
  CHECK(floored < n);
  const Array cotangent = random_fill(2 * n, 8);
  Array dp(p.size(), real(NAN));
  cpu::moments_backward(dp.data(), cotangent.data(), density.data(), p.data(), basis.view, floor, n);
  require_gradient(dp, forward, p, cotangent, 1e-6);
}

TEST_CASE("KL divergence to the prior", "[continuous]") {
  const int64_t B = 3, n = 11;
  const double sigma0 = .05, mu0 = .4;
  const Array density = random_density(B * n, 9, 1e-3, 1e-2);
  for (bool has_mu0 : {false, true}) {
    auto forward = [&](const Array& density) {
      Array kl(B);
      cpu::kl_forward(kl.data(), density.data(), nullptr, real(sigma0), real(mu0), has_mu0, B, 1, n);
      return kl;
    };
    // ∫ p ln(p/p₀), the prior centred at μ where it has no μ₀
    std::vector<double> expected(B);
    for (int64_t i = 0; i < B * n; ++i) {
      const long double mu = density[i], v = density[B * n + i], sigma = std::sqrt(v), v0 = sigma0 * sigma0;
      const long double centre = has_mu0 ? mu0 : mu;
      long double sum = 0;
      test::for_each_node(mu - 10 * sigma, mu + 10 * sigma, 400, [&](long double t, long double weight) {
        const long double log_p = -(t - mu) * (t - mu) / (2 * v) - std::log(sigma);
        const long double log_p0 = -(t - centre) * (t - centre) / (2 * v0) - std::log((long double)sigma0);
        sum += weight * std::exp(log_p) * cpu::kInverseRoot2Pi * (log_p - log_p0);
      });
      expected[i / n] += double(sum);
    }
    CHECK(relative_error(forward(density), expected) <= (kDouble ? 1e-9 : 1e-5));
    const Array dkl = random_fill(B, 10);
    Array ddensity(density.size(), real(NAN));
    cpu::kl_backward(ddensity.data(), dkl.data(), density.data(), nullptr, real(sigma0), real(mu0), has_mu0, B, 1, n);
    require_gradient(ddensity, forward, density, dkl, 1e-6);
  }
}
