#include "cuda/lessons/lessons.h"

#include "cuda/device.h"

namespace lem::LEM_DEVICE {

extern const SoftmaxLesson softmax_lesson[kLessonVersions];
extern const LayerNormLesson layer_norm_lesson[kLessonVersions];
extern const SumLesson sum_lesson[kLessonVersions];
extern const ExpectationLesson expectation_lesson[kLessonVersions];

const Lessons* lessons() {
  static const Lessons all{softmax_lesson, layer_norm_lesson, sum_lesson, expectation_lesson};
  return &all;
}

}  // namespace lem::LEM_DEVICE
