// Kernels of relative attention and of the continuous memory. The larger ones are held against their naive forms in
// tests of their own (relative_attention_test.cpp, continuous_*_test.cpp); here they are run for guards, poison and
// reproducible bits.
#include <algorithm>
#include <cmath>

#include "tests/kernel_check.h"

namespace lem::test {
namespace {

// ---- relative attention

struct Attention {
  int64_t B, T, K, H, D, window;
  real p;
  std::vector<int32_t> first_key;  // (B) or empty
};

void add_attention(std::vector<KernelCase>& table, const Attention& a) {
  const int64_t C = a.H * a.D;
  const RelativeAttention s{.B = a.B,
                            .T = a.T,
                            .K = a.K,
                            .H = a.H,
                            .D = a.D,
                            .window = a.window,
                            .scale = real(0.5),
                            .dropout = {a.p, {101, 102}}};
  const std::string options = fmt::format("B {}, T {}, K {}, H {}, D {}, window {}, p = {}{}", a.B, a.T, a.K, a.H, a.D,
                                          a.window, a.p, a.first_key.empty() ? "" : ", first_key");
  // lse of forward goes into backward, so the two are one case.
  table.push_back({"relative_attention_forward", options,
                   [=](KernelCall& c) {
                     const Reals out = c.output("out", a.B * a.T * C), lse = c.output("lse", a.B * a.H * a.T),
                                 q = c.input("q", a.B * a.T * C), k = c.input("k", a.B * a.K * C),
                                 v = c.input("v", a.B * a.K * C), r = c.input("r", a.K * C), u = c.input("u", C),
                                 w = c.input("w", C);
                     const Ints first = c.input("first_key", a.first_key);
                     const int32_t* first_key = a.first_key.empty() ? nullptr : first.data;
                     on(c.device).relative_attention_forward(out, lse, q, k, v, r, u, w, first_key, s);
                     const Reals dq = c.output("dq", a.B * a.T * C), dk = c.output("dk", a.B * a.K * C),
                                 dv = c.output("dv", a.B * a.K * C), dr = c.output("dr", a.K * C),
                                 du = c.in_out("du", C), dw = c.in_out("dw", C), dout = c.input("dout", a.B * a.T * C);
                     on(c.device).relative_attention_backward(dq, dk, dv, dr, du, dw, dout, out, lse, q, k, v, r, u, w,
                                                              first_key, s);
                   },
                   false});
}

void add_relative_attention(std::vector<KernelCase>& table) {
  for (const Attention& a : {Attention{1, 1, 1, 1, 1, 0, 0, {}},
                             {2, 31, 33, 3, 5, 0, 0, {}},
                             {1, 32, 64, 2, 8, 0, 0, {}},
                             {2, 33, 257, 1, 33, 0, real(0.2), {}},
                             {2, 100, 700, 2, 4, 64, real(0.1), {650, 0}},
                             {1, 257, 257, 2, 31, 0, 0, {3}},
                             {3, 5, 8, 2, 4, 2, 0, {8, 6, 0}}})
    add_attention(table, a);
}

// ---- scores, densities and their regulariser

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// μ in (0, 1) for the first half, σ² in (0.001, 0.05) for the second.
Draw location_and_variance(int64_t n) {
  return [n](const Stream& s, uint64_t i) { return int64_t(i) < n ? s.uniform(i) : 0.001 + 0.049 * s.uniform(i); };
}

void add_head_scores(std::vector<KernelCase>& table, int64_t P, int64_t B, int64_t T, int64_t H, int64_t D) {
  const std::string options = fmt::format("P {}, B {}, T {}, H {}, D {}", P, B, T, H, D);
  const real scale = real(0.37);
  // element (p, b, h, t) of s, and where q[b,t,h,:] and k[b,p,h,:] begin
  const auto at = [=](int64_t p, int64_t b, int64_t h, int64_t t) { return ((p * B + b) * H + h) * T + t; };
  const auto q_at = [=](int64_t b, int64_t t, int64_t h) { return ((b * T + t) * H + h) * D; };
  const auto k_at = [=](int64_t b, int64_t p, int64_t h) { return ((b * P + p) * H + h) * D; };
  table.push_back({"head_scores_forward", options, [=](KernelCall& c) {
                     const Reals s = c.output("s", P * B * H * T), q = c.input("q", B * T * H * D),
                                 k = c.input("k", B * P * H * D);
                     on(c.device).head_scores_forward(s, q, k, scale, P, B, T, H, D);
                     c.expect(s, [&](int64_t i) {
                       const int64_t t = i % T, h = i / T % H, b = i / (T * H) % B, p = i / (T * H * B);
                       double dot = 0;
                       for (int64_t d = 0; d < D; ++d) dot += q[q_at(b, t, h) + d] * k[k_at(b, p, h) + d];
                       return double(scale) * dot;
                     });
                   }});
  table.push_back({"head_scores_backward", options, [=](KernelCall& c) {
                     const Reals dq = c.output("dq", B * T * H * D), dk = c.output("dk", B * P * H * D),
                                 ds = c.input("ds", P * B * H * T), q = c.input("q", B * T * H * D),
                                 k = c.input("k", B * P * H * D);
                     on(c.device).head_scores_backward(dq, dk, ds, q, k, scale, P, B, T, H, D);
                     c.expect(dq, [&](int64_t i) {
                       const int64_t d = i % D, h = i / D % H, t = i / (D * H) % T, b = i / (D * H * T);
                       double sum = 0;
                       for (int64_t p = 0; p < P; ++p) sum += ds[at(p, b, h, t)] * k[k_at(b, p, h) + d];
                       return double(scale) * sum;
                     });
                     c.expect(dk, [&](int64_t i) {
                       const int64_t d = i % D, h = i / D % H, p = i / (D * H) % P, b = i / (D * H * P);
                       double sum = 0;
                       for (int64_t t = 0; t < T; ++t) sum += ds[at(p, b, h, t)] * q[q_at(b, t, h) + d];
                       return double(scale) * sum;
                     });
                   }});
}

void add_density(std::vector<KernelCase>& table, int64_t n) {
  const std::string size = fmt::format("n = {}", n);
  const real floor = real(0.5);
  table.push_back({"density_forward", size, [=](KernelCall& c) {
                     const Reals y = c.output("density", 2 * n), s = c.input("s", 2 * n, between(-20, 20));
                     on(c.device).density_forward(y, s, floor, n);
                     c.expect(
                         y, [&](int64_t i) { return i < n ? sigmoid(s[i]) : std::max(softplus(s[i]), double(floor)); });
                   }});
  table.push_back({"density_backward", size, [=](KernelCall& c) {
                     const Reals ds = c.output("ds", 2 * n), dy = c.input("ddensity", 2 * n),
                                 s = c.input("s", 2 * n, between(-5, 5));
                     on(c.device).density_backward(ds, dy, s, floor, n);
                     c.expect(ds, [&](int64_t i) {
                       const double slope = sigmoid(s[i]) * (i < n ? sigmoid(-s[i]) : 1);
                       return i >= n && softplus(s[i]) < double(floor) ? 0 : dy[i] * slope;
                     });
                   }});
  for (bool has_mu0 : {false, true}) {
    const int64_t B = 3;
    const real sigma0 = real(0.2), mu0 = real(0.4);
    table.push_back({"kl_forward", size + (has_mu0 ? ", mu0" : ""), [=](KernelCall& c) {
                       const Reals kl = c.output("kl", B),
                                   d = c.input("density", 2 * B * n, location_and_variance(B * n));
                       on(c.device).kl_forward(kl, d, sigma0, mu0, has_mu0, B, n);
                       c.expect(kl, [&](int64_t b) {
                         double sum = 0;
                         for (int64_t i = b * n; i < (b + 1) * n; ++i) {
                           const double ratio = d[B * n + i] / std::pow(double(sigma0), 2);
                           sum += 0.5 * (ratio - std::log(ratio) - 1);
                           if (has_mu0) sum += 0.5 * std::pow((d[i] - double(mu0)) / double(sigma0), 2);
                         }
                         return sum;
                       });
                     }});
    table.push_back({"kl_backward", size + (has_mu0 ? ", mu0" : ""), [=](KernelCall& c) {
                       const Reals dd = c.output("ddensity", 2 * B * n), dkl = c.input("dkl", B),
                                   d = c.input("density", 2 * B * n, location_and_variance(B * n));
                       on(c.device).kl_backward(dd, dkl, d, sigma0, mu0, has_mu0, B, n);
                       const double inverse = 1 / std::pow(double(sigma0), 2);
                       c.expect(dd, [&](int64_t i) {
                         const int64_t b = i / n % B;
                         if (i < B * n) return has_mu0 ? dkl[b] * (d[i] - double(mu0)) * inverse : 0;
                         return dkl[b] * 0.5 * (inverse - 1 / d[i]);
                       });
                     }});
  }
}

// ---- bases and what is read through them

/// A basis on the call's device, whose a[j] and b[j] the host may read as well.
struct SomeBasis {
  BasisKind kind;
  int64_t N;
  Reals a, b;
  operator BasisView() const { return {kind, N, a, b}; }
};

SomeBasis some_basis(KernelCall& c, BasisKind kind, int64_t N) {
  const auto place = [=](const Stream&, uint64_t j) {
    return kind == BasisKind::power       ? double(j)
           : kind == BasisKind::rectangle ? double(j) / double(N)
                                          : 0.1 + 0.7 * double(j) / double(N);
  };
  const auto width = [=](const Stream&, uint64_t j) {
    return kind == BasisKind::rectangle ? double(j + 1) / double(N) : j % 2 ? 0.1 : 0.03;
  };
  const Reals a = c.input("basis.a", N, place), b = c.input("basis.b", N, width);
  return {kind, N, a, b};
}

constexpr BasisKind kBases[] = {BasisKind::gaussian, BasisKind::power, BasisKind::sine, BasisKind::cosine,
                                BasisKind::rectangle};
constexpr DensityKind kDensities[] = {DensityKind::gaussian, DensityKind::truncated_gaussian, DensityKind::parabola};

void add_moments(std::vector<KernelCase>& table, int64_t n, int64_t N) {
  const std::string size = fmt::format("n = {}, N = {}", n, N);
  const real floor = real(1e-6);
  table.push_back({"moments_forward", size, [=](KernelCall& c) {
                     const Reals y = c.output("density", 2 * n), p = c.input("p", n * N, between(0, 1.2 / double(N)));
                     const SomeBasis basis = some_basis(c, BasisKind::gaussian, N);
                     on(c.device).moments_forward(y, p, basis, floor, n);
                     std::vector<double> expected(size_t(2 * n), 0.0);
                     for (int64_t i = 0; i < n; ++i) {
                       double mean = 0, square = 0;
                       for (int64_t j = 0; j < N; ++j) {
                         const double m = double(basis.a[j]), s = double(basis.b[j]);
                         mean += p[i * N + j] * m, square += p[i * N + j] * (m * m + s * s);
                       }
                       expected[size_t(i)] = mean;
                       expected[size_t(n + i)] = std::max(square - mean * mean, double(floor));
                     }
                     c.expect(y, [&](int64_t i) { return expected[size_t(i)]; });
                   }});
  table.push_back({"moments_backward", size, [=](KernelCall& c) {
                     const Reals dp = c.output("dp", n * N), dy = c.input("ddensity", 2 * n),
                                 y = c.input("density", 2 * n, between(0.1, 0.9)), p = c.input("p", n * N);
                     const SomeBasis basis = some_basis(c, BasisKind::gaussian, N);
                     on(c.device).moments_backward(dp, dy, y, p, basis, floor, n);
                     c.expect(dp, [&](int64_t e) {
                       const int64_t i = e / N;
                       const double m = double(basis.a[e % N]), s = double(basis.b[e % N]);
                       return dy[i] * m + dy[n + i] * (m * m + s * s - 2 * y[i] * m);
                     });
                   }});
}

void add_basis_kernels(std::vector<KernelCase>& table, BasisKind basis, int64_t B, int64_t T, int64_t H, int64_t D,
                       int64_t N) {
  const std::string size = fmt::format("basis {}, B {}, T {}, H {}, D {}, N {}", int(basis), B, T, H, D, N);
  table.push_back({"basis_evaluate", size, [=](KernelCall& c) {
                     const Reals psi = c.output("psi", T * N), t = c.input("t", T, between(0, 1));
                     on(c.device).basis_evaluate(psi, t, some_basis(c, basis, N), T);
                   }});
  for (DensityKind kind : kDensities) {
    const std::string options = fmt::format("{}, density {}", size, int(kind));
    table.push_back({"basis_expectation", options, [=](KernelCall& c) {
                       const Reals r = c.output("r", T * N), d = c.input("density", 2 * T, location_and_variance(T));
                       on(c.device).basis_expectation(r, d, some_basis(c, basis, N), kind, T);
                     }});
    const int64_t n = B * H * T, C = H * D;
    const ContinuousAttention s{B, T, H, D, kind};
    table.push_back({"continuous_attention_forward", options,
                     [=](KernelCall& c) {
                       const Reals z = c.output("z", B * T * C),
                                   d = c.input("density", 2 * n, location_and_variance(n)),
                                   v = c.input("values", B * N * C);
                       on(c.device).continuous_attention_forward(z, d, v, some_basis(c, basis, N), s);
                     },
                     false});
    table.push_back({"continuous_attention_backward", options,
                     [=](KernelCall& c) {
                       const Reals dd = c.output("ddensity", 2 * n), dv = c.output("dvalues", B * N * C),
                                   dz = c.input("dz", B * T * C),
                                   d = c.input("density", 2 * n, location_and_variance(n)),
                                   v = c.input("values", B * N * C);
                       on(c.device).continuous_attention_backward(dd, dv, dz, d, v, some_basis(c, basis, N), s);
                     },
                     false});
  }
}

void add_sticky(std::vector<KernelCase>& table, int64_t B, int64_t n, int64_t bins, int64_t R) {
  const std::string size = fmt::format("B {}, n {}, bins {}, R {}", B, n, bins, R);
  table.push_back({"sticky_histogram", size, [=](KernelCall& c) {
                     const Reals mass = c.output("mass", B * bins),
                                 d = c.input("density", 2 * B * n, location_and_variance(B * n));
                     on(c.device).sticky_histogram(mass, d, B, n, bins);
                   }});
  for (StickyDraw draw : {StickyDraw::stratified, StickyDraw::multinomial})
    for (StickyPlace place : {StickyPlace::left, StickyPlace::centre, StickyPlace::uniform})
      for (bool usable : {true, false})
        table.push_back({"sticky_points",
                         fmt::format("{}, draw {}, place {}{}", size, int(draw), int(place), usable ? "" : ", no mass"),
                         [=](KernelCall& c) {
                           const Reals points = c.output("points", B * R),
                                       mass = c.input("mass", B * bins, between(0, usable ? 1 : 0));
                           const Ints fallbacks = c.int_output("fallbacks", B);
                           on(c.device).sticky_points(points, fallbacks, mass, draw, place, {111, 112}, B, bins, R);
                           c.expect(fallbacks, [&](int64_t) { return usable ? 0 : 1; });
                         }});
}

}  // namespace

void add_memory_kernels(std::vector<KernelCase>& table) {
  add_relative_attention(table);
  add_head_scores(table, 1, 1, 1, 1, 1);
  add_head_scores(table, 2, 3, 31, 2, 33);
  add_head_scores(table, 2, 1, 257, 3, 4);
  add_head_scores(table, 7, 2, 32, 5, 16);
  add_head_scores(table, 2, 3, 64, 6, 50);
  for (int64_t n : {1, 31, 32, 33, 257, 1000}) add_density(table, n);
  for (const auto& [n, N] : {std::pair<int64_t, int64_t>{1, 1}, {31, 33}, {5, 257}, {300, 128}})
    add_moments(table, n, N);
  for (BasisKind basis : kBases) {
    add_basis_kernels(table, basis, 1, 1, 1, 1, 1);
    add_basis_kernels(table, basis, 2, 33, 3, 5, 31);
    add_basis_kernels(table, basis, 1, 257, 2, 4, 8);
  }
  add_sticky(table, 1, 1, 1, 1);
  add_sticky(table, 3, 33, 128, 257);
  add_sticky(table, 2, 500, 31, 32);
}

}  // namespace lem::test
