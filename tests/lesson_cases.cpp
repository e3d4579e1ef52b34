#include "tests/lesson_cases.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/kernel_table_basis.h"
#include "tests/naive_continuous.h"
#include "tests/naive_rows.h"

namespace lem::test {

const Lessons* lessons(Device device) {
  return device == Device::simt ? simt::lessons() : device == Device::cuda ? cuda::lessons() : nullptr;
}

namespace {

void launch(const KernelCall& c, double* seconds, const std::function<void()>& lesson) {
  lesson();
  if (seconds == nullptr) return;
  backend(c.device).start_clock();
  lesson();
  *seconds = backend(c.device).stop_clock();
}

}  // namespace

void check_softmax(KernelCall& c, SoftmaxLesson softmax, int64_t rows, int64_t cols, double* seconds) {
  const Reals y = c.output("y", rows * cols), x = c.input("x", rows * cols, between(-50, 30));
  launch(c, seconds, [&] { softmax(y, x, rows, cols); });
  std::vector<double> row;
  c.expect(y, [&](int64_t i) {
    if (i % cols == 0) row = naive::softmax_row([&](int64_t col) { return x[i + col]; }, cols);
    return row[size_t(i % cols)];
  });
}

void check_layer_norm(KernelCall& c, LayerNormLesson layer_norm, int64_t rows, int64_t cols, double* seconds) {
  const real eps = real(1e-5);
  const Reals y = c.output("y", rows * cols), mean = c.output("mean", rows), rstd = c.output("rstd", rows),
              x = c.input("x", rows * cols, between(1, 3)), gamma = c.input("gamma", cols),
              beta = c.input("beta", cols);
  launch(c, seconds, [&] { layer_norm(y, mean, rstd, x, gamma, beta, eps, rows, cols); });
  std::vector<naive::Moments> moments;
  for (int64_t row = 0; row < rows; ++row)
    moments.push_back(naive::row_moments([&](int64_t col) { return x[row * cols + col]; }, cols, double(eps)));
  c.expect(mean, [&](int64_t row) { return moments[size_t(row)].mean; });
  c.expect(rstd, [&](int64_t row) { return moments[size_t(row)].rstd; });
  c.expect(y, [&](int64_t i) {
    const auto [m, r] = moments[size_t(i / cols)];
    return (x[i] - m) * r * gamma[i % cols] + beta[i % cols];
  });
}

void check_sum(KernelCall& c, SumLesson sum, int64_t n, double* seconds, bool running) {
  const Reals y = c.output("y", 1), x = c.input("x", n, between(-1, 2));
  launch(c, seconds, [&] { sum(y, x, n); });
  const std::vector<double> numbers = x.doubles();
  const double total = std::accumulate(numbers.begin(), numbers.end(), 0.0);
  // A float that all numbers are added to one by one is rounded n times, each time by some ε of itself: errors of
  // random sign, √n ε in all.
  c.expect(y, {total}, running ? total * std::max(1.0, std::sqrt(double(n)) / 128) : 0);
}

void check_expectation(KernelCall& c, ExpectationLesson expectation, int64_t T, int64_t N, int64_t D, double* seconds) {
  const Reals z = c.output("z", T * D), density = c.input("density", 2 * T, location_and_variance(T)),
              values = c.input("values", N * D);
  const CallBasis basis = make_basis(c, BasisKind::gaussian, N);
  launch(c, seconds, [&] { expectation(z, density, values, basis, T, D); });
  if (!c.judged) return;
  const ContinuousAttention s{1, T, 1, D, DensityKind::gaussian};
  c.expect(z, naive::continuous_attention_forward({s, basis.on_host(), density.doubles(), values.doubles()}), 1);
}

LessonCase softmax_case(int version, int64_t rows, int64_t cols) {
  return {"softmax", version, fmt::format("{} × {}", rows, cols), rows * cols, [=](KernelCall& c, double* seconds) {
            check_softmax(c, lessons(c.device)->softmax[version - 1], rows, cols, seconds);
          }};
}
LessonCase layer_norm_case(int version, int64_t rows, int64_t cols) {
  return {"layer_norm", version, fmt::format("{} × {}", rows, cols), rows * cols, [=](KernelCall& c, double* seconds) {
            check_layer_norm(c, lessons(c.device)->layer_norm[version - 1], rows, cols, seconds);
          }};
}
LessonCase sum_case(int version, int64_t n) {
  return {"sum", version, fmt::format("{}", n), n, [=](KernelCall& c, double* seconds) {
            check_sum(c, lessons(c.device)->sum[version - 1], n, seconds, version == 1);
          }};
}
LessonCase expectation_case(int version, int64_t T, int64_t N, int64_t D) {
  return {"expectation", version, fmt::format("T {}, N {}, D {}", T, N, D), T * D, [=](KernelCall& c, double* seconds) {
            check_expectation(c, lessons(c.device)->expectation[version - 1], T, N, D, seconds);
          }};
}

}  // namespace lem::test
