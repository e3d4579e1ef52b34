// The tiled relative attention of the GPU's backends against the plain oracle: sizes on both sides of every tile's
// edge, and all options.
#include <cmath>
#include <limits>
#include <string>

#include "tensor/backend.h"
#include "tensor/error.h"
#include "tests/catch.h"
#include "tests/kernel_check.h"
#include "tests/naive_relative_attention.h"

namespace {

using namespace lem;
using naive::Array;
using Inputs = naive::RelativeAttentionInputs;

/// Relative to the norm of the whole result.
constexpr double kTolerance = 1e-5;

Array normals(uint64_t number, int64_t n) {
  Array x(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) x[size_t(i)] = double(float(Stream{23, number}.normal(uint64_t(i))));
  return x;
}

Inputs random_inputs(RelativeAttention s, std::vector<int32_t> first_key = {}) {
  s.scale = real(1 / std::sqrt(double(s.D)));
  const int64_t C = s.H * s.D;
  return {s,
          normals(1, s.B * s.T * C),
          normals(2, s.B * s.K * C),
          normals(3, s.B * s.K * C),
          normals(4, s.K * C),
          normals(5, C),
          normals(6, C),
          std::move(first_key)};
}

/// Numbers on the device, followed by some that must stay as they are.
template <class T>
struct OnDevice {
  static constexpr size_t kGuard = 16;
  const Backend& device;
  size_t n;
  T* data;

  OnDevice(const Backend& device, const std::vector<T>& values) : device(device), n(values.size()) {
    std::vector<T> all = values;
    all.resize(n + kGuard, T(77));
    data = static_cast<T*>(device.allocate(all.size() * sizeof(T)));
    device.upload(data, all.data(), all.size() * sizeof(T));
  }
  OnDevice(const OnDevice&) = delete;
  ~OnDevice() { device.release(data); }
  std::vector<T> values() const {
    std::vector<T> all(n + kGuard);
    device.download(all.data(), data, all.size() * sizeof(T));
    for (size_t i = n; i < all.size(); ++i) REQUIRE(all[i] == T(77));
    all.resize(n);
    return all;
  }
};
using Reals = OnDevice<real>;
std::vector<real> to_real(const Array& x) { return {x.begin(), x.end()}; }
std::vector<real> nothing(size_t n) { return std::vector<real>(n, std::numeric_limits<real>::quiet_NaN()); }

void expect_close(const char* name, const Reals& got, const Array& want) {
  const std::vector<real> y = got.values();
  REQUIRE(y.size() == want.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = double(y[i]) == want[i] ? 0 : double(y[i]) - want[i];  // also −∞, the lse of a query without keys
    difference += d * d;
    if (std::isfinite(want[i])) norm += want[i] * want[i];
  }
  // A gradient that is truly zero (a single key's) is counted against the inputs, which are of order one.
  norm = std::max(norm, double(want.size()));
  CAPTURE(name);
  CHECK(std::sqrt(difference) <= kTolerance * std::sqrt(norm));
}

void expect_agreement(Device where, const Inputs& x) {
  const RelativeAttention& s = x.s;
  CAPTURE(name(where), s.B, s.T, s.K, s.H, s.D, s.window, s.dropout.p, x.first_key);
  const Array dout = normals(7, int64_t(x.q.size()));
  const auto want = naive::relative_attention_forward(x);
  const auto g = naive::relative_attention_backward(dout, x);

  const Backend& d = backend(where);
  const Reals q(d, to_real(x.q)), k(d, to_real(x.k)), v(d, to_real(x.v)), r(d, to_real(x.r)), u(d, to_real(x.u)),
      w(d, to_real(x.w)), dy(d, to_real(dout));
  const OnDevice<int32_t> first(d, x.first_key);
  const int32_t* first_key = x.first_key.empty() ? nullptr : first.data;
  const Reals out(d, nothing(x.q.size())), lse(d, nothing(size_t(s.B * s.H * s.T)));
  d.kernels.relative_attention_forward(out.data, lse.data, q.data, k.data, v.data, r.data, u.data, w.data, first_key,
                                       s);
  expect_close("out", out, want.out);
  expect_close("lse", lse, want.lse);

  // du and dw are added to.
  const Reals dq(d, nothing(x.q.size())), dk(d, nothing(x.k.size())), dv(d, nothing(x.v.size())),
      dr(d, nothing(x.r.size())), du(d, std::vector<real>(x.u.size(), 1)), dw(d, std::vector<real>(x.w.size(), 1));
  d.kernels.relative_attention_backward(dq.data, dk.data, dv.data, dr.data, du.data, dw.data, dy.data, out.data,
                                        lse.data, q.data, k.data, v.data, r.data, u.data, w.data, first_key, s);
  const auto plus_one = [](Array a) {
    for (double& e : a) e += 1;
    return a;
  };
  expect_close("dq", dq, g.dq);
  expect_close("dk", dk, g.dk);
  expect_close("dv", dv, g.dv);
  expect_close("dr", dr, g.dr);
  expect_close("du", du, plus_one(g.du));
  expect_close("dw", dw, plus_one(g.dw));
}

void on_devices(const Inputs& x) {
  for (Device where : test::devices())
    if (where != Device::cpu) expect_agreement(where, x);
}

}  // namespace

TEST_CASE("relative attention in CUDA equals the oracle at awkward sizes", "[relative_attention][device]") {
  const int64_t T = GENERATE(1, 64, 65), before = GENERATE(0, 1, 70), D = GENERATE(1, 18, 33);
  on_devices(random_inputs({.B = 2, .T = T, .K = T + before, .H = 1 + D % 3, .D = D}));
}

TEST_CASE("relative attention in CUDA equals the oracle for wide heads", "[relative_attention][device]") {
  const int64_t D = GENERATE(64, 65, 128);
  on_devices(random_inputs({.B = 1, .T = 70, .K = 100, .H = 1, .D = D}));
}

TEST_CASE("relative attention in CUDA equals the oracle with every option", "[relative_attention][device]") {
  const int64_t T = GENERATE(20, 130), before = GENERATE(0, 150), window = GENERATE(0, 1, 64, 100000);
  const real p = GENERATE(real(0), real(.25));
  const auto first_key = GENERATE(std::vector<int32_t>{}, std::vector<int32_t>{80, 13});
  on_devices(random_inputs({.B = 2, .T = T, .K = T + before, .H = 2, .D = 6, .window = window, .dropout = {p, {11, 5}}},
                           first_key));
}

TEST_CASE("relative attention in CUDA equals the oracle for odd and wide heads with every option",
          "[relative_attention][device]") {
  const int64_t D = GENERATE(33, 100), window = GENERATE(0, 1, 40);
  const real p = GENERATE(real(0), real(.25));
  on_devices(
      random_inputs({.B = 2, .T = 70, .K = 131, .H = 1, .D = D, .window = window, .dropout = {p, {11, 5}}}, {80, 13}));
}

TEST_CASE("relative attention in CUDA: queries that see no key, no queries, no batch", "[relative_attention][device]") {
  on_devices(random_inputs({.B = 3, .T = 140, .K = 150, .H = 2, .D = 5}, {100, 150, -3}));
  on_devices(random_inputs({.B = 2, .T = 0, .K = 9, .H = 2, .D = 3}));
  on_devices(random_inputs({.B = 2, .T = 0, .K = 0, .H = 2, .D = 3}));
  on_devices(random_inputs({.B = 0, .T = 4, .K = 6, .H = 2, .D = 3}));
}

TEST_CASE("relative attention in CUDA says which heads are too wide for it, and what is too large",
          "[relative_attention][device]") {
  if (!simt::backend()) return;
  CHECK_THROWS_WITH(expect_agreement(Device::simt, random_inputs({.B = 1, .T = 2, .K = 2, .H = 1, .D = 129})),
                    Catch::Contains("got D = 129, expected at most 128"));
  const RelativeAttention vast{.B = 1, .T = 1, .K = 4000000, .H = 8, .D = 128};
  CHECK_THROWS_WITH(on(Device::simt)
                        .relative_attention_forward(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                                                    nullptr, nullptr, vast),
                    Catch::Contains("K × H × D = 4000000 × 8 × 128 numbers: expected fewer than 2³¹"));
}
