// LayerNorm(x + dropout(z + z_bias)): the end of every sublayer of a post-norm transformer, as one operation.
#include "autograd/ops.h"

namespace lem {

Variable layer_norm(const Variable& x, const Variable& z, const Variable& z_bias, const Variable& gamma,
                    const Variable& beta, Dropout dropout) {
  constexpr real kEps = real(1e-5);
  const int64_t cols = x.dim(-1), rows = cols ? x.numel() / cols : 0;
  check(!z.defined() || z.shape() == x.shape(), "[layer_norm] x {} and z {} differ", x.shape(), z.shape());
  check(cols % 4 != 0 || dropout.first % 4 == 0,
        "[layer_norm] with {} columns, a multiple of 4, dropout's first draw must be one, too: got {}; begin with a "
        "row's",
        cols, dropout.first);
  for (const Variable* v : {&gamma, &beta, &z_bias})
    check(v == &z_bias ? !v->defined() || v->shape() == Shape({cols}) : v->shape() == Shape({cols}),
          "[layer_norm] gamma, beta and z_bias must have shape ({})", cols);

  Variable y = result("layer_norm", x.shape(), {&x, &z, &z_bias, &gamma, &beta});
  const Device device = y.device();
  // s = x + dropout(z + z_bias) is what backward needs; without z it is x itself.
  const Tensor s = z.defined() ? Tensor(x.shape(), device) : x.value();
  const Tensor mean({rows}, device), rstd({rows}, device);
  on(device).layer_norm_forward(y.data(), s.data(), mean.data(), rstd.data(), x.data(), z.data(), z_bias.data(),
                                gamma.data(), beta.data(), kEps, dropout, rows, cols);

  return tape().record(
      "layer_norm", y,
      [=, gx = x.slot(), has_z = z.defined(), gz = z.slot(), gzb = z_bias.slot(), gamma = gamma.value(),
       gg = gamma.slot(), gb = beta.slot()](const Tensor& dy) {
        Tensor dx(dy.shape(), device), dz;
        if (has_z) dz = Tensor(dy.shape(), device);
        const auto buffer = [](const GradSlot& slot) { return slot ? slot->buffer().data() : nullptr; };
        on(device).layer_norm_backward(dx.data(), dz.data(), buffer(gzb), buffer(gg), buffer(gb), dy.data(), s.data(),
                                       mean.data(), rstd.data(), gamma.data(), dropout, rows, cols);
        if (gx) gx->add(dx);
        if (gz) gz->add(dz);
      });
}

}  // namespace lem
