// Kernels of the continuous memory's scores and densities, with their plain evaluations.
#include <algorithm>
#include <cmath>

#include "tests/kernel_table_basis.h"

namespace lem::test {
namespace {

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

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
  for (bool has_mu0 : {false, true})
    for (bool ragged : {false, true}) {
      const int64_t B = 3, H = 2;
      const real sigma0 = real(0.2), mu0 = real(0.4);
      const std::string label = size + (has_mu0 ? ", mu0" : "") + (ragged ? ", steps" : "");
      const std::vector<int32_t> counts = {int32_t(n), 0, int32_t(n / 2)};  // of each row's T = n
      const auto counted = [=](int64_t i) { return !ragged || i % n < counts[size_t(i / (H * n))]; };
      table.push_back({"kl_forward", label, [=](KernelCall& c) {
                         const Reals kl = c.output("kl", B),
                                     d = c.input("density", 2 * B * H * n, location_and_variance(B * H * n));
                         const Ints steps = c.input("steps", counts);
                         on(c.device).kl_forward(kl, d, ragged ? steps.data : nullptr, sigma0, mu0, has_mu0, B, H, n);
                         c.expect(kl, [&](int64_t b) {
                           double sum = 0;
                           for (int64_t i = b * H * n; i < (b + 1) * H * n; ++i) {
                             if (!counted(i)) continue;
                             const double ratio = d[B * H * n + i] / std::pow(double(sigma0), 2);
                             sum += 0.5 * (ratio - std::log(ratio) - 1);
                             if (has_mu0) sum += 0.5 * std::pow((d[i] - double(mu0)) / double(sigma0), 2);
                           }
                           return sum;
                         });
                       }});
      table.push_back({"kl_backward", label, [=](KernelCall& c) {
                         const Reals dd = c.output("ddensity", 2 * B * H * n), dkl = c.input("dkl", B),
                                     d = c.input("density", 2 * B * H * n, location_and_variance(B * H * n));
                         const Ints steps = c.input("steps", counts);
                         on(c.device).kl_backward(dd, dkl, d, ragged ? steps.data : nullptr, sigma0, mu0, has_mu0, B, H,
                                                  n);
                         const double inverse = 1 / std::pow(double(sigma0), 2);
                         c.expect(dd, [&](int64_t e) {
                           const int64_t i = e % (B * H * n), b = i / (H * n);
                           if (!counted(i)) return 0.0;
                           if (e < B * H * n) return has_mu0 ? dkl[b] * (d[i] - double(mu0)) * inverse : 0;
                           return dkl[b] * 0.5 * (inverse - 1 / d[B * H * n + i]);
                         });
                       }});
    }
}

void add_moments(std::vector<KernelCase>& table, int64_t n, int64_t N) {
  const std::string size = fmt::format("n = {}, N = {}", n, N);
  const real floor = real(1e-6);
  table.push_back({"moments_forward", size, [=](KernelCall& c) {
                     const Reals y = c.output("density", 2 * n), p = c.input("p", n * N, between(0, 1.2 / double(N)));
                     const CallBasis basis = make_basis(c, BasisKind::gaussian, N);
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
                     const CallBasis basis = make_basis(c, BasisKind::gaussian, N);
                     on(c.device).moments_backward(dp, dy, y, p, basis, floor, n);
                     c.expect(dp, [&](int64_t e) {
                       const int64_t i = e / N;
                       const double m = double(basis.a[e % N]), s = double(basis.b[e % N]);
                       return dy[i] * m + dy[n + i] * (m * m + s * s - 2 * y[i] * m);
                     });
                   }});
}

}  // namespace

void add_memory_kernels(std::vector<KernelCase>& table) {
  add_head_scores(table, 1, 1, 1, 1, 1);
  add_head_scores(table, 2, 3, 31, 2, 33);
  add_head_scores(table, 2, 1, 257, 3, 4);
  add_head_scores(table, 7, 2, 32, 5, 16);
  add_head_scores(table, 2, 1, 1000, 1, 32);
  add_head_scores(table, 2, 16, 64, 4, 16);  // the demo's
  add_head_scores(table, 2, 3, 64, 6, 50);   // the paper's heads
  for (int64_t n : {1, 31, 32, 33, 257, 1000}) add_density(table, n);
  for (const auto& [n, N] : {std::pair<int64_t, int64_t>{1, 1}, {31, 33}, {5, 257}, {32, 1000}, {300, 128}})
    add_moments(table, n, N);
}

}  // namespace lem::test
