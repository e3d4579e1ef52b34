// Relative attention, forward: fused and tiled, no (T, K) matrix in memory (docs/relative-attention.md).
//
//   score[i,j] = ( (q_i + u)·k_j + (q_i + w)·r_{T−1−i+j} ) · scale     for the keys j that query i sees
//   out_i = Σ_j dropout(softmax(score[i,:]))_j v_j,   lse_i = ln Σ_j exp(score[i,j])
//
// One block makes 64 rows of one head's output. It walks the tiles of 64 keys that its queries see, with a softmax that
// is kept up to date (online): the tiles beyond the causal end, before the window and before the document are skipped.
//
// For each tile of 64 × 64 pairs: 6 · 64² D operations (3 products), and (64 + 64 + 127 + 64) · 4 D bytes of q, k, r
// and v out of the second-level cache, 19 operations a byte. Memory itself is read once as long as that cache holds a
// head's k, v and r.
#include "cuda/relative_attention_products.h"

namespace lem::LEM_DEVICE {
namespace {

using namespace relative;

struct Inputs {
  const float *q, *k, *v, *r, *u, *w;
  const int32_t* first_key;
};

/// Softmax of a row of the tile's scores, in shared memory, as far as the keys have come. 64 / kMine neighbouring
/// threads have a row, kMine columns each (`mine`): score in; exp(score − largest), with dropout, out. Every thread of
/// a row knows `largest`, the largest score so far, and `total`, Σ exp(score − largest). Returns what earlier sums have
/// to be multiplied with.
template <int kMine>
__device__ inline float online_softmax(float* mine, float& largest, float& total, const Dropout& dropout,
                                       int64_t draw) {
  float4* fours = reinterpret_cast<float4*>(mine);
  float x[kMine];
#pragma unroll
  for (int n = 0; n < kMine / 4; ++n)
    x[4 * n] = fours[n].x, x[4 * n + 1] = fours[n].y, x[4 * n + 2] = fours[n].z, x[4 * n + 3] = fours[n].w;
  float m = largest;
#pragma unroll
  for (int n = 0; n < kMine; ++n) m = fmaxf(m, x[n]);
#pragma unroll
  for (int lanes = 1; lanes < kTile / kMine; lanes *= 2) m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, lanes));

  const float origin = m == -INFINITY ? 0 : m;  // no key seen yet: all exponentials are zero, not NaN
  const float shrink = expf(largest - origin);
  float sum = 0;
#pragma unroll
  for (int n = 0; n < kMine; ++n) sum += x[n] = expf(x[n] - origin);
#pragma unroll
  for (int lanes = 1; lanes < kTile / kMine; lanes *= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  total = total * shrink + sum;
  largest = m;

  if (dropout.p > 0) {
    const float factor = 1 / (1 - dropout.p);
#pragma unroll
    for (int first = 0; first < kMine; first += kDraws) {
      const unsigned keep = kept(dropout, draw + first);
#pragma unroll
      for (int n = 0; n < kDraws; ++n) x[first + n] *= keep >> n & 1 ? factor : 0;
    }
  }
#pragma unroll
  for (int n = 0; n < kMine / 4; ++n) fours[n] = {x[4 * n], x[4 * n + 1], x[4 * n + 2], x[4 * n + 3]};
  return shrink;
}

// blockIdx.x: batch row and head; blockIdx.y: tile of queries, the last (which see most) first.
template <int kD>
__global__ void __launch_bounds__(kThreadsFor<kD>, kBlocks<kD>)
    forward_kernel(float* out, float* lse, Inputs in, Shape s) {
  constexpr int kThreads = kThreadsFor<kD>, kMine = kTile * kTile / kThreads;  // columns in the softmax
  SHARED(float4, memory4, [(kInner > kOuter ? kInner : kOuter) / 4]);
  SHARED(float4, biases4, [3 * kD / 4]);
  SHARED(float, row_factor, [kTile]);
  float* memory = reinterpret_cast<float*>(memory4);
  const int b = int(blockIdx.x) / s.H, h = int(blockIdx.x) % s.H;
  const int i0 = int(gridDim.y - 1 - blockIdx.y) * kTile;
  const int stride = s.H * s.D;
  const int64_t queries = int64_t(b) * s.T * stride + h * s.D, keys = int64_t(b) * s.K * stride + h * s.D;
  const Rows q{in.q + queries, s.T, stride}, k{in.k + keys, s.K, stride}, v{in.v + keys, s.K, stride},
      r{in.r + h * s.D, s.K, stride};
  const Biases<kD> biases(reinterpret_cast<float*>(biases4), in.u, in.w, h, s);
  const Sight sight(s, in.first_key, b);

  Sum<kD> sum;
  const int row = int(threadIdx.x) / (kTile / kMine), part = int(threadIdx.x) % (kTile / kMine) * kMine;
  float largest = -INFINITY, total = 0;

  const int end = sight.end(min(i0 + kTile, s.T) - 1);
  for (int j0 = sight.begin(i0) / kTile * kTile; j0 < end; j0 += kTile) {
    Scores<kThreads> scores;
    add_scores(scores, memory, q, biases.u, biases.from_u_to_w, 1, k, r, {i0, 1, j0, s.T - 1 - i0 - (kTile - 1) + j0},
               s);
    __syncthreads();
    scores.each([&](int a, int c) {
      const int i = scores.query(a), j = scores.key(c);
      memory[i * kScoreStride + j] = sight.sees(i0 + i, j0 + j) ? scores.x[a][c] : -INFINITY;
    });
    __syncthreads();
    const float factor =
        online_softmax<kMine>(memory + row * kScoreStride + part, largest, total, s.dropout,
                              int64_t(s.dropout.first) + (int64_t(blockIdx.x) * s.T + i0 + row) * s.K + j0 + part);
    if (part == 0) row_factor[row] = factor;
    __syncthreads();
    float shrink[Sum<kD>::kRows];
#pragma unroll
    for (int i = 0; i < Sum<kD>::kRows; ++i) shrink[i] = row_factor[sum.row() + i];
    sum.each([&](float4& x, int i) { x = {x.x * shrink[i], x.y * shrink[i], x.z * shrink[i], x.w * shrink[i]}; });
    add_outer_products<false>(sum, memory, v, j0, 1, s);
  }

  __syncthreads();
  if (part == 0) {
    row_factor[row] = total == 0 ? 0 : 1 / total;  // 0: a query that sees no key
    if (i0 + row < s.T) lse[int64_t(blockIdx.x) * s.T + i0 + row] = largest + logf(total);
  }
  __syncthreads();
  sum.store(out + queries, stride, i0, s.T, s, [&](int i) { return row_factor[i]; });
}

}  // namespace

void relative_attention_forward(real* out, real* lse, const real* q, const real* k, const real* v, const real* r,
                                const real* u, const real* w, const int32_t* first_key,
                                const RelativeAttention& attention) {
  const Shape s = shape_of(attention, out, q, k, v, r, u, w);
  if (s.B == 0 || s.H == 0 || s.T == 0) return;
  with_width(s.D, [&](auto width) {
    LAUNCH(forward_kernel<width()>, heads_and_tiles(s, s.T), kThreadsFor<width()>, 0, stream())
    (out, lse, Inputs{q, k, v, r, u, w, first_key}, s);
    CUDA_LAUNCHED();
  });
}

}  // namespace lem::LEM_DEVICE
