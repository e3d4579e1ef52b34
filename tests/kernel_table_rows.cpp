// Kernels on rows: softmax, cross entropy, layer normalisation, embedding, with their plain evaluations.
#include <algorithm>
#include <cmath>

#include "tests/kernel_check.h"
#include "tests/naive_rows.h"

namespace lem::test {
namespace {

void add_softmax(std::vector<KernelCase>& table, int64_t rows, int64_t cols) {
  const std::string size = fmt::format("{}x{}", rows, cols);
  for (bool with_bias : {false, true})
    for (bool in_place : {false, true})
      table.push_back(
          {"softmax_forward", size + (with_bias ? ", bias" : "") + (in_place ? ", in place" : ""), [=](KernelCall& c) {
             const Reals y = in_place ? c.in_out("y", rows * cols) : c.output("y", rows * cols);
             const Reals x = in_place ? y : c.input("x", rows * cols, between(-50, 30));
             const Reals bias = c.input("bias", cols);
             on(c.device).softmax_forward(y, x, with_bias ? bias.data : nullptr, rows, cols);
             std::vector<double> row;
             c.expect(y, [&](int64_t i) {
               if (i % cols == 0)
                 row = naive::softmax_row([&](int64_t col) { return x[i + col] + (with_bias ? bias[col] : 0); }, cols);
               return row[size_t(i % cols)];
             });
           }});
  for (bool in_place : {false, true})
    table.push_back({"softmax_backward", size + (in_place ? ", in place" : ""), [=](KernelCall& c) {
                       const Reals dx = in_place ? c.in_out("dx", rows * cols) : c.output("dx", rows * cols);
                       const Reals dy = in_place ? dx : c.input("dy", rows * cols);
                       const Reals y = c.input("y", rows * cols, between(0, 2.0 / double(std::max<int64_t>(cols, 1))));
                       on(c.device).softmax_backward(dx, dy, y, rows, cols);
                       double dot = 0;
                       c.expect(dx, [&](int64_t i) {
                         if (i % cols == 0) {
                           dot = 0;
                           for (int64_t col = 0; col < cols; ++col) dot += dy[i + col] * y[i + col];
                         }
                         return y[i] * (dy[i] - dot);
                       });
                     }});
}

std::vector<int32_t> some_targets(int64_t rows, int64_t cols) {
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < rows; ++i) targets.push_back(i % 4 == 1 ? -1 : int32_t(i * 31 % cols));
  return targets;
}

void add_cross_entropy(std::vector<KernelCase>& table, int64_t rows, int64_t cols) {
  const std::string size = fmt::format("{}x{}", rows, cols);
  table.push_back(
      {"cross_entropy_forward", size, [=](KernelCall& c) {
         const Reals loss = c.output("loss", rows), lse = c.output("lse", rows);
         const Reals x = c.input("logits", rows * cols);
         const Ints targets = c.input("targets", some_targets(rows, cols));
         on(c.device).cross_entropy_forward(loss, lse, x, targets, rows, cols);
         const auto log_sum = [&](int64_t row) {
           double value = 0;
           naive::softmax_row([&](int64_t col) { return x[row * cols + col]; }, cols, &value);
           return value;
         };
         c.expect(
             loss, [&](int64_t row) { return targets[row] < 0 ? 0 : log_sum(row) - x[row * cols + targets[row]]; }, 1);
         c.expect(
             lse, [&](int64_t row) { return targets[row] < 0 ? 0 : log_sum(row); }, 1);
       }});
  table.push_back({"cross_entropy_backward", size, [=](KernelCall& c) {
                     const Reals dx = c.output("dlogits", rows * cols), dloss = c.input("dloss", 1);
                     const Reals x = c.input("logits", rows * cols, between(-3, 3));
                     std::vector<double> logs;  // the kernel's own rounding of lse is not what is tested here
                     for (int64_t row = 0; row < rows; ++row) {
                       logs.push_back(0);
                       naive::softmax_row([&](int64_t col) { return x[row * cols + col]; }, cols, &logs.back());
                     }
                     const Reals lse = c.input("lse", rows, [&](const Stream&, uint64_t i) { return logs[i]; });
                     const Ints targets = c.input("targets", some_targets(rows, cols));
                     on(c.device).cross_entropy_backward(dx, dloss, real(0.7), x, lse, targets, rows, cols);
                     c.expect(
                         dx,
                         [&](int64_t i) {
                           const int64_t row = i / cols, col = i % cols;
                           if (targets[row] < 0) return 0.0;
                           return dloss[0] * double(real(0.7)) * (std::exp(x[i] - lse[row]) - (targets[row] == col));
                         },
                         1);
                   }});
}

// ---- layer normalisation

struct Norm {
  int64_t rows, cols;
  bool with_z, with_bias;
  real p;
  Dropout dropout() const { return {p, {91, 92}, (uint64_t(1) << 33) + uint64_t(cols)}; }
  std::string text() const {
    return fmt::format("{}x{}{}{}, p = {}", rows, cols, with_z ? ", z" : "", with_bias ? ", bias" : "", p);
  }
};

void layer_norm_forward(KernelCall& c, const Norm& n) {
  const int64_t size = n.rows * n.cols;
  const real eps = real(1e-5);
  const Reals y = c.output("y", size), s = c.output("s", size), mean = c.output("mean", n.rows),
              rstd = c.output("rstd", n.rows), x = c.input("x", size, between(1, 3)), z = c.input("z", size),
              bias = c.input("z_bias", n.cols), gamma = c.input("gamma", n.cols), beta = c.input("beta", n.cols);
  on(c.device).layer_norm_forward(y, s, mean, rstd, x, n.with_z ? z.data : nullptr, n.with_bias ? bias.data : nullptr,
                                  gamma, beta, eps, n.dropout(), n.rows, n.cols);
  const auto sum = [&](int64_t i) {
    return x[i] + (n.with_z ? mask(n.dropout(), i) * (z[i] + (n.with_bias ? bias[i % n.cols] : 0)) : 0);
  };
  std::vector<naive::Moments> rows;
  for (int64_t row = 0; row < n.rows; ++row)
    rows.push_back(naive::row_moments([&](int64_t col) { return sum(row * n.cols + col); }, n.cols, double(eps)));
  c.expect(s, sum);
  c.expect(mean, [&](int64_t row) { return rows[size_t(row)].mean; });
  c.expect(rstd, [&](int64_t row) { return rows[size_t(row)].rstd; });
  c.expect(y, [&](int64_t i) {
    const auto [mean, rstd] = rows[size_t(i / n.cols)];
    return (sum(i) - mean) * rstd * gamma[i % n.cols] + beta[i % n.cols];
  });
}

/// `parameters`: whether the gradients of gamma, beta and z_bias are wanted.
void layer_norm_backward(KernelCall& c, const Norm& n, bool parameters) {
  const int64_t size = n.rows * n.cols, cols = n.cols;
  const Reals dx = c.output("dx", size), dz = c.output("dz", size), dbias = c.in_out("dz_bias", cols),
              dgamma = c.in_out("dgamma", cols), dbeta = c.in_out("dbeta", cols), dy = c.input("dy", size),
              s = c.input("s", size), mean = c.input("mean", n.rows), rstd = c.input("rstd", n.rows, between(0.5, 2)),
              gamma = c.input("gamma", cols);
  const auto wanted = [](bool want, const Reals& x) { return want ? x.data : nullptr; };
  on(c.device).layer_norm_backward(dx, wanted(n.with_z, dz), wanted(n.with_bias && parameters, dbias),
                                   wanted(parameters, dgamma), wanted(parameters, dbeta), dy, s, mean, rstd, gamma,
                                   n.dropout(), n.rows, cols);
  const auto xhat = [&](int64_t i) { return (s[i] - mean[i / cols]) * rstd[i / cols]; };
  std::vector<double> ds;
  for (int64_t i = 0; i < size; i += cols) {
    double g_mean = 0, gx_mean = 0;
    for (int64_t col = 0; col < cols; ++col) {
      g_mean += dy[i + col] * gamma[col] / double(cols);
      gx_mean += dy[i + col] * gamma[col] * xhat(i + col) / double(cols);
    }
    for (int64_t col = 0; col < cols; ++col)
      ds.push_back(rstd[i / cols] * (dy[i + col] * gamma[col] - g_mean - xhat(i + col) * gx_mean));
  }
  const auto column = [&](const Reals& start, bool want, const std::function<double(int64_t)>& term) {
    c.expect(start, [&, want](int64_t col) {
      double sum = want ? start[col] : NAN;
      for (int64_t row = 0; row < n.rows; ++row) sum += term(row * cols + col);
      return sum;
    });
  };
  const auto masked = [&](int64_t i) { return mask(n.dropout(), i) * ds[size_t(i)]; };
  c.expect(
      dx, [&](int64_t i) { return ds[size_t(i)]; }, 1);
  c.expect(
      dz, [&](int64_t i) { return n.with_z ? masked(i) : NAN; }, 1);
  column(dbias, n.with_bias && parameters, masked);
  column(dgamma, parameters, [&](int64_t i) { return dy[i] * xhat(i); });
  column(dbeta, parameters, [&](int64_t i) { return dy[i]; });
}

void add_layer_norm(std::vector<KernelCase>& table, const Norm& n) {
  table.push_back({"layer_norm_forward", n.text(), [=](KernelCall& c) { layer_norm_forward(c, n); }});
  for (bool parameters : {true, false})
    table.push_back({"layer_norm_backward", n.text() + (parameters ? "" : ", no parameters"),
                     [=](KernelCall& c) { layer_norm_backward(c, n, parameters); }});
}

// ---- embedding

std::vector<int32_t> some_tokens(int64_t n, int64_t V) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(int32_t(Stream{93, 94}.bits(uint64_t(i)) % uint64_t(V)));
  return tokens;
}

void add_embedding_forward(std::vector<KernelCase>& table, int64_t n, int64_t V, int64_t C) {
  table.push_back({"embedding_forward", fmt::format("n = {}, V = {}, C = {}", n, V, C), [=](KernelCall& c) {
                     const Reals y = c.output("y", n * C);
                     const Ints t = c.input("tokens", some_tokens(n, V));
                     const Reals rows = c.input("table", V * C);
                     on(c.device).embedding_forward(y, t, rows, real(1.5), n, C);
                     c.expect(y, [&](int64_t i) { return 1.5 * rows[t[i / C] * C + i % C]; });
                   }});
}

void add_embedding_backward(std::vector<KernelCase>& table, int64_t n, int64_t V, int64_t C) {
  table.push_back({"embedding_backward", fmt::format("n = {}, V = {}, C = {}", n, V, C), [=](KernelCall& c) {
                     const Reals rows = c.in_out("dtable", V * C), dy = c.input("dy", n * C);
                     const Ints t = c.input("tokens", some_tokens(n, V));
                     on(c.device).embedding_backward(rows, dy, t, real(1.5), n, V, C);
                     std::vector<double> sums = rows.doubles();
                     for (int64_t i = 0; i < n * C; ++i) sums[size_t(t[i / C] * C + i % C)] += 1.5 * dy[i];
                     c.expect(rows, sums);
                   }});
}

}  // namespace

void add_row_kernels(std::vector<KernelCase>& table) {
  for (auto [rows, cols] : {std::pair<int64_t, int64_t>{1, 1},
                            {5, 31},
                            {5, 32},
                            {33, 33},
                            {2, 257},
                            {257, 5},
                            {3, 1000},
                            {200, 64},
                            {33, 300},
                            {0, 7}}) {
    add_softmax(table, rows, cols);
    add_cross_entropy(table, rows, cols);
    for (real p : {real(0), real(0.25)})
      for (const auto& [with_z, with_bias] : {std::pair{false, false}, {true, false}, {true, true}})
        if (with_z || p == 0) add_layer_norm(table, {rows, cols, with_z, with_bias, p});
  }
  add_layer_norm(table, {2, 1031, true, true, real(0.25)});  // past a chunk of the dropout mask
  for (auto [n, V, C] : {std::array<int64_t, 3>{1, 1, 1},
                         {33, 5, 31},
                         {257, 257, 4},
                         {1000, 7, 64},
                         {32, 1000, 33},
                         {3, 5, 1000},
                         {3, 5, 1031},
                         {0, 3, 5}}) {
    add_embedding_forward(table, n, V, C);
    add_embedding_backward(table, n, V, C);
  }
  const size_t small = table.size();
  add_softmax(table, 3, 4500);
  add_cross_entropy(table, 3, 4500);
  add_layer_norm(table, {3, 4500, true, true, real(0.25)});
  add_layer_norm(table, {1024, 64, true, true, real(0.1)});  // the demo's
  add_embedding_forward(table, 33, 40000, 9);
  add_embedding_backward(table, 33, 4000, 9);  // a block each: 40,000 would take the interpreter 20 s
  mark_large(table, small);
}

}  // namespace lem::test
