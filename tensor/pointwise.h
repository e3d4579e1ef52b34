// What is done to each number alone, whatever computes it: activations, and Adam's update. Compiled for every device,
// as tensor/special.h is.
#pragma once

#include "tensor/kernel_types.h"
#include "tensor/special.h"

namespace lem::LEM_DEVICE {

/// relu(v) = max(v, 0), where NaN stays NaN; gelu(v) = v Φ(v) (Hendrycks & Gimpel, arXiv 1606.08415).
template <Activation act>
LEM_FUNCTION real activate(real v) {
  if constexpr (act == Activation::relu) return v > 0 || v != v ? v : 0;
  if constexpr (act == Activation::gelu) return real(0.5) * v * (1 + std::erf(v * real(kRootHalf)));
  return v;
}

/// Its derivative; gelu's is Φ(v) + v φ(v).
template <Activation act>
LEM_FUNCTION real activation_slope(real v) {
  if constexpr (act == Activation::relu) return v > 0 ? 1 : 0;
  if constexpr (act == Activation::gelu) return real(0.5) * (1 + std::erf(v * real(kRootHalf))) + v * normal_pdf(v);
  return 1;
}

/// Adam (Kingma & Ba, arXiv 1412.6980) and AdamW (Loshchilov & Hutter, arXiv 1711.05101):
///   m = β₁ m + (1 − β₁) g,  v = β₂ v + (1 − β₂) g²,  p −= lr ( m/(1 − β₁^t) / (√(v/(1 − β₂^t)) + ε) + weight_decay p )
/// where g has been scaled by min(1, clip / (‖g‖ + 1e-6)). `squares`: ‖g‖².
struct AdamUpdate {
  real beta1, beta2, eps, grad_scale = 1, step, decay, inv_sqrt2;

  LEM_FUNCTION AdamUpdate(const AdamStep& s, real squares)
      : beta1(s.beta1),
        beta2(s.beta2),
        eps(s.eps),
        step(s.lr / s.correction1),
        decay(1 - s.lr * s.weight_decay),
        inv_sqrt2(1 / std::sqrt(s.correction2)) {
    const real clipped = s.clip / (std::sqrt(squares) + real(1e-6));
    if (s.clip > 0 && clipped < 1) grad_scale = clipped;
  }
  LEM_FUNCTION void operator()(real& p, real& m, real& v, real g) const {
    g *= grad_scale;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    p = decay * p - step * m / (std::sqrt(v) * inv_sqrt2 + eps);
  }
};

}  // namespace lem::LEM_DEVICE
