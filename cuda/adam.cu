// Adam and AdamW, one pass over the flat arenas: 28 bytes a parameter, which is all it costs. 256 threads a block, four
// neighbours a thread where the arrays begin on 16 bytes, a grid that strides (as in elementwise.cu).
//
// Whether the step is taken at all, and how far gradients are scaled down, is decided here from grad_squares: the host
// never waits for a number.
#include "cuda/rows.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

// m = β₁ m + (1 − β₁) g,  v = β₂ v + (1 − β₂) g²,  p −= lr ( m/(1 − β₁^t) / (√(v/(1 − β₂^t)) + ε) + weight_decay p )
// where g has been scaled by min(1, clip / (‖g‖ + 1e-6)).
struct Update {
  float beta1, beta2, eps, grad_scale, step, decay, inv_sqrt2;

  __device__ void one(float& p, float& m, float& v, float g) const {
    g *= grad_scale;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    p = decay * p - step * m / (sqrtf(v) * inv_sqrt2 + eps);
  }
  template <int W>
  __device__ void at(int64_t i, float* p, float* m, float* v, const float* g) const {
    Floats<W> ps = load<W>(p + i), ms = load<W>(m + i), vs = load<W>(v + i);
    const Floats<W> gs = load<W>(g + i);
    for (int w = 0; w < W; ++w) one(ps.v[w], ms.v[w], vs.v[w], gs.v[w]);
    store(p + i, ps), store(m + i, ms), store(v + i, vs);
  }
};

/// `fours`: how many groups of four neighbours may be taken at once.
__global__ void __launch_bounds__(kThreads)
    adam_kernel(float* p, float* m, float* v, const float* g, const float* grad_squares, AdamStep s, int64_t n,
                int64_t fours) {
  const float squares = grad_squares[0];
  if (!isfinite(squares)) return;
  const float clipped = s.clip / (sqrtf(squares) + 1e-6f);
  const Update update{s.beta1,
                      s.beta2,
                      s.eps,
                      s.clip > 0 && clipped < 1 ? clipped : 1.0f,
                      s.lr / s.correction1,
                      1 - s.lr * s.weight_decay,
                      1 / sqrtf(s.correction2)};
  for (int64_t i = thread_in_grid(); i < fours; i += threads_in_grid()) update.at<4>(4 * i, p, m, v, g);
  for (int64_t i = 4 * fours + thread_in_grid(); i < n; i += threads_in_grid()) update.at<1>(i, p, m, v, g);
}

}  // namespace

void adam(real* p, real* m, real* v, const real* g, const real* grad_squares, const AdamStep& s, int64_t n) {
  if (n == 0) return;
  bool aligned = true;
  for (const real* x : {static_cast<const real*>(p), static_cast<const real*>(m), static_cast<const real*>(v), g})
    aligned = aligned && reinterpret_cast<uintptr_t>(x) % 16 == 0;
  LAUNCH(adam_kernel, blocks_for(n, 4 * kThreads), kThreads, 0, stream())
  (p, m, v, g, grad_squares, s, n, aligned ? n / 4 : 0);
  CUDA_LAUNCHED();
}

}  // namespace lem::LEM_DEVICE
