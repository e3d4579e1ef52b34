// The ridge operator against its normal equations and the dense formula; contractions against the definition in
// docs/continuous-memory.md.
#include "nn/ridge.h"

#include <cmath>
#include <numeric>

#include "nn/continuous_memory.h"
#include "tensor/error.h"
#include "tests/catch.h"
#include "tests/numeric.h"

using namespace lem;
using Catch::Contains;

namespace {

using Matrix = std::vector<double>;  // row-major

/// c (m, n) = aᵀ b, a: (k, m), b: (k, n)
Matrix transposed_product(const Matrix& a, const Matrix& b, int64_t k, int64_t m, int64_t n) {
  Matrix c(m * n);
  for (int64_t l = 0; l < k; ++l)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) c[i * n + j] += a[l * m + i] * b[l * n + j];
  return c;
}

/// Ψ (n, N)
Matrix evaluate(const Basis& basis, const std::vector<double>& t) {
  Matrix psi;
  for (double ti : t)
    for (double value : basis.evaluate(ti)) psi.push_back(value);
  return psi;
}

/// x with K x = y for each of the rows of Y (rows, N), by Gauss elimination with pivoting: nothing in common with
/// nn/ridge.cpp.
Matrix solve(Matrix K, Matrix Y, int64_t rows, int64_t N) {
  for (int64_t k = 0; k < N; ++k) {
    int64_t best = k;
    for (int64_t i = k; i < N; ++i)
      if (std::abs(K[i * N + k]) > std::abs(K[best * N + k])) best = i;
    for (int64_t j = 0; j < N; ++j) std::swap(K[k * N + j], K[best * N + j]);
    for (int64_t r = 0; r < rows; ++r) std::swap(Y[r * N + k], Y[r * N + best]);
    for (int64_t i = 0; i < N; ++i) {
      if (i == k) continue;
      const double f = K[i * N + k] / K[k * N + k];
      for (int64_t j = k; j < N; ++j) K[i * N + j] -= f * K[k * N + j];
      for (int64_t r = 0; r < rows; ++r) Y[r * N + i] -= f * Y[r * N + k];
    }
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < N; ++i) Y[r * N + i] /= K[i * N + i];
  return Y;
}

/// G = Fᵀ (F Fᵀ + λ I)⁻¹ for all positions, of which the first `keep` rows are returned.
Matrix dense_ridge(const Basis& basis, const std::vector<double>& t, int64_t keep, double lambda) {
  const int64_t N = basis.size(), P = int64_t(t.size());
  Matrix Ft = evaluate(basis, t), K = transposed_product(Ft, Ft, P, N, N);
  for (int64_t j = 0; j < N; ++j) K[j * N + j] += lambda;
  Ft.resize(keep * N);
  return solve(K, Ft, keep, N);
}

double worst(const Matrix& a, const Matrix& b) { return test::relative_error(a, b); }

std::vector<Basis> bases() {
  return {make_basis(BasisKind::gaussian, 16, {.05, .1}), make_basis(BasisKind::power, 5),
          make_basis(BasisKind::sine, 8), make_basis(BasisKind::cosine, 8), make_basis(BasisKind::rectangle, 8)};
}

}  // namespace

TEST_CASE("positions", "[ridge]") {
  CHECK(positions(2) == Matrix{.25, .75});
  CHECK(uniform_points(4) == Matrix{.25, .5, .75, 1});
  const Matrix t = contraction_positions(4, .5, 2);
  CHECK(t == Matrix{.125, .25, .375, .5, .75, 1});
  // Even: half as many on each side, reaching the midpoint before −½; odd: the last one beyond −½ belongs to it.
  CHECK(padding_positions(2) == Matrix{-.25, 1.25});
  const Matrix odd = padding_positions(3);
  REQUIRE(odd.size() == 4);
  for (auto [got, expected] : {std::pair{odd[0], -.5}, {odd[1], -1. / 6}, {odd[2], 7. / 6}, {odd[3], 1.5}})
    CHECK(got == Approx(expected));
  for (int64_t P : {1, 2, 3, 7, 64, 65}) {
    const Matrix pad = padding_positions(P);
    CHECK(int64_t(pad.size()) == 2 * ((P + 1) / 2));
    // With positions(P) in the middle the whole is one grid of spacing 1/P.
    Matrix all = positions(P);
    all.insert(all.end(), pad.begin(), pad.end());
    std::sort(all.begin(), all.end());
    for (size_t i = 1; i < all.size(); ++i) CHECK(all[i] - all[i - 1] == Approx(1. / double(P)));
    CHECK(all.front() >= -.5 - 1e-12);
    CHECK(all.back() <= 1.5 + 1e-12);
  }
  CHECK_THROWS_WITH(positions(0), Contains("[ridge]") && Contains("L = 0"));
  CHECK_THROWS_WITH(contraction_positions(4, 1.5, 2), Contains("tau") && Contains("1.5"));
  CHECK_THROWS_WITH(contraction_positions(0, .5, 2), Contains("R = 0"));
}

TEST_CASE("the ridge operator satisfies its normal equations and equals the dense formula", "[ridge]") {
  for (const Basis& basis : bases())
    for (int64_t L : {1, 3, 7, 32, 65})
      for (bool pad : {false, true})
        for (double lambda : {.01, 1.0}) {
          const int64_t N = basis.size();
          const Matrix t = positions(L), G = ridge_operator(basis, t, lambda, pad);
          REQUIRE(int64_t(G.size()) == L * N);
          Matrix all = t;
          if (pad)
            for (double zero : padding_positions(L)) all.push_back(zero);
          INFO(name(basis.kind) << ", L = " << L << ", pad = " << pad << ", lambda = " << lambda);
          CHECK(worst(G, dense_ridge(basis, all, L, lambda)) <= 1e-10);
          // G (F Fᵀ + λ I) = Fᵀ
          const Matrix F = evaluate(basis, all), K = transposed_product(F, F, int64_t(all.size()), N, N);
          Matrix left(L * N);
          for (int64_t l = 0; l < L; ++l)
            for (int64_t j = 0; j < N; ++j)
              for (int64_t k = 0; k < N; ++k) left[l * N + j] += G[l * N + k] * (K[k * N + j] + (j == k) * lambda);
          CHECK(worst(left, evaluate(basis, t)) <= 1e-10);
        }
}

TEST_CASE("the ridge fit is a minimum", "[ridge]") {
  const Basis basis = make_basis(BasisKind::gaussian, 12, {.05, .1});
  const int64_t L = 20, N = 12;
  const Matrix t = positions(L), psi = evaluate(basis, t);
  Matrix x(L);
  for (int64_t l = 0; l < L; ++l) x[l] = std::sin(9 * t[l]) + t[l];
  Matrix c = transposed_product(ridge_operator(basis, t, .3, false), x, L, N, 1);
  auto loss = [&](const Matrix& c) {
    double sum = 0;
    for (int64_t l = 0; l < L; ++l) {
      double fit = -x[l];
      for (int64_t j = 0; j < N; ++j) fit += psi[l * N + j] * c[j];
      sum += fit * fit;
    }
    for (double cj : c) sum += .3 * cj * cj;
    return sum;
  };
  const double least = loss(c);
  for (int64_t j = 0; j < N; ++j)
    for (double step : {-1e-3, 1e-3}) {
      Matrix moved = c;
      moved[j] += step;
      CHECK(loss(moved) > least);
    }
}

TEST_CASE("an unfit ridge problem says so", "[ridge]") {
  // Two points cannot determine eight functions, unless lambda does.
  const Basis basis = make_basis(BasisKind::sine, 8);
  CHECK_THROWS_WITH(ridge_operator(basis, positions(2), 0, false),
                    Contains("[ridge]") && Contains("not positive definite") && Contains("raise lambda"));
  CHECK_NOTHROW(ridge_operator(basis, positions(2), 1e-3, false));
  CHECK_NOTHROW(ridge_operator(basis, positions(64), 0, false));
  CHECK_THROWS_WITH(ridge_operator(basis, positions(2), -1, false), Contains("lambda must not be negative"));
  CHECK_THROWS_WITH(ridge_operator(basis, positions(2), NAN, false), Contains("lambda"));
}

TEST_CASE("a smooth signal is stored and read back", "[ridge]") {
  const Basis basis = make_basis(BasisKind::gaussian, 128, {.01, .05});
  const int64_t L = 256, N = 128;
  const Matrix t = positions(L);
  Matrix x(L);
  for (int64_t l = 0; l < L; ++l) x[l] = std::sin(6 * t[l]) + .5 * std::cos(25 * t[l]);
  for (bool pad : {false, true}) {
    const Matrix c = transposed_product(ridge_operator(basis, t, .5, pad), x, L, N, 1);
    test::Largest error, inner, outside;
    for (int64_t i = 0; i <= 400; ++i) {  // between the nodes, too
      const double at = i / 400.;
      double read = 0;
      const Matrix psi = basis.evaluate(at);
      for (int64_t j = 0; j < N; ++j) read += psi[j] * c[j];
      const double off = std::abs(read - (std::sin(6 * at) + .5 * std::cos(25 * at)));
      error.add(off);
      if (at > .1 && at < .9) inner.add(off);
    }
    for (double at : {-.1, -.05, 1.05, 1.1}) {
      double read = 0;
      const Matrix psi = basis.evaluate(at);
      for (int64_t j = 0; j < N; ++j) read += psi[j] * c[j];
      outside.add(std::abs(read));
    }
    INFO("pad " << pad << ": error " << error.value << ", inner " << inner.value << ", outside " << outside.value);
    CHECK(inner.value <= 5e-3);
    if (!pad) CHECK(error.value <= 2e-2);
    if (pad) CHECK(outside.value <= .05);  // the signal is pinned to zero outside
  }
}

TEST_CASE("a contraction follows its formula", "[ridge]") {
  for (const Basis& basis : bases())
    for (bool pad : {false, true})
      for (int64_t L : {1, 7, 24}) {
        const int64_t N = basis.size(), R = 20, C = 3;
        const double tau = .6, lambda = .5;
        INFO(name(basis.kind) << ", L = " << L << ", pad = " << pad);
        const Contraction c = contraction(basis, R, tau, L, lambda, pad);
        // G from the dense formula at the positions of docs/continuous-memory.md, written out again
        Matrix t;
        for (int64_t i = 1; i <= R; ++i) t.push_back(tau * double(i) / double(R));
        for (int64_t l = 1; l <= L; ++l) t.push_back(tau + (1 - tau) * double(l) / double(L));
        if (pad)
          for (double zero : padding_positions(R + L)) t.push_back(zero);
        Matrix G = dense_ridge(basis, t, R + L, lambda), joined = c.G_old;
        joined.insert(joined.end(), c.G_new.begin(), c.G_new.end());
        CHECK(worst(joined, G) <= 1e-9);
        // A coeffs_old + G_newᵀ X_new against reading the signal, then fitting
        Matrix old(N * C), fresh(L * C);
        for (size_t i = 0; i < old.size(); ++i) old[i] = std::sin(double(3 * i + 1));
        for (size_t i = 0; i < fresh.size(); ++i) fresh[i] = std::cos(double(5 * i + 2));
        Matrix points;
        for (int64_t i = 1; i <= R; ++i) points.push_back(double(i) / double(R));
        const Matrix psi = evaluate(basis, points);  // (R, N)
        Matrix read(R * C), plain(N * C), quick = transposed_product(c.G_new, fresh, L, N, C);
        for (int64_t i = 0; i < R; ++i)
          for (int64_t j = 0; j < N; ++j)
            for (int64_t d = 0; d < C; ++d) read[i * C + d] += psi[i * N + j] * old[j * C + d];
        Matrix both = read;
        both.insert(both.end(), fresh.begin(), fresh.end());
        plain = transposed_product(G, both, R + L, N, C);
        for (int64_t i = 0; i < N; ++i)
          for (int64_t j = 0; j < N; ++j)
            for (int64_t d = 0; d < C; ++d) quick[i * C + d] += c.A[i * N + j] * old[j * C + d];
        CHECK(worst(quick, plain) <= 1e-9);
      }
}

namespace {

/// A signal of which every vector is 1.
struct Constant {
  static constexpr int64_t L = 128, R = 256;
  static constexpr double tau = .75;
  Constant(const Basis& basis, double lambda, bool pad)
      : basis(basis),
        c(contraction(basis, R, tau, L, lambda, pad)),
        fresh(ones(c.G_new)),
        coeffs(ones(ridge_operator(basis, positions(L), lambda, pad))) {}
  void update() {
    const int64_t N = basis.size();
    Matrix next = fresh;
    for (int64_t i = 0; i < N; ++i)
      for (int64_t j = 0; j < N; ++j) next[i] += c.A[i * N + j] * coeffs[j];
    coeffs = next;
  }
  double read(double at) const {
    const Matrix psi = basis.evaluate(at);
    return std::inner_product(psi.begin(), psi.end(), coeffs.begin(), 0.0);
  }
  Matrix ones(const Matrix& G) const { return transposed_product(G, Matrix(L, 1.0), L, basis.size(), 1); }

  Basis basis;
  Contraction c;
  Matrix fresh, coeffs;
};

}  // namespace

// Without padding a constant stays one, but for the shrinking by λ. With padding the fit falls to about a half at both
// ends, where the zeros begin; the next update reads that fall at u = 1 and places it at τ, the one after at τ², and so
// on. So a constant is kept away from 0, 1 and the powers of τ, and near those it doesn't run away however many updates
// follow.
TEST_CASE("a contraction keeps a constant signal", "[ridge]") {
  for (bool pad : {false, true})
    for (double lambda : {1e-6, .5}) {
      Constant signal(make_basis(BasisKind::gaussian, 64, {.02, .05}), lambda, pad);
      for (int update = 1; update <= 20; ++update) {
        signal.update();
        test::Largest off, off_away;  // largest deviation on [.1, .9], and away from τ
        for (double at = .1; at <= .9; at += .01) {
          off.add(std::abs(signal.read(at) - 1));
          if (std::abs(at - Constant::tau) > .1) off_away.add(std::abs(signal.read(at) - 1));
        }
        INFO("pad " << pad << ", lambda " << lambda << ", update " << update << ": off by " << off.value
                    << ", away from tau " << off_away.value);
        CHECK(off.value <= (pad ? .3 : lambda < .1 ? 1e-3 : 5e-3));
        if (pad && update == 1) CHECK(off_away.value <= .06);
      }
    }
}

// Powers, cosines and rectangles hold a constant exactly, and both ends of it.
TEST_CASE("a contraction keeps a constant signal up to both ends on every basis that can", "[ridge]") {
  struct Case {
    Basis basis;
    bool pad;
  };
  const Case cases[] = {{make_basis(BasisKind::power, 8), false},
                        {make_basis(BasisKind::cosine, 64), false},
                        {make_basis(BasisKind::rectangle, 64), false},
                        {make_basis(BasisKind::rectangle, 64), true}};  // whose boxes hold none of the zeros
  for (const auto& [basis, pad] : cases) {
    Constant signal(basis, 1e-6, pad);
    for (int update = 0; update <= 20; ++update, signal.update())
      for (int64_t i = 0; i <= 400; ++i) {
        INFO(name(basis.kind) << ", pad " << pad << ", update " << update << ", at " << double(i) / 400);
        REQUIRE(std::abs(signal.read(double(i) / 400) - 1) <= 1e-5);
      }
  }
}

TEST_CASE("memories that cannot keep a constant signal say so", "[ridge]") {
  MemoryOptions o;
  o.N = 64, o.widths = {.02, .05};
  for (BasisKind kind :
       {BasisKind::gaussian, BasisKind::power, BasisKind::sine, BasisKind::cosine, BasisKind::rectangle})
    for (bool pad : {false, true}) {
      const Basis basis = kind == BasisKind::gaussian ? make_basis(kind, 64, o.widths)
                                                      : make_basis(kind, kind == BasisKind::power ? 8 : 64);
      Constant signal(basis, 1e-6, pad);
      for (int update = 0; update < 20; ++update) signal.update();
      double mean = 0;
      for (int64_t i = 0; i < 400; ++i) mean += signal.read((double(i) + .5) / 400) / 400;
      o.basis = kind, o.padding = pad;
      INFO(name(kind) << ", pad " << pad << ": reads " << mean << ", at 1 " << signal.read(1));
      CHECK(advice(o).empty() == (mean > .9 && signal.read(1) > .2));
    }
  o.basis = BasisKind::sine, o.padding = true;
  CHECK_THAT(advice(o), Contains("sine") && Contains("take the cosine") && Contains("turn padding off"));
}
