// Softmax, and its fusion with the cross entropy.
#include "autograd/ops.h"

namespace lem {

Variable softmax(const Variable& x) {
  const int64_t cols = x.dim(-1), rows = cols ? x.numel() / cols : 0;
  Variable y = result("softmax", x.shape(), {&x});
  on(y.device()).softmax_forward(y.data(), x.data(), nullptr, rows, cols);
  return tape().record("softmax", y, [=, y = y.value(), gx = x.slot()](const Tensor& dy) {
    Tensor dx(y.shape(), y.device());
    on(y.device()).softmax_backward(dx.data(), dy.data(), y.data(), rows, cols);
    gx->add(dx);
  });
}

// loss = scale Σ_rows ( log Σ_j exp x_j − x_target ): d loss / d x = scale ( softmax(x) − onehot(target) )
Variable cross_entropy(const Variable& logits, const Tokens& targets, real scale, Tensor* losses) {
  const int64_t V = logits.dim(-1), rows = V ? logits.numel() / V : 0;
  check(targets.numel() == rows, "[cross_entropy] logits {} need {} targets: got {}", logits.shape(), rows,
        targets.numel());
  check(targets.device() == logits.device(), "[cross_entropy] targets are on {}, logits on {}", name(targets.device()),
        name(logits.device()));
  check_tokens("cross_entropy", "target", targets, V, false);

  const Kernels& kernels = on(logits.device());
  Tensor row_loss({rows}, logits.device()), lse({rows}, logits.device());
  kernels.cross_entropy_forward(row_loss.data(), lse.data(), logits.data(), targets.data(), rows, V);
  Variable loss = result("cross_entropy", {1}, {&logits});
  kernels.sum(loss.data(), row_loss.data(), rows);
  kernels.scale(loss.data(), scale, loss.data(), 1);
  if (losses) *losses = row_loss;

  return tape().record("cross_entropy", loss, [=, x = logits.value(), gx = logits.slot()](const Tensor& dloss) {
    Tensor dx(x.shape(), x.device());
    on(x.device())
        .cross_entropy_backward(dx.data(), dloss.data(), scale, x.data(), lse.data(), targets.data(), rows, V);
    gx->add(dx);
  });
}

}  // namespace lem
