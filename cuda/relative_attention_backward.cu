// Relative attention, backward (docs/relative-attention.md). The probabilities are computed again,
// p[i,j] = exp(score[i,j] − lse_i). With m[i,j] the dropout mask (1 without),
//
//   dv_j = Σ_i m p dout_i               dp[i,j] = dout_i · v_j
//   dscore = p (m dp − δ_i),            δ_i = Σ_j p m dp = dout_i · out_i
//   dq_i = scale (Σ_j dscore k_j + Σ_j dscore r_{T−1−i+j}),   du, dw: the two sums by themselves, over all queries
//   dk_j = scale Σ_i dscore (q_i + u)   dr_n = scale Σ_i dscore[i, n−(T−1)+i] (q_i + w)
//
// The three kinds of sums run along three directions: over keys, over queries, and over the pairs of one distance. A
// block that owned one could only add to another's with atomics, in an order that changes from run to run, so each has
// a kernel of its own, which computes the scores once more: 5 + 5 + 4 products where 8 would do, and no atomics.
//
//   query tile     (64 queries)      walks keys          dq, and parts of du and dw
//   key tile       (64 keys)         walks queries       dk, dv
//   distance tile  (64 rows of r)    walks queries       dr, a part for each batch row
//
// Of a tile of 64 × 64 pairs a product is 2 · 64² D operations. The parts are added up in order by small kernels.
#include "cuda/relative_attention_products.h"

namespace lem::LEM_DEVICE {
namespace {

using namespace relative;

// Scores, their gradients and two sums of 64 columns are 128 registers a thread: with three blocks there is no room.
template <int kD>
constexpr int kBlocksForTwo = kD == 64 ? 2 : kBlocks<kD>;

constexpr int kSumThreads = 256;  // of the kernels that only add

struct Inputs {
  const float *dout, *q, *k, *v, *r, *u, *w;
  const float *lse, *delta;  // (B, H, T)
  const int32_t* first_key;
};

/// One head of one batch row: its rows of all arrays.
struct Head {
  int b, h, stride;
  int64_t queries, keys;  // where its slices of (B, T, H·D) and (B, K, H·D) arrays begin
  Rows dout, q, k, v, r;
  const float *lse, *delta;
  Sight sight;
  __device__ Head(const Inputs& in, const Shape& s)
      : b(int(blockIdx.x) / s.H),
        h(int(blockIdx.x) % s.H),
        stride(s.H * s.D),
        queries(int64_t(b) * s.T * stride + h * s.D),
        keys(int64_t(b) * s.K * stride + h * s.D),
        dout{in.dout + queries, s.T, stride},
        q{in.q + queries, s.T, stride},
        k{in.k + keys, s.K, stride},
        v{in.v + keys, s.K, stride},
        r{in.r + h * s.D, s.K, stride},
        lse(in.lse + int64_t(blockIdx.x) * s.T),
        delta(in.delta + int64_t(blockIdx.x) * s.T),
        sight(s, in.first_key, b) {}
};

/// Which query and key a pair (a, c) of a tile stands for. A tile of queries i0 … and keys x0 …; or, by distance, of
/// rows x0 … of r, where the keys are the band, and the queries come in falling order so that it is c − a + 63 again.
template <bool kByDistance>
struct Pairs {
  int i0, x0, last;  // last: T − 1
  __device__ Pairs(int i0, int x0, const Shape& s) : i0(i0), x0(x0), last(s.T - 1) {}
  __device__ int query(int a) const { return kByDistance ? i0 + kTile - 1 - a : i0 + a; }
  __device__ int key(int i, int c) const { return kByDistance ? x0 + c - last + i : x0 + c; }
  __device__ At at() const {
    if (kByDistance) return {query(0), -1, x0, x0 - last + i0};
    return {i0, 1, x0, last - i0 - (kTile - 1) + x0};
  }
};

/// A block's shared memory.
template <int kD>
struct Shared {
  float* memory;  // the tiles: relative_attention_products.h
  Biases<kD> biases;
  unsigned* keep;      // (64, 4): which of 16 neighbouring pairs dropout keeps
  float *lse, *delta;  // (64): of the tile's queries

  __device__ Shared(float4* memory, float4* biases, float* rows, unsigned* keep, const Inputs& in, int h,
                    const Shape& s)
      : memory(reinterpret_cast<float*>(memory)),
        biases(reinterpret_cast<float*>(biases), in.u, in.w, h, s),
        keep(keep),
        lse(rows),
        delta(rows + kTile) {}
};

/// Scores and dp of a tile, made into weights = m p and gradients = dscore; 0 for pairs that do not see each other.
/// 3 products; (64 + 64 + 127 + 64 + 64 or 127) · 4 D bytes.
template <int kD, bool kByDistance, class Scores>
__device__ inline void score_gradients(Scores& weights, Scores& gradients, const Shared<kD>& shared,
                                       const Pairs<kByDistance>& pairs, const Head& head, const Shape& s) {
  const auto exists = [&](int i) { return i >= 0 && i < s.T; };
  if (s.dropout.p > 0)
    for (int n = int(threadIdx.x); n < kTile * kTile / kDraws; n += kThreadsFor<kD>) {
      const int i = pairs.query(n / 4), j = pairs.key(i, n % 4 * kDraws);
      shared.keep[n] = exists(i) ? kept(s.dropout, ((s.head + blockIdx.x) * s.T + i) * s.K + j) : 0;
    }
  if (const int row = int(threadIdx.x), i = pairs.query(row); row < kTile) {
    shared.lse[row] = exists(i) ? head.lse[i] : INFINITY;  // of others all probabilities are 0
    shared.delta[row] = exists(i) ? head.delta[i] : 0;
  }
  const At at = pairs.at();
  const Biases<kD>& biases = shared.biases;
  if (kByDistance)  // the plain rows are r's, the band k
    add_scores(weights, shared.memory, head.q, biases.w, biases.from_u_to_w, -1, head.r, head.k, at, s);
  else
    add_scores(weights, shared.memory, head.q, biases.u, biases.from_u_to_w, 1, head.k, head.r, at, s);
  add_products<kByDistance>(gradients, shared.memory, head.dout, head.v, at, s);

  const float factor = 1 / (1 - s.dropout.p);
#pragma unroll
  for (int a = 0; a < Scores::kQueries; ++a) {
    const int row = weights.query(a), i = pairs.query(row);
    const float lse = shared.lse[row], delta = shared.delta[row];
#pragma unroll
    for (int c = 0; c < Scores::kKeys; ++c) {
      const int j = weights.key(c);
      const bool seen = head.sight.sees(i, pairs.key(i, j));
      const float p = expf(weights.x[a][c] - lse);
      float m = 1;
      if (s.dropout.p > 0) m = shared.keep[row * (kTile / kDraws) + j / kDraws] >> j % kDraws & 1 ? factor : 0;
      weights.x[a][c] = seen ? m * p : 0;
      gradients.x[a][c] = seen ? p * (m * gradients.x[a][c] - delta) : 0;
    }
  }
}

/// The pairs' numbers into shared memory, a row for each query, or (transposed) for each key. The next barrier is the
/// caller's.
template <bool kTransposed, class Scores>
__device__ inline void put(float* memory, const Scores& x) {
  __syncthreads();
  x.each([&](int a, int c) {
    const int i = x.query(a), j = x.key(c);
    memory[kTransposed ? j * kScoreStride + i : i * kScoreStride + j] = x.x[a][c];
  });
}

// ---- delta (B, H, T): δ_i = dout_i · out_i; a warp for each row, 8 D bytes ----

__global__ void __launch_bounds__(kSumThreads)
    delta_kernel(float* delta, const float* dout, const float* out, Shape s) {
  const int64_t rows = int64_t(s.B) * s.T * s.H;
  const int lane = int(threadIdx.x) % kWarp;
  for (int64_t n = thread_in_grid() / kWarp; n < rows; n += threads_in_grid() / kWarp) {
    float sum = 0;
    for (int d = lane; d < s.D; d += kWarp) sum = fmaf(dout[n * s.D + d], out[n * s.D + d], sum);
    sum = warp_sum(sum);
    const int64_t i = n / s.H % s.T, h = n % s.H, b = n / s.H / s.T;
    if (lane == 0) delta[(b * s.H + h) * s.T + i] = sum;
  }
}

// ---- dq, du, dw ----

/// part[d] = scale · Σ over the tile's queries, for du and dw. `parts`: du's, (H·D), then dw's.
template <int kD>
__device__ inline void store_parts(float* parts, float* memory, const Sum<kD>& u, const Sum<kD>& w, int h,
                                   const Shape& s) {
  constexpr int kRows = Sum<kD>::kRows, kGroups = kTile / kRows;  // of rows that one thread has
  float4* mine = reinterpret_cast<float4*>(memory + u.row() / kRows * kColumns + u.column());
  const int d = int(threadIdx.x) % kColumns, which = int(threadIdx.x) / kColumns;
#pragma unroll
  for (int n = 0; n < kD / kColumns; ++n) {
    if (n * kColumns >= s.D) continue;
    __syncthreads();
    const auto sum = [](const float4(&x)[kRows]) {
      float4 total = x[0];
#pragma unroll
      for (int i = 1; i < kRows; ++i) add_times(total, 1, x[i]);
      return total;
    };
    mine[0] = sum(u.x[n]);
    mine[kGroups * kColumns / 4] = sum(w.x[n]);
    __syncthreads();
    if (which < 2 && n * kColumns + d < s.D) {
      float total = 0;
      for (int i = 0; i < kGroups; ++i) total += memory[(which * kGroups + i) * kColumns + d];
      parts[(int64_t(which) * s.H + h) * s.D + n * kColumns + d] = total * s.scale;
    }
  }
}

// blockIdx.x: batch row and head; blockIdx.y: tile of queries, the last (which see most) first. 5 products a tile.
// parts: (B, tiles, 2, H·D)
template <int kD>
__global__ void __launch_bounds__(kThreadsFor<kD>, kBlocksForTwo<kD>)
    query_kernel(float* dq, float* parts, Inputs in, Shape s) {
  SHARED(float4, memory, [(kInner > kOuterBand ? kInner : kOuterBand) / 4]);
  SHARED(float4, biases, [3 * kD / 4]);
  SHARED(float, rows, [2 * kTile]);
  SHARED(unsigned, keep, [kTile * kTile / kDraws]);
  const Head head(in, s);
  const Shared<kD> shared(memory, biases, rows, keep, in, head.h, s);
  const int tile = int(gridDim.y - 1 - blockIdx.y), i0 = tile * kTile;

  Sum<kD> to_u, to_w;
  const int end = head.sight.end(min(i0 + kTile, s.T) - 1);
  for (int j0 = head.sight.begin(i0) / kTile * kTile; j0 < end; j0 += kTile) {
    const Pairs<false> pairs(i0, j0, s);
    Scores<kThreadsFor<kD>> weights, gradients;
    score_gradients(weights, gradients, shared, pairs, head, s);
    put<false>(shared.memory, gradients);
    add_outer_products<false>(to_u, shared.memory, head.k, j0, 1, s);
    add_outer_products<true>(to_w, shared.memory, head.r, pairs.at().band, 1, s);
  }

  store_parts(parts + (int64_t(head.b) * gridDim.y + tile) * 2 * head.stride, shared.memory, to_u, to_w, head.h, s);
#pragma unroll
  for (int n = 0; n < kD / kColumns; ++n)
#pragma unroll
    for (int i = 0; i < Sum<kD>::kRows; ++i) add_times(to_u.x[n][i], 1, to_w.x[n][i]);
  to_u.store(dq + head.queries, head.stride, i0, s.T, s, [&](int) { return s.scale; });
}

// ---- dk, dv ----

// blockIdx.x: batch row and head; blockIdx.y: tile of keys, the first (which are seen most) first. 5 products a tile.
template <int kD>
__global__ void __launch_bounds__(kThreadsFor<kD>, kBlocksForTwo<kD>)
    key_kernel(float* dk, float* dv, Inputs in, Shape s) {
  SHARED(float4, memory, [(kInner > kOuter ? kInner : kOuter) / 4]);
  SHARED(float4, biases, [3 * kD / 4]);
  SHARED(float, rows, [2 * kTile]);
  SHARED(unsigned, keep, [kTile * kTile / kDraws]);
  const Head head(in, s);
  const Shared<kD> shared(memory, biases, rows, keep, in, head.h, s);
  const Sight& sight = head.sight;
  const int j0 = int(blockIdx.y) * kTile, j1 = min(j0 + kTile, s.K);

  // The queries that see any: end(i) > max(j0, first), begin(i) < j1.
  const int begin = max(0, max(j0, sight.first) - sight.offset);
  const int end = sight.first >= j1 ? 0 : min(s.T, j1 - 1 - sight.before);
  Sum<kD> to_k, to_v;
  for (int i0 = begin / kTile * kTile; i0 < end; i0 += kTile) {
    Scores<kThreadsFor<kD>> weights, gradients;
    score_gradients(weights, gradients, shared, Pairs<false>(i0, j0, s), head, s);
    put<true>(shared.memory, weights);
    add_outer_products<false>(to_v, shared.memory, head.dout, i0, 1, s);
    put<true>(shared.memory, gradients);
    add_outer_products<false>(to_k, shared.memory, head.q, i0, 1, s, shared.biases.u);
  }
  to_k.store(dk + head.keys, head.stride, j0, s.K, s, [](int) { return 1.0f; });
  to_v.store(dv + head.keys, head.stride, j0, s.K, s, [](int) { return 1.0f; });
}

// ---- dr ----

// blockIdx.x: batch row and head; blockIdx.y: tile of rows of r, the last (the shortest distances, of most pairs)
// first. 4 products a tile. parts: (B, K, H·D)
template <int kD>
__global__ void __launch_bounds__(kThreadsFor<kD>, kBlocks<kD>) distance_kernel(float* parts, Inputs in, Shape s) {
  SHARED(float4, memory, [(kInner > kOuter ? kInner : kOuter) / 4]);
  SHARED(float4, biases, [3 * kD / 4]);
  SHARED(float, rows, [2 * kTile]);
  SHARED(unsigned, keep, [kTile * kTile / kDraws]);
  const Head head(in, s);
  const Shared<kD> shared(memory, biases, rows, keep, in, head.h, s);
  const int n0 = int(gridDim.y - 1 - blockIdx.y) * kTile, n1 = min(n0 + kTile, s.K);

  // The queries whose key at one of these distances, n − (T−1) + i, is at least `first`. All of them see it unless it
  // stands before the window, which depends on the distance alone.
  const int begin = max(0, s.T - n1 + min(head.sight.first, s.K));
  const int end = s.window > 0 && n1 <= s.K - s.window ? 0 : s.T;
  Sum<kD> to_r;
  for (int i0 = begin; i0 < end; i0 += kTile) {
    const Pairs<true> pairs(i0, n0, s);
    Scores<kThreadsFor<kD>> weights, gradients;
    score_gradients(weights, gradients, shared, pairs, head, s);
    put<true>(shared.memory, gradients);
    add_outer_products<false>(to_r, shared.memory, head.q, pairs.query(0), -1, s, shared.biases.w);
  }
  to_r.store(parts + (int64_t(head.b) * s.K * s.H + head.h) * s.D, head.stride, n0, s.K, s, [](int) { return 1.0f; });
}

// ---- sums of parts, in order ----

/// y[i] = Σ_p parts[p, i]; parts: (count, n). 4 (count + 1) bytes an element.
__global__ void __launch_bounds__(kSumThreads) sum_kernel(float* y, const float* parts, int count, int64_t n) {
  for (int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) {
    float sum = 0;
    for (int p = 0; p < count; ++p) sum += parts[p * n + i];
    y[i] = sum;
  }
}

/// du[i] += Σ_p parts[p, 0, i], dw[i] += Σ_p parts[p, 1, i]; parts: (count, 2, n). There are many parts of few numbers,
/// so 8 threads share a column: a warp reads 32 neighbours of one part.
__global__ void __launch_bounds__(kSumThreads)
    add_parts_kernel(float* du, float* dw, const float* parts, int count, int64_t n) {
  SHARED(float, sums, [kSumThreads / kWarp][kWarp]);
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const int64_t i = int64_t(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (i < 2 * n)
    for (int p = warp; p < count; p += kSumThreads / kWarp) sum += parts[2 * n * p + i];
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || i >= 2 * n) return;
  for (int other = 1; other < kSumThreads / kWarp; ++other) sum += sums[other][lane];
  (i < n ? du[i] : dw[i - n]) += sum;
}

}  // namespace

void relative_attention_backward(real* dq, real* dk, real* dv, real* dr, real* du, real* dw, const real* dout,
                                 const real* out, const real* lse, const real* q, const real* k, const real* v,
                                 const real* r, const real* u, const real* w, const int32_t* first_key,
                                 const RelativeAttention& attention) {
  const Shape s = shape_of(attention, dq, dk, dv, dr, dout, q, k, v, r);
  const int64_t heads = int64_t(s.B) * s.H, columns = int64_t(s.H) * s.D, tiles = ceil_div(s.T, kTile);
  if (columns == 0) return;
  const Workspace<float> delta(heads * s.T), uw_parts(s.B * tiles * 2 * columns),
      r_parts(s.B == 1 ? 0 : s.B * s.K * columns);
  const Inputs in{dout, q, k, v, r, u, w, lse, delta, first_key};

  if (heads * s.T > 0) {
    LAUNCH(delta_kernel, blocks_for(heads * s.T, kSumThreads / kWarp), kSumThreads, 0, stream())(delta, dout, out, s);
    CUDA_LAUNCHED();
  }
  with_width(s.D, [&](auto width) {
    if (heads * s.T > 0) {
      LAUNCH(query_kernel<width()>, heads_and_tiles(s, s.T), kThreadsFor<width()>, 0, stream())(dq, uw_parts, in, s);
      CUDA_LAUNCHED();
    }
    if (heads * s.K > 0) {
      LAUNCH(key_kernel<width()>, heads_and_tiles(s, s.K), kThreadsFor<width()>, 0, stream())(dk, dv, in, s);
      CUDA_LAUNCHED();
      LAUNCH(distance_kernel<width()>, heads_and_tiles(s, s.K), kThreadsFor<width()>, 0, stream())
      (s.B == 1 ? dr : r_parts, in, s);
      CUDA_LAUNCHED();
    }
  });
  if (s.B != 1 && s.K > 0) {
    LAUNCH(sum_kernel, blocks_for(s.K * columns, kSumThreads), kSumThreads, 0, stream())
    (dr, r_parts, s.B, s.K * columns);
    CUDA_LAUNCHED();
  }
  if (heads * s.T > 0) {
    LAUNCH(add_parts_kernel, unsigned(ceil_div(2 * columns, kWarp)), kSumThreads, 0, stream())
    (du, dw, uw_parts, int(s.B * tiles), columns);
    CUDA_LAUNCHED();
  }
}

}  // namespace lem::LEM_DEVICE
