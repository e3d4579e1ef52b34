// Kernels on flat arrays, reductions and matrix products, with their plain evaluations.
#include <algorithm>
#include <cmath>

#include "tests/kernel_check.h"

namespace lem::test {
namespace {

// 33,000: past the size below which nothing runs in parallel.
constexpr int64_t kSizes[] = {0, 1, 31, 32, 33, 257, 1000, 33000};
constexpr int64_t kLarge = 1000001;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double activate(double v, Activation act) {
  return act == Activation::relu   ? std::max(v, 0.0)
         : act == Activation::gelu ? 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)))
                                   : v;
}
double slope(double v, Activation act) {
  return act == Activation::relu ? (v > 0 ? 1 : 0)
         : act == Activation::gelu
             ? 0.5 * (1 + std::erf(v / std::sqrt(2.0))) + v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI)
             : 1;
}

void add_bias_act(std::vector<KernelCase>& table, int64_t rows, int64_t cols, Activation act, real p, bool with_bias) {
  const Dropout d{p, {81, 82}, (uint64_t(1) << 33) + uint64_t(rows)};
  const std::string options =
      fmt::format("{}x{}, activation {}, p = {}{}", rows, cols, int(act), p, with_bias ? ", bias" : "");
  table.push_back(
      {"bias_act_forward", options, [=](KernelCall& c) {
         const Reals y = c.output("y", rows * cols), x = c.input("x", rows * cols);
         const Reals bias = c.input("bias", cols);
         on(c.device).bias_act_forward(y, x, with_bias ? bias.data : nullptr, act, d, rows, cols);
         c.expect(y, [&](int64_t i) { return mask(d, i) * activate(x[i] + (with_bias ? bias[i % cols] : 0), act); });
       }});
  table.push_back({"bias_act_backward", options, [=](KernelCall& c) {
                     const Reals dx = c.output("dx", rows * cols), dbias = c.in_out("dbias", cols);
                     const Reals dy = c.input("dy", rows * cols), x = c.input("x", rows * cols);
                     const Reals bias = c.input("bias", cols);
                     on(c.device).bias_act_backward(dx, with_bias ? dbias.data : nullptr, dy, x,
                                                    with_bias ? bias.data : nullptr, act, d, rows, cols);
                     const auto expected = [&](int64_t i) {
                       return dy[i] * mask(d, i) * slope(x[i] + (with_bias ? bias[i % cols] : 0), act);
                     };
                     c.expect(dx, expected);
                     c.expect(dbias, [&](int64_t col) {
                       double sum = dbias[col];
                       for (int64_t row = 0; with_bias && row < rows; ++row) sum += expected(row * cols + col);
                       return sum;
                     });
                   }});
}

void add_axpy(std::vector<KernelCase>& table, int64_t n) {
  table.push_back({"axpy", fmt::format("n = {}", n), [n](KernelCall& c) {
                     const Reals y = c.in_out("y", n), x = c.input("x", n);
                     on(c.device).axpy(y, real(-0.3), x, n);
                     c.expect(y, [&](int64_t i) { return y[i] + double(real(-0.3)) * x[i]; });
                   }});
}

}  // namespace

void add_elementwise_kernels(std::vector<KernelCase>& table) {
  for (int64_t n : kSizes) {
    const std::string size = fmt::format("n = {}", n);
    table.push_back({"fill", size, [n](KernelCall& c) {
                       const Reals y = c.output("y", n);
                       on(c.device).fill(y, real(2.5), n);
                       c.expect(y, [](int64_t) { return 2.5; });
                     }});
    table.push_back({"scale", size, [n](KernelCall& c) {
                       const Reals y = c.output("y", n), x = c.input("x", n);
                       on(c.device).scale(y, real(1.7), x, n);
                       c.expect(y, [&](int64_t i) { return double(real(1.7)) * x[i]; });
                     }});
    table.push_back({"scale", size + ", in place", [n](KernelCall& c) {
                       const Reals y = c.in_out("y", n);
                       on(c.device).scale(y, real(1.7), y, n);
                       c.expect(y, [&](int64_t i) { return double(real(1.7)) * y[i]; });
                     }});
    add_axpy(table, n);
    table.push_back({"add", size, [n](KernelCall& c) {
                       const Reals y = c.output("y", n), a = c.input("a", n), b = c.input("b", n);
                       on(c.device).add(y, a, b, n);
                       c.expect(y, [&](int64_t i) { return a[i] + b[i]; });
                     }});
    table.push_back({"sigmoid_gate_forward", size, [n](KernelCall& c) {
                       const Reals y = c.output("y", n), x = c.input("x", n), g = c.input("g", n, between(-30, 30));
                       on(c.device).sigmoid_gate_forward(y, x, g, n);
                       c.expect(y, [&](int64_t i) { return x[i] * sigmoid(g[i]); });
                     }});
    for (bool with_dx : {true, false})
      table.push_back({"sigmoid_gate_backward", size + (with_dx ? "" : ", dx null"), [=](KernelCall& c) {
                         const Reals dx = c.output("dx", n), dg = c.output("dg", n), dy = c.input("dy", n);
                         const Reals x = c.input("x", n), g = c.input("g", n, between(-9, 9));
                         on(c.device).sigmoid_gate_backward(with_dx ? dx.data : nullptr, dg, dy, x, g, n);
                         c.expect(dx, [&](int64_t i) { return with_dx ? dy[i] * sigmoid(g[i]) : NAN; });
                         c.expect(dg, [&](int64_t i) { return dy[i] * x[i] * sigmoid(g[i]) * sigmoid(-g[i]); });
                       }});
    table.push_back(
        {"adam", size, [n](KernelCall& c) {
           const AdamStep s{real(1e-2), real(0.9), real(0.99), real(1e-8), real(0.1), real(0.4), real(0.3), 2};
           const Reals p = c.in_out("p", n), m = c.in_out("m", n), v = c.in_out("v", n, between(0.01, 1));
           const Reals g = c.input("g", n), squares = c.input("grad_squares", 1, between(25, 36));
           on(c.device).adam(p, m, v, g, squares, s, n);
           const double factor = 2 / (std::sqrt(squares[0]) + 1e-6);
           const double beta1 = double(s.beta1), beta2 = double(s.beta2);
           const auto new_m = [&](int64_t i) { return beta1 * m[i] + (1 - beta1) * factor * g[i]; };
           const auto new_v = [&](int64_t i) { return beta2 * v[i] + (1 - beta2) * std::pow(factor * g[i], 2); };
           c.expect(m, new_m);
           c.expect(v, new_v);
           c.expect(p, [&](int64_t i) {
             const double root = std::sqrt(new_v(i) / double(s.correction2)) + double(s.eps);
             return p[i] - double(s.lr) * (new_m(i) / double(s.correction1) / root + double(s.weight_decay) * p[i]);
           });
         }});
  }
  table.push_back({"adam", "gradients not finite: nothing changes", [](KernelCall& c) {
                     const Reals p = c.in_out("p", 33), m = c.in_out("m", 33), v = c.in_out("v", 33);
                     const Reals g = c.input("g", 33);
                     const Reals squares = c.input("grad_squares", 1, [](const Stream&, uint64_t) { return INFINITY; });
                     on(c.device).adam(p, m, v, g, squares, {1, real(0.9), real(0.9), 1, 0, 1, 1, 1}, 33);
                     for (const Reals& x : {p, m, v}) c.expect(x, [](int64_t) { return NAN; });
                   }});
  for (Activation act : {Activation::identity, Activation::relu, Activation::gelu})
    for (auto [rows, cols] :
         {std::pair<int64_t, int64_t>{1, 1}, {5, 33}, {257, 31}, {32, 257}, {3, 1031}, {1024, 64}, {33, 300}, {0, 4}})
      for (real p : {real(0), real(0.3)}) {
        add_bias_act(table, rows, cols, act, p, true);
        add_bias_act(table, rows, cols, act, p, false);
      }
  const size_t small = table.size();
  add_axpy(table, kLarge);
  mark_large(table, small);
}

// ---- reductions

namespace {

/// Over all n numbers.
void add_reductions(std::vector<KernelCase>& table, int64_t n) {
  const std::string size = fmt::format("n = {}", n);
  table.push_back({"sum", size, [n](KernelCall& c) {
                     const Reals y = c.output("y", 1), x = c.input("x", n, between(-1, 2));
                     on(c.device).sum(y, x, n);
                     c.expect(y, [&](int64_t) {
                       double sum = 0;
                       for (int64_t i = 0; i < n; ++i) sum += x[i];
                       return sum;
                     });
                   }});
  table.push_back({"sum_squares", size, [n](KernelCall& c) {
                     const Reals y = c.output("y", 1), x = c.input("x", n);
                     on(c.device).sum_squares(y, x, n);
                     c.expect(y, [&](int64_t) {
                       double sum = 0;
                       for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
                       return sum;
                     });
                   }});
  table.push_back({"count_nonfinite", size, [n](KernelCall& c) {
                     const Ints y = c.int_output("y", 1);
                     const Reals x = c.input("x", n, [](const Stream& s, uint64_t i) {
                       return i % 7 == 3 ? NAN : i % 11 == 5 ? INFINITY : i % 13 == 6 ? -INFINITY : s.normal(i) * 1e30;
                     });
                     on(c.device).count_nonfinite(y, x, n);
                     c.expect(y, [&](int64_t) {
                       int32_t count = 0;
                       for (int64_t i = 0; i < n; ++i) count += !std::isfinite(x[i]);
                       return count;
                     });
                   }});
}

}  // namespace

void add_reduction_kernels(std::vector<KernelCase>& table) {
  for (int64_t n : kSizes) add_reductions(table, n);
  for (auto [rows, cols] : {std::pair<int64_t, int64_t>{1, 1},
                            {5, 33},
                            {257, 31},
                            {32, 257},
                            {3, 1000},
                            {2000, 33},
                            {1024, 64},
                            {33, 300},
                            {5, 4500},
                            {0, 4},
                            {4, 0}}) {
    const std::string size = fmt::format("{}x{}", rows, cols);
    table.push_back({"column_sums", size, [rows = rows, cols = cols](KernelCall& c) {
                       const Reals y = c.in_out("y", cols), x = c.input("x", rows * cols);
                       on(c.device).column_sums(y, x, rows, cols);
                       c.expect(y, [&](int64_t col) {
                         double sum = y[col];
                         for (int64_t row = 0; row < rows; ++row) sum += x[row * cols + col];
                         return sum;
                       });
                     }});
    if (cols == 0) continue;
    table.push_back({"argmax", size, [rows = rows, cols = cols](KernelCall& c) {
                       const Ints y = c.int_output("y", rows);
                       // a few values, so that the largest comes more than once
                       const Reals x =
                           c.input("x", rows * cols, [](const Stream& s, uint64_t i) { return s.bits(i) % 5; });
                       on(c.device).argmax(y, x, rows, cols);
                       c.expect(y, [&](int64_t row) {
                         int32_t best = 0;
                         for (int32_t col = 1; col < cols; ++col)
                           if (x[row * cols + col] > x[row * cols + best]) best = col;
                         return best;
                       });
                     }});
  }
  const size_t small = table.size();
  add_reductions(table, kLarge);
  mark_large(table, small);
}

// ---- matrix products

namespace {

/// Rows `gap` further apart than they need to be: as a head inside (B, T, H·D), with other heads between.
void add_product(std::vector<KernelCase>& table, Gemm g, int64_t gap, bool shared_c) {
  g.lda = (g.trans_a ? g.m : g.k) + gap, g.ldb = (g.trans_b ? g.k : g.n) + gap, g.ldc = g.n + gap;
  g.stride_a = (g.trans_a ? g.k : g.m) * g.lda, g.stride_b = (g.trans_b ? g.n : g.k) * g.ldb;
  g.stride_c = shared_c ? 0 : g.m * g.ldc;
  const std::string options = fmt::format("{} of {}x{}x{}{}{}, alpha {}, beta {}, gap {}{}", g.batch, g.m, g.n, g.k,
                                          g.trans_a ? ", A transposed" : "", g.trans_b ? ", B transposed" : "", g.alpha,
                                          g.beta, gap, shared_c ? ", one C" : "");
  const auto run = [=](KernelCall& c) {
    const int64_t c_size = (shared_c ? 1 : g.batch) * g.m * g.ldc;
    const Reals y = g.beta == 0 ? c.output("c", c_size) : c.in_out("c", c_size);
    const Reals a = c.input("a", g.batch * g.stride_a), b = c.input("b", g.batch * g.stride_b);
    on(c.device).gemm(y, a, b, g);
    c.expect(y, [&](int64_t i) -> double {
      const int64_t matrix = i / (g.m * g.ldc), row = i / g.ldc % g.m, col = i % g.ldc;
      if (col >= g.n) return NAN;  // between the rows: not ours
      double sum = g.beta == 0 ? 0 : double(g.beta) * y[i];
      for (int64_t s = shared_c ? 0 : matrix; s < (shared_c ? g.batch : matrix + 1); ++s)
        for (int64_t k = 0; k < g.k; ++k)
          sum += double(g.alpha) * a[s * g.stride_a + (g.trans_a ? k * g.lda + row : row * g.lda + k)] *
                 b[s * g.stride_b + (g.trans_b ? col * g.ldb + k : k * g.ldb + col)];
      return sum;
    });
  };
  table.push_back({"gemm", options, run, false});
}

}  // namespace

void add_gemm_kernels(std::vector<KernelCase>& table) {
  struct Size {
    int64_t m, n, k, batch;
  };
  for (const auto& [m, n, k, batch] : {Size{1, 1, 1, 1},
                                       {31, 33, 5, 1},
                                       {33, 1, 257, 1},
                                       {5, 7, 3, 4},
                                       {3, 4, 0, 2},
                                       {0, 3, 2, 1},
                                       {3, 0, 2, 1},
                                       {64, 48, 80, 3},
                                       {2, 3, 4, 0}})
    for (bool ta : {false, true})
      for (bool tb : {false, true})
        for (real beta : {real(0), real(1), real(0.5)})
          for (int64_t gap : {0, 3}) {
            Gemm g{.m = m, .n = n, .k = k, .trans_a = ta, .trans_b = tb, .lda = 0, .ldb = 0, .ldc = 0};
            g.alpha = beta == 1 ? real(1) : real(-0.7), g.beta = beta, g.batch = batch;
            add_product(table, g, gap, false);
            add_product(table, g, gap, true);
          }
  // A linear layer's three products: of the demo, and of the paper's width.
  const size_t small = table.size();
  for (const auto& [m, n, k, batch] : {Size{1024, 64, 64, 1}, {257, 300, 300, 1}, {1000, 32, 31, 1}}) {
    add_product(table, {.m = m, .n = n, .k = k, .lda = 0, .ldb = 0, .ldc = 0}, 0, false);
    add_product(table, {.m = m, .n = k, .k = n, .trans_b = true, .lda = 0, .ldb = 0, .ldc = 0}, 0, false);
    add_product(table, {.m = k, .n = n, .k = m, .trans_a = true, .lda = 0, .ldb = 0, .ldc = 0, .beta = 1}, 0, false);
  }
  mark_large(table, small);
}

}  // namespace lem::test
