// Adam and AdamW, one pass over the flat arenas: 28 bytes a parameter, which is all it costs. 256 threads a block, four
// neighbours a thread where the arrays begin on 16 bytes, a grid that strides (as in elementwise.cu).
//
// Whether the step is taken at all, and how far gradients are scaled down, is decided here from grad_squares: the host
// never waits for a number.
#include "cuda/rows.h"
#include "tensor/pointwise.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

template <int W>
__device__ void update_at(int64_t i, const AdamUpdate& update, float* p, float* m, float* v, const float* g) {
  Floats<W> ps = load<W>(p + i), ms = load<W>(m + i), vs = load<W>(v + i);
  const Floats<W> gs = load<W>(g + i);
  for (int w = 0; w < W; ++w) update(ps.v[w], ms.v[w], vs.v[w], gs.v[w]);
  store(p + i, ps), store(m + i, ms), store(v + i, vs);
}

/// `fours`: how many groups of four neighbours may be taken at once.
__global__ void __launch_bounds__(kThreads)
    adam_kernel(float* p, float* m, float* v, const float* g, const float* grad_squares, AdamStep s, int64_t n,
                int64_t fours) {
  const float squares = grad_squares[0];
  if (!isfinite(squares)) return;
  const AdamUpdate update(s, squares);
  for (int64_t i = thread_in_grid(); i < fours; i += threads_in_grid()) update_at<4>(4 * i, update, p, m, v, g);
  for (int64_t i = 4 * fours + thread_in_grid(); i < n; i += threads_in_grid()) update_at<1>(i, update, p, m, v, g);
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
