// Adam (Kingma & Ba, arXiv 1412.6980) and AdamW (Loshchilov & Hutter, arXiv 1711.05101), one pass over the flat arenas.
#include <cmath>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"

namespace lem::cpu {

// m = β₁ m + (1 − β₁) g,  v = β₂ v + (1 − β₂) g²,  p −= lr ( m/(1 − β₁^t) / (√(v/(1 − β₂^t)) + ε) + weight_decay p )
// where g has been scaled by min(1, clip / (‖g‖ + 1e-6)).
void adam(real* p, real* m, real* v, const real* g, const real* grad_squares, const AdamStep& s, int64_t n) {
  if (!std::isfinite(grad_squares[0])) return;
  const real grad_scale = s.clip > 0 ? std::min(real(1), s.clip / (std::sqrt(grad_squares[0]) + real(1e-6))) : real(1);
  const real step = s.lr / s.correction1, decay = 1 - s.lr * s.weight_decay, inv_sqrt2 = 1 / std::sqrt(s.correction2);
  parallel_for(n, 8, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const real gi = g[i] * grad_scale;
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * gi;
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * gi * gi;
      p[i] = decay * p[i] - step * m[i] / (std::sqrt(v[i]) * inv_sqrt2 + s.eps);
    }
  });
}

}  // namespace lem::cpu
