// Relative attention, held against its plain loops.
#include <cmath>

#include "tests/kernel_check.h"
#include "tests/naive_relative_attention.h"

namespace lem::test {
namespace {

/// Inputs are of order one, so the rounding of a gradient that is truly zero (a single key's) is counted against one.
constexpr double kMagnitude = 1;

/// lse of forward goes into backward, so the two are one case.
void run_attention(KernelCall& c, const RelativeAttention& s, const std::vector<int32_t>& first_keys) {
  const int64_t C = s.H * s.D, queries = s.B * s.T * C, keys = s.B * s.K * C;
  const Reals out = c.output("out", queries), lse = c.output("lse", s.B * s.H * s.T), q = c.input("q", queries),
              k = c.input("k", keys), v = c.input("v", keys), r = c.input("r", s.K * C), u = c.input("u", C),
              w = c.input("w", C);
  const Ints first = c.input("first_key", first_keys);
  const int32_t* first_key = first_keys.empty() ? nullptr : first.data;
  on(c.device).relative_attention_forward(out, lse, q, k, v, r, u, w, first_key, s);
  const Reals dq = c.output("dq", queries), dk = c.output("dk", keys), dv = c.output("dv", keys),
              dr = c.output("dr", s.K * C), du = c.in_out("du", C), dw = c.in_out("dw", C),
              dout = c.input("dout", queries);
  on(c.device).relative_attention_backward(dq, dk, dv, dr, du, dw, dout, out, lse, q, k, v, r, u, w, first_key, s);
  if (!c.judged) return;

  const naive::RelativeAttentionInputs x{s,           q.doubles(), k.doubles(), v.doubles(),
                                         r.doubles(), u.doubles(), w.doubles(), first_keys};
  const auto y = naive::relative_attention_forward(x);
  const auto g = naive::relative_attention_backward(dout.doubles(), x);
  c.expect(out, y.out, kMagnitude);
  c.expect(lse, y.lse, kMagnitude);
  c.expect(dq, g.dq, kMagnitude);
  c.expect(dk, g.dk, kMagnitude);
  c.expect(dv, g.dv, kMagnitude);
  c.expect(dr, g.dr, kMagnitude);
  c.expect(
      du, [&](int64_t i) { return du[i] + g.du[size_t(i)]; }, kMagnitude);
  c.expect(
      dw, [&](int64_t i) { return dw[i] + g.dw[size_t(i)]; }, kMagnitude);
}

/// first_key: (B) or empty
void add_attention(std::vector<KernelCase>& table, RelativeAttention s, const std::vector<int32_t>& first_key = {}) {
  s.scale = real(1 / std::sqrt(double(s.D))), s.dropout.stream = {101, 102},
  s.dropout.first = uint64_t(1000003 * s.T * s.K);
  table.push_back({"relative_attention_forward",
                   fmt::format("B {}, T {}, K {}, H {}, D {}, window {}, p = {}{}", s.B, s.T, s.K, s.H, s.D, s.window,
                               s.dropout.p, first_key.empty() ? "" : ", first_key"),
                   [=](KernelCall& c) { run_attention(c, s, first_key); }, false});
}

}  // namespace

void add_attention_kernels(std::vector<KernelCase>& table) {
  add_attention(table, {.B = 1, .T = 1, .K = 1, .H = 1, .D = 1});
  add_attention(table, {.B = 2, .T = 31, .K = 33, .H = 3, .D = 5});
  add_attention(table, {.B = 1, .T = 32, .K = 64, .H = 2, .D = 8});
  add_attention(table, {.B = 2, .T = 33, .K = 257, .H = 1, .D = 33, .dropout = {real(0.2)}});
  add_attention(table, {.B = 2, .T = 100, .K = 700, .H = 2, .D = 4, .window = 64, .dropout = {real(0.1)}}, {650, 0});
  add_attention(table, {.B = 1, .T = 257, .K = 257, .H = 2, .D = 31}, {3});
  add_attention(table, {.B = 3, .T = 5, .K = 8, .H = 2, .D = 4, .window = 2}, {8, 6, 0});
  add_attention(table, {.B = 1, .T = 33, .K = 70, .H = 1, .D = 66, .dropout = {real(0.2)}});
  add_attention(table, {.B = 2, .T = 20, .K = 70, .H = 2, .D = 100, .window = 40}, {30, 0});
  const size_t small = table.size();
  add_attention(table, {.B = 1, .T = 1000, .K = 1000, .H = 1, .D = 2, .dropout = {real(0.2)}});
  add_attention(table, {.B = 16, .T = 64, .K = 128, .H = 4, .D = 16, .dropout = {real(0.1)}});  // the demo's
  add_attention(table, {.B = 1, .T = 128, .K = 256, .H = 6, .D = 50, .dropout = {real(0.1)}});  // the paper's heads
  mark_large(table, small);
}

}  // namespace lem::test
