#include "nn/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace lem {

Adam::Adam(const Parameters& parameters, const AdamOptions& options)
    : m(zeros(parameters.grads().shape(), parameters.device())),
      v(zeros(parameters.grads().shape(), parameters.device())),
      parameters_(parameters),
      options_(options),
      grad_squares_(zeros({1}, parameters.device())) {}

void Adam::step(double lr) {
  ++steps;
  AdamStep s{.lr = real(lr),
             .beta1 = real(options_.beta1),
             .beta2 = real(options_.beta2),
             .eps = real(options_.eps),
             .weight_decay = real(options_.weight_decay),
             .correction1 = real(1 - std::pow(options_.beta1, double(steps))),
             .correction2 = real(1 - std::pow(options_.beta2, double(steps))),
             .clip = real(options_.clip)};
  const Tensor& p = parameters_.values();
  const Tensor& g = parameters_.grads();
  const Tensor before = std::exchange(grad_squares_, Tensor({1}, p.device()));
  on(p.device()).sum_squares(grad_squares_.data(), g.data(), g.numel());
  on(p.device()).axpy(grad_squares_.data(), 0, before.data(), 1);  // 0 · NaN and 0 · ∞ are NaN, 0 · x is nothing
  const auto update = [&](int64_t begin, int64_t end) {
    on(p.device())
        .adam(p.data() + begin, m.data() + begin, v.data() + begin, g.data() + begin, grad_squares_.data(), s,
              end - begin);
  };
  if (s.weight_decay == 0) return update(0, g.numel());
  update(0, parameters_.decayed());
  s.weight_decay = 0;
  update(parameters_.decayed(), g.numel());
}

// After the warm-up, with x the share of the remaining steps that is done:
//   linear 1 − x,  cosine ½ (1 + cos πx),  inverse square root √(w / step) with w = max(warmup, 1)
double Schedule::at(int64_t step) const {
  if (step < warmup) return lr * double(step + 1) / double(warmup);
  const double x = steps > warmup ? std::min(1.0, double(step - warmup) / double(steps - warmup)) : 1.0;
  switch (kind) {
    case ScheduleKind::linear:
      return lr * (1 - x);
    case ScheduleKind::cosine:
      return lr * 0.5 * (1 + std::cos(std::numbers::pi * x));
    case ScheduleKind::inverse_sqrt:
      return lr * std::sqrt(double(std::max<int64_t>(warmup, 1)) / double(std::max<int64_t>(step + 1, 1)));
    default:
      return lr;
  }
}

}  // namespace lem
