// Relative attention: the plain oracle against finite differences, then the tiled kernels against the oracle.
#include <omp.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "tensor/backend.h"
#include "tests/catch.h"
#include "tests/naive_relative_attention.h"
#include "tests/numeric.h"

namespace {

using namespace lem;
using naive::Array;
using Inputs = naive::RelativeAttentionInputs;
using Reals = std::vector<real>;

constexpr double kTolerance = kDouble ? 1e-12 : 2e-5;
constexpr real kNaN = std::numeric_limits<real>::quiet_NaN();

Array normals(Random& random, int64_t n) {
  const Stream stream = random.stream();
  Array x(static_cast<size_t>(n));
  // Rounded to float, so that the kernels get the very same numbers as the oracle.
  for (int64_t i = 0; i < n; ++i) x[size_t(i)] = double(float(stream.normal(uint64_t(i))));
  return x;
}

Inputs random_inputs(RelativeAttention s, std::vector<int32_t> first_key = {}) {
  Random random{17};
  s.scale = real(1 / std::sqrt(double(s.D)));
  const int64_t C = s.H * s.D;
  Inputs x{s,
           normals(random, s.B * s.T * C),
           normals(random, s.B * s.K * C),
           normals(random, s.B * s.K * C),
           normals(random, s.K * C),
           normals(random, C),
           normals(random, C),
           std::move(first_key)};
  return x;
}

Array random_dout(const Inputs& x) {
  Random random{18};
  return normals(random, int64_t(x.q.size()));
}

Reals to_real(const Array& x) { return Reals(x.begin(), x.end()); }

struct Results {
  Reals out, lse, dq, dk, dv, dr, du, dw;
};

/// The kernels, forward and backward. Outputs begin as NaN, which must be overwritten; du and dw are added to `start`.
Results run_kernels(const Inputs& x, const Array& dout_, real start = 0) {
  const Reals q = to_real(x.q), k = to_real(x.k), v = to_real(x.v), r = to_real(x.r), u = to_real(x.u),
              w = to_real(x.w), dout = to_real(dout_);
  const int32_t* first_key = x.first_key.empty() ? nullptr : x.first_key.data();
  Results y{Reals(q.size(), kNaN),  Reals(size_t(x.s.B * x.s.H * x.s.T), kNaN),
            Reals(q.size(), kNaN),  Reals(k.size(), kNaN),
            Reals(k.size(), kNaN),  Reals(r.size(), kNaN),
            Reals(u.size(), start), Reals(w.size(), start)};
  cpu::relative_attention_forward(y.out.data(), y.lse.data(), q.data(), k.data(), v.data(), r.data(), u.data(),
                                  w.data(), first_key, x.s);
  cpu::relative_attention_backward(y.dq.data(), y.dk.data(), y.dv.data(), y.dr.data(), y.du.data(), y.dw.data(),
                                   dout.data(), y.out.data(), y.lse.data(), q.data(), k.data(), v.data(), r.data(),
                                   u.data(), w.data(), first_key, x.s);
  return y;
}

/// Inputs are of order one, so the rounding of a gradient that is truly zero (a single key's) is counted against one.
template <class Got>
double error(const Got& got, const Array& want) {
  return test::relative_error(got, want, 1);
}

/// The largest of the outputs' errors against the oracle, and whose it is.
struct Errors {
  test::Largest worst;
  std::string name;
};
Errors errors(const Results& y, const Inputs& x, const Array& dout) {
  const auto want = naive::relative_attention_forward(x);
  const auto g = naive::relative_attention_backward(dout, x);
  Errors e;
  const auto note = [&](const char* name, double error) {
    const double before = e.worst.value;
    e.worst.add(error);
    if (e.worst.value > before) e.name = name;
  };
  note("out", error(y.out, want.out)), note("lse", error(y.lse, want.lse));
  note("dq", error(y.dq, g.dq)), note("dk", error(y.dk, g.dk)), note("dv", error(y.dv, g.dv));
  note("dr", error(y.dr, g.dr)), note("du", error(y.du, g.du)), note("dw", error(y.dw, g.dw));
  return e;
}

void expect_agreement(const Inputs& x) {
  const RelativeAttention& s = x.s;
  const Array dout = random_dout(x);
  const Errors e = errors(run_kernels(x, dout), x, dout);
  CAPTURE(s.B, s.H, s.T, s.K, s.D, s.window, s.dropout.p, x.first_key, e.name);
  CHECK(e.worst.value <= kTolerance);
}

/// Directional check of one argument: Σ dout·out by differences of fourth order along every element.
void expect_derivative(const char* name, Inputs& x, Array& argument, const Array& gradient, const Array& dout) {
  const auto loss = [&] {
    const Array out = naive::relative_attention_forward(x).out;
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
    return sum;
  };
  const double h = 1e-3;
  Array numeric(argument.size());
  for (size_t i = 0; i < argument.size(); ++i) {
    const double at = argument[i];
    const auto shifted = [&](double by) { return argument[i] = at + by, loss(); };
    numeric[i] = (8 * (shifted(h) - shifted(-h)) - (shifted(2 * h) - shifted(-2 * h))) / (12 * h);
    argument[i] = at;
  }
  CAPTURE(name);
  CHECK(error(gradient, numeric) <= 1e-7);
}

}  // namespace

TEST_CASE("naive relative attention: its gradients are those of finite differences", "[relative_attention]") {
  Inputs x = GENERATE(random_inputs({.B = 2, .T = 4, .K = 7, .H = 2, .D = 3}),
                      random_inputs({.B = 1, .T = 5, .K = 5, .H = 1, .D = 4, .window = 2}),
                      random_inputs({.B = 2, .T = 3, .K = 6, .H = 2, .D = 2}, {4, 1}),
                      random_inputs({.B = 1, .T = 4, .K = 6, .H = 2, .D = 3, .dropout = {real(.3), {3, 4}}}));
  const Array dout = random_dout(x);
  const auto g = naive::relative_attention_backward(dout, x);
  expect_derivative("q", x, x.q, g.dq, dout);
  expect_derivative("k", x, x.k, g.dk, dout);
  expect_derivative("v", x, x.v, g.dv, dout);
  expect_derivative("r", x, x.r, g.dr, dout);
  expect_derivative("u", x, x.u, g.du, dout);
  expect_derivative("w", x, x.w, g.dw, dout);
}

TEST_CASE("relative attention equals the oracle at awkward sizes", "[relative_attention]") {
  const int64_t T = GENERATE(1, 31, 33, 65, 257), D = GENERATE(1, 3, 8, 41, 50, 64);
  const int64_t before = GENERATE(0, 1, 70);
  const bool large = T * D > 5000;
  expect_agreement(
      random_inputs({.B = large ? 1 : 1 + T % 3, .T = T, .K = T + before, .H = large ? 2 : 1 + D % 3, .D = D}));
}

TEST_CASE("relative attention equals the oracle over several blocks of keys", "[relative_attention]") {
  const int64_t K = GENERATE(512, 513, 1100);
  const int64_t window = GENERATE(0, 1, 40, 600);
  expect_agreement(random_inputs({.B = 2, .T = 70, .K = K, .H = 1, .D = 10, .window = window}, {0, 530}));
}

TEST_CASE("relative attention equals the oracle with every option", "[relative_attention]") {
  const int64_t T = GENERATE(20, 65), before = GENERATE(0, 33, 520), window = GENERATE(0, 1, 17, 64);
  const real p = GENERATE(real(0), real(.25));
  const auto first_key = GENERATE(std::vector<int32_t>{}, std::vector<int32_t>{0, 13, 19});
  expect_agreement(random_inputs(
      {.B = 3, .T = T, .K = T + before, .H = 2, .D = 18, .window = window, .dropout = {p, {11, 5}}}, first_key));
}

TEST_CASE("relative attention: a query that sees no key gives zeros, not NaN", "[relative_attention]") {
  const Inputs x = random_inputs({.B = 2, .T = 40, .K = 45, .H = 2, .D = 5}, {20, 45});
  expect_agreement(x);
  const Results y = run_kernels(x, random_dout(x));
  for (int64_t i = 0; i < 15 * 10; ++i)
    REQUIRE(y.out[size_t(i)] == 0);  // batch row 0: queries 0 … 14 stand before key 20
  REQUIRE(y.lse[0] == -std::numeric_limits<real>::infinity());
}

TEST_CASE("relative attention of nothing is nothing", "[relative_attention]") {
  const RelativeAttention s = GENERATE(RelativeAttention{.B = 2, .T = 0, .K = 0, .H = 2, .D = 3},
                                       RelativeAttention{.B = 0, .T = 4, .K = 6, .H = 2, .D = 3});
  const Inputs x = random_inputs(s);
  const Results y = run_kernels(x, random_dout(x), 7);
  for (const real d : y.du) CHECK(d == 7);
  for (const real d : y.dr) CHECK(d == 0);
}

TEST_CASE("relative attention of no queries has zero gradients", "[relative_attention]") {
  const Inputs x = random_inputs({.B = 2, .T = 0, .K = 9, .H = 2, .D = 3});
  const Results y = run_kernels(x, {});
  for (const Reals* d : {&y.dk, &y.dv, &y.dr, &y.du, &y.dw})
    for (const real di : *d) REQUIRE(di == 0);
}

TEST_CASE("relative attention: gradients of parameters are added, all others written", "[relative_attention]") {
  const Inputs x = random_inputs({.B = 2, .T = 9, .K = 12, .H = 2, .D = 5});
  const Array dout = random_dout(x);
  const Results from_zero = run_kernels(x, dout, 0), from_two = run_kernels(x, dout, 2);
  for (size_t i = 0; i < from_zero.du.size(); ++i) {
    CHECK(from_two.du[i] == 2 + from_zero.du[i]);
    CHECK(from_two.dw[i] == 2 + from_zero.dw[i]);
  }
  CHECK(from_two.dr == from_zero.dr);
}

TEST_CASE("relative attention gives the same bits for any number of threads", "[relative_attention]") {
  const Inputs x = random_inputs({.B = 2, .T = 130, .K = 600, .H = 3, .D = 20, .dropout = {real(.1), {1, 2}}});
  const Array dout = random_dout(x);
  const int threads = omp_get_max_threads();
  const auto bits = [&](int n) {
    omp_set_num_threads(n);
    const Results y = run_kernels(x, dout);
    omp_set_num_threads(threads);
    Reals all;
    for (const Reals* part : {&y.out, &y.lse, &y.dq, &y.dk, &y.dv, &y.dr, &y.du, &y.dw})
      all.insert(all.end(), part->begin(), part->end());
    return all;
  };
  const Reals one = bits(1);
  for (const int n : {1, 2, 3, 8, 16}) {
    const Reals many = bits(n);
    CAPTURE(n);
    CHECK(std::memcmp(one.data(), many.data(), one.size() * sizeof(real)) == 0);
  }
}

TEST_CASE("relative attention lets NaN through to everything that depends on it", "[relative_attention]") {
  Inputs x = random_inputs({.B = 1, .T = 30, .K = 40, .H = 1, .D = 4});
  const int64_t j = 25;  // seen by queries 15 … 29
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto rows_with_nan = [](const Reals& y, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i)
      if (!std::isnan(y[size_t(i * 4)])) return false;
    return true;
  };
  SECTION("a key") {
    x.k[size_t(j * 4 + 1)] = nan;
    const Results y = run_kernels(x, random_dout(x));
    CHECK((rows_with_nan(y.out, 15, 30) && rows_with_nan(y.dq, 15, 30) && rows_with_nan(y.dv, 0, 40)));
    CHECK(std::isnan(y.du[0]));
  }
  SECTION("a value") {
    x.v[size_t(j * 4)] = nan;
    const Results y = run_kernels(x, random_dout(x));
    CHECK((rows_with_nan(y.out, 15, 30) && rows_with_nan(y.dq, 15, 30) && rows_with_nan(y.dk, 0, 40)));
  }
  SECTION("a query") {
    x.q[size_t(7 * 4)] = nan;
    const Results y = run_kernels(x, random_dout(x));
    CHECK((rows_with_nan(y.out, 7, 8) && rows_with_nan(y.dk, 0, 18) && rows_with_nan(y.dr, 22, 40)));
    CHECK(!std::isnan(y.out[8 * 4]));
  }
  SECTION("an incoming gradient") {
    Array dout = random_dout(x);
    dout[0] = nan;
    const Results y = run_kernels(x, dout);
    CHECK((rows_with_nan(y.dq, 0, 1) && rows_with_nan(y.dv, 0, 11) && std::isnan(y.dw[0])));
  }
}

// A check that cannot fail proves nothing: results for slightly other inputs must be told apart from the right ones.
TEST_CASE("relative attention: planted errors are seen", "[relative_attention]") {
  const Inputs x =
      random_inputs({.B = 2, .T = 40, .K = 60, .H = 2, .D = 6, .window = 30, .dropout = {real(.2), {5, 6}}}, {10, 20});
  const Array dout = random_dout(x);
  const auto error_with = [&](auto change) {
    Inputs wrong = x;
    change(wrong);
    return errors(run_kernels(wrong, dout), x, dout).worst.value;
  };
  const double visible = 1000 * kTolerance;
  CHECK(error_with([](Inputs&) {}) <= kTolerance);
  CHECK(error_with([](Inputs& y) { y.s.window++; }) > visible);
  CHECK(error_with([](Inputs& y) { y.s.window--; }) > visible);
  CHECK(error_with([](Inputs& y) { y.first_key[1]++; }) > visible);
  CHECK(error_with([](Inputs& y) { y.s.dropout.stream.stream++; }) > visible);
  CHECK(error_with([](Inputs& y) { std::rotate(y.r.begin(), y.r.begin() + 12, y.r.end()); }) > visible);
  CHECK(error_with([](Inputs& y) { std::swap(y.u, y.w); }) > visible);
  CHECK(error_with([](Inputs& y) { y.s.scale = 1; }) > visible);

  const Results right = run_kernels(x, dout);
  const auto error_after = [&](auto change) {
    Results y = right;
    change(y);
    return errors(y, x, dout).worst.value;
  };
  CHECK(error_after([](Results& y) { y.du[7] = 0; }) > visible);
  CHECK(error_after([](Results& y) { y.dr[300] = kNaN; }) > visible);
  CHECK(error_after([](Results& y) { std::fill(y.dw.begin(), y.dw.end(), 0); }) > visible);
}
