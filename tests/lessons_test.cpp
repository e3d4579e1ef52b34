// Every version of every lesson (cuda/lessons) on every device that has them.
#include <cstdlib>

#include "tests/catch.h"
#include "tests/lesson_cases.h"

namespace lem::test {
namespace {

using Catch::Contains;

TEST_CASE("devices but the CPU have the lessons", "[lessons]") {
  for (Device device : devices()) CHECK((lessons(device) != nullptr) == (device != Device::cpu));
}

TEST_CASE("kernels compute in every version of a lesson what the library's compute", "[lessons]") {
  std::vector<LessonCase> cases;
  for (int version = 1; version <= kLessonVersions; ++version) {
    for (auto [rows, cols] : {std::pair<int64_t, int64_t>{1, 1},
                              {5, 31},
                              {5, 32},
                              {33, 33},
                              {2, 257},
                              {257, 5},
                              {3, 1000},
                              {33, 300},
                              {3, 512},
                              {2, 513}}) {
      cases.push_back(softmax_case(version, rows, cols));
      cases.push_back(layer_norm_case(version, rows, cols));
    }
    for (int64_t n : {1, 31, 257, 1025, 4097, 20000}) cases.push_back(sum_case(version, n));
    for (auto [T, N, D] : {std::array<int64_t, 3>{1, 1, 1}, {33, 31, 5}, {129, 8, 4}, {64, 64, 16}, {3, 65, 70}})
      cases.push_back(expectation_case(version, T, N, D));
  }
  for (Device device : devices())
    if (lessons(device))
      for (const LessonCase& c : cases)
        CHECK(check_kernel({c.lesson, fmt::format("version {}, {}", c.version, c.size),
                            [&](KernelCall& call) { c.run(call, nullptr); }},
                           device) == "");
}

TEST_CASE("a lesson that is timed runs once more, and is right", "[lessons]") {
  int runs = 0;
  double seconds = -1;
  KernelCall call(Device::cpu);
  static int* count = nullptr;
  count = &runs;
  check_sum(
      call,
      [](real* y, const real* x, int64_t n) {
        ++*count;
        cpu::sum(y, x, n);
      },
      257, &seconds);
  CHECK(call.finish() == "");
  CHECK(runs == 2);
  CHECK(seconds >= 0);
}

// The CPU's kernels, right and with a mistake, as if they were versions.
std::string verdict(const std::function<void(KernelCall&)>& run) {
  return check_kernel({"planted", "", run, false}, Device::cpu);
}

TEST_CASE("a wrong lesson fails", "[lessons]") {
  const auto softmax = [](SoftmaxLesson f) { return verdict([=](KernelCall& c) { check_softmax(c, f, 5, 31); }); };
  CHECK(softmax([](real* y, const real* x, int64_t rows, int64_t cols) {
          cpu::softmax_forward(y, x, nullptr, rows, cols);
        }) == "");
  CHECK_THAT(softmax([](real* y, const real* x, int64_t rows, int64_t cols) {
               cpu::softmax_forward(y, x, x, rows, cols);  // a first row too many
             }),
             Contains("y: relative error"));

  const auto norm = [](LayerNormLesson f) { return verdict([=](KernelCall& c) { check_layer_norm(c, f, 5, 31); }); };
  CHECK(norm([](real* y, real* mean, real* rstd, const real* x, const real* gamma, const real* beta, real eps,
                int64_t rows, int64_t cols) {
          cpu::layer_norm_forward(y, const_cast<real*>(x), mean, rstd, x, nullptr, nullptr, gamma, beta, eps, {}, rows,
                                  cols);
        }) == "");
  CHECK_THAT(norm([](real* y, real* mean, real* rstd, const real* x, const real* gamma, const real* beta, real eps,
                     int64_t rows, int64_t cols) {
               cpu::layer_norm_forward(y, const_cast<real*>(x), mean, rstd, x, nullptr, nullptr, beta, gamma, eps, {},
                                       rows, cols);
             }),
             Contains("y: relative error"));

  const auto sum = [](SumLesson f) { return verdict([=](KernelCall& c) { check_sum(c, f, 257); }); };
  CHECK(sum([](real* y, const real* x, int64_t n) { cpu::sum(y, x, n); }) == "");
  CHECK_THAT(sum([](real* y, const real* x, int64_t n) { cpu::sum(y, x, n - 1); }), Contains("y: relative error"));

  const auto expectation = [](ExpectationLesson f) {
    return verdict([=](KernelCall& c) { check_expectation(c, f, 33, 31, 5); });
  };
  CHECK(expectation([](real* z, const real* density, const real* values, BasisView basis, int64_t T, int64_t D) {
          cpu::continuous_attention_forward(z, density, values, basis, {1, T, 1, D, DensityKind::gaussian});
        }) == "");
  CHECK_THAT(expectation([](real* z, const real* density, const real* values, BasisView basis, int64_t T, int64_t D) {
               cpu::continuous_attention_forward(z, density, values, basis, {1, T, 1, D, DensityKind::parabola});
             }),
             Contains("z: relative error"));
}

}  // namespace
}  // namespace lem::test
