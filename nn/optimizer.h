// Adam and AdamW over the flat arenas, and the learning rate's course over the steps.
#pragma once

#include <string>

#include "nn/parameters.h"

namespace lem {

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0;  // > 0: AdamW, decoupled; of the parameters that are decayed (ParameterOptions)
  double clip = 0;          // > 0: the global gradient norm is brought down to this
};

class Adam {
 public:
  Adam(const Parameters& parameters, const AdamOptions& options);

  /// One step from the gradients in the arena: p ← p − lr · …; see tensor/cpu/adam.cpp. Does not wait for the device.
  /// If a gradient is not finite the step changes nothing, and neither does any later one: whoever looks at
  /// grad_squares() some steps later still finds the weights that met it.
  void step(double lr);
  /// Σ g² of the last step, before clipping: (1). A tensor of its own for each step; NaN from the first gradient on
  /// that is not finite.
  const Tensor& grad_squares() const { return grad_squares_; }

  // What a checkpoint holds.
  int64_t steps = 0;
  Tensor m, v;  // first and second moments, (trained) like the gradients

 private:
  const Parameters& parameters_;
  AdamOptions options_;
  Tensor grad_squares_;
};

enum class ScheduleKind { constant, linear, cosine, inverse_sqrt };

/// The learning rate at step 0, 1, …, steps − 1: `warmup` steps of linear rise, then the course.
struct Schedule {
  ScheduleKind kind = ScheduleKind::cosine;
  double lr = 1e-3;
  int64_t steps = 1000, warmup = 0;

  double at(int64_t step) const;
};

}  // namespace lem
