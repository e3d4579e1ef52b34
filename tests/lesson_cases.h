// The lessons (cuda/lessons) as cases of the kernels' test: a call of a version, held against the plain evaluation that
// the library's own kernel is held against.
#pragma once

#include "cuda/lessons/lessons.h"
#include "tests/kernel_check.h"

namespace lem::test {

/// The lessons of a device, or null: the CPU has none.
const Lessons* lessons(Device device);

// `seconds`, if given, is set to what a second run takes by the device's clock; running: one float takes all n numbers.
void check_softmax(KernelCall& c, SoftmaxLesson softmax, int64_t rows, int64_t cols, double* seconds = nullptr);
void check_layer_norm(KernelCall& c, LayerNormLesson layer_norm, int64_t rows, int64_t cols, double* seconds = nullptr);
void check_sum(KernelCall& c, SumLesson sum, int64_t n, double* seconds = nullptr, bool running = false);
void check_expectation(KernelCall& c, ExpectationLesson expectation, int64_t T, int64_t N, int64_t D,
                       double* seconds = nullptr);

/// One version of a lesson at one size.
struct LessonCase {
  const char* lesson;
  int version;       // 1 …
  std::string size;  // in words
  int64_t elements;  // what bytes are counted by: numbers of the result, or of the sum
  std::function<void(KernelCall&, double* seconds)> run;
};
LessonCase softmax_case(int version, int64_t rows, int64_t cols);
LessonCase layer_norm_case(int version, int64_t rows, int64_t cols);
LessonCase sum_case(int version, int64_t n);
LessonCase expectation_case(int version, int64_t T, int64_t N, int64_t D);

}  // namespace lem::test
