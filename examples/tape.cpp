// The tape by hand: y = softmax(x W), a loss, and the gradients that come back. docs/tape.md works out every number.
#include <fmt/core.h>

#include <cmath>

#include "autograd/ops.h"

using namespace lem;

namespace {

void show(const char* name, const Tensor& x) {
  fmt::print("{:6}", name);
  for (const real value : x.to_vector()) fmt::print(" {:8.4f}", value);
  fmt::print("\n");
}

}  // namespace

int main() {
  const real ln2 = std::log(real(2));
  const Variable x = Variable::leaf(Tensor::from({2, 1}, {1, 2}));
  const Variable W = Variable::leaf(Tensor::from({ln2, 0, -ln2, -ln2, 0, 2 * ln2}, {2, 3}));
  const Variable loss = weighted_sum(softmax(linear(x, W)), Tensor::from({1, 2, -1}, {1, 3}));
  fmt::print("the tape holds {} operations; loss = {:.4f}\n", tape().size(), item(loss.value()));
  backward(loss);
  show("dx", x.grad());
  show("dW", W.grad());

  // The same by a difference: how much does the loss change when x_1 does?
  const auto loss_at = [&](real x1) {
    const NoGrad off;
    const Variable moved = Tensor::from({x1, 1}, {1, 2});
    return item(weighted_sum(softmax(linear(moved, W)), Tensor::from({1, 2, -1}, {1, 3})).value());
  };
  const double h = 1. / 256;
  fmt::print("(loss(x_1 + h) - loss(x_1 - h)) / 2h = {:.4f}\n",
             (loss_at(real(2 + h)) - loss_at(real(2 - h))) / (2 * h));
}
