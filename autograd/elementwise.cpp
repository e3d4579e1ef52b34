// Elementwise operations.
#include "autograd/matrix.h"
#include "autograd/ops.h"

namespace lem {

Variable add(const Variable& a, const Variable& b) {
  check(a.shape() == b.shape(), "[add] shapes differ: got {} and {}", a.shape(), b.shape());
  Variable y = result("add", a.shape(), {&a, &b});
  on(y.device()).add(y.data(), a.data(), b.data(), y.numel());
  return tape().record("add", y, [ga = a.slot(), gb = b.slot()](const Tensor& dy) {
    // dy may become a's gradient itself; b then needs numbers of its own.
    if (gb) gb->add(ga ? dy.clone() : dy);
    if (ga) ga->add(dy);
  });
}

Variable scale(const Variable& x, real a) {
  Variable y = result("scale", x.shape(), {&x});
  on(y.device()).scale(y.data(), a, x.data(), y.numel());
  return tape().record("scale", y, [a, gx = x.slot()](const Tensor& dy) {
    on(dy.device()).scale(dy.data(), a, dy.data(), dy.numel());
    gx->add(dy);
  });
}

// y = x σ(g)
Variable sigmoid_gate(const Variable& x, const Variable& g) {
  check(x.shape() == g.shape(), "[sigmoid_gate] shapes differ: got {} and {}", x.shape(), g.shape());
  Variable y = result("sigmoid_gate", x.shape(), {&x, &g});
  on(y.device()).sigmoid_gate_forward(y.data(), x.data(), g.data(), y.numel());
  return tape().record(
      "sigmoid_gate", y, [x = x.value(), gx = x.slot(), g = g.value(), gg = g.slot()](const Tensor& dy) {
        Tensor dx, dg(dy.shape(), dy.device());
        if (gx) dx = Tensor(dy.shape(), dy.device());
        on(dy.device()).sigmoid_gate_backward(dx.data(), dg.data(), dy.data(), x.data(), g.data(), dy.numel());
        if (gx) gx->add(dx);
        if (gg) gg->add(dg);
      });
}

// y = dropout(act(x + bias)). Keeps x, not y; the dropout mask is drawn again.
Variable bias_act(const Variable& x, const Variable& bias, Activation act, Dropout dropout) {
  const int64_t cols = x.dim(-1), rows = cols ? x.numel() / cols : 0;
  check(!bias.defined() || bias.shape() == Shape({cols}), "[bias_act] bias {} does not fit x {}", bias.shape(),
        x.shape());
  Variable y = result("bias_act", x.shape(), {&x, &bias});
  on(y.device()).bias_act_forward(y.data(), x.data(), bias.data(), act, dropout, rows, cols);
  return tape().record(
      "bias_act", y, [=, x = x.value(), gx = x.slot(), bias = bias.value(), gb = bias.slot()](const Tensor& dy) {
        Tensor dx(x.shape(), dy.device());
        real* dbias = gb ? gb->buffer().data() : nullptr;
        on(dy.device()).bias_act_backward(dx.data(), dbias, dy.data(), x.data(), bias.data(), act, dropout, rows, cols);
        if (gx) gx->add(dx);
      });
}

Variable weighted_sum(const Variable& x, const Tensor& weights) {
  check(weights.shape() == x.shape(), "[weighted_sum] weights {} do not fit x {}", weights.shape(), x.shape());
  const Variable constant(weights);
  const int64_t n = x.numel();
  Variable y = result("weighted_sum", {1}, {&x, &constant});
  multiply(as_matrix(y.value()), as_matrix(weights.reshape({1, n})), as_matrix(x.value().reshape({n, 1})));
  return tape().record("weighted_sum", y, [=, gx = x.slot()](const Tensor& dy) {
    // dx = weights dy: a product with the one number dy, which stays on its device
    Tensor dx(weights.shape(), dy.device());
    multiply(as_matrix(dx.reshape({n, 1})), as_matrix(weights.reshape({n, 1})), as_matrix(dy));
    gx->add(dx);
  });
}

Variable reshape(const Variable& x, const Shape& shape) {
  const Tensor view = x.value().reshape(shape);
  if (!x.needs_grad() || !tape().recording) return Variable(view);
  const Variable y(view, std::make_shared<Gradient>(shape, x.device()));
  return tape().record("reshape", y,
                       [gx = x.slot(), before = x.shape()](const Tensor& dy) { gx->add(dy.reshape(before)); });
}

Variable last_steps(const Variable& x, int64_t n) {
  check(x.shape().rank() == 3 && 0 <= n && n <= x.dim(1), "[last_steps] {} steps are not in x {}", n, x.shape());
  const int64_t B = x.dim(0), T = x.dim(1), C = x.dim(2);
  if (n == T) return x;
  Variable y = result("last_steps", {B, n, C}, {&x});
  copy_time(y.value(), 0, x.value(), T - n, n);
  return tape().record("last_steps", y, [=, gx = x.slot()](const Tensor& dy) {
    const Tensor& dx = gx->buffer();
    for (int64_t b = 0; b < B; ++b)
      on(dy.device()).axpy(dx.data() + (b * T + T - n) * C, 1, dy.data() + b * n * C, n * C);
  });
}

}  // namespace lem
