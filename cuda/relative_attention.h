// What the forward and the backward of relative attention share (docs/relative-attention.md derives the formulas): who
// sees whom, how tiles come into shared memory, and the small products that everything is made of.
//
// A block of 256 threads works on tiles of 64 queries × 64 keys. The (64, 64) scores of a tile live in its registers,
// 16 a thread, and then in shared memory, never in global memory.
//
//   inner products   a[i,j] += x_i·y_j             x: 64 rows, y: 64 rows
//                    a[i,j] += x_i·z_{j−i+63}      z: a band of 127 rows; the relative term, where query i and key j
//                                                  (counted within the tile) meet row T−1−i+j of r
//   outer products   o_i    += Σ_j a[i,j] y_j      o: 64 rows of D, in registers, D/4 a thread
//                    o_i    += Σ_j a[i,j] z_{j−i+63}
//
// The rows come in strips of 16 columns (inner products) or 32 (outer products), so that shared memory does not grow
// with D: 26 KiB, or 35 where the second outer product is needed. While a strip is worked on, the next is on its way
// from global memory into registers. 256 threads: with 4 × 4 scores each they are a tile, and two blocks fill an SM.
//
// Convention: every step waits at a barrier before it writes shared memory, none waits after its last read.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/device.h"
#include "tensor/error.h"

namespace lem::LEM_DEVICE::relative {

constexpr int kThreads = 256;
constexpr int kTile = 64;             // queries and keys
constexpr int kBand = 2 * kTile - 1;  // rows of r that they meet
constexpr int kPart = 16;             // a thread's scores are those of queries y, y + 16, … and keys x, x + 16, …
constexpr int kEach = kTile / kPart;  // so many of each
constexpr int kStrip = 16;            // columns of an inner product at a time
constexpr int kStripStride = kStrip + 4;  // 8 neighbouring rows of 16 bytes fall into 32 different banks
constexpr int kStripFloats = kTile * kStripStride;
constexpr int kColumns = 32;  // columns of an outer product at a time
constexpr int kScoreStride = kTile + 4;
constexpr int kMaxD = 128;
constexpr int64_t kMaxK = 65535 * kTile;  // as many tiles as a grid has rows

// A block's shared memory, in floats, one use after the other:
//   inner products   x (64), x' (64), y (64), z (127 rows), each of kStripStride
//   outer products   scores (64 rows of kScoreStride), then the strip of y (64 rows) or z (127 rows of kColumns)
constexpr int kInner = (3 * kTile + kBand) * kStripStride;
constexpr int kScores = kTile * kScoreStride;
constexpr int kOuter = kScores + kTile * kColumns;
constexpr int kOuterBand = kScores + kBand * kColumns;

/// Sizes, as kernels take them.
struct Shape {
  int B, T, K, H, D;
  int window;  // 0: none
  float scale;
  bool vector;  // all rows begin on 16 bytes and have whole float4s
  Dropout dropout;
  int64_t head;  // the heads before dropout's first draw: in backward the draws' own sum would spill a register
};

/// The sizes of a call on these arrays; an Error where they are too large.
template <class... Arrays>
Shape shape_of(const RelativeAttention& s, const Arrays*... arrays) {
  check(s.D <= kMaxD, "[relative_attention] heads are too wide: got D = {}, expected at most {}; use more heads", s.D,
        kMaxD);
  check(s.T <= s.K && s.K <= kMaxK, "[relative_attention] wrong lengths: got T = {}, K = {}, expected T ≤ K ≤ {}", s.T,
        s.K, kMaxK);
  const bool aligned = ((reinterpret_cast<uintptr_t>(arrays) % 16 == 0) && ...);
  return {int(s.B),  int(s.T),
          int(s.K),  int(s.H),
          int(s.D),  int(std::min(s.window, s.K)),  // K keys back are all keys
          s.scale,   aligned && s.D % 4 == 0,
          s.dropout, int64_t(s.dropout.first) / std::max<int64_t>(1, s.T * s.K)};
}

/// Blocks of one head of one batch row each, times tiles of n rows.
inline dim3 heads_and_tiles(const Shape& s, int n) { return dim3(unsigned(s.B * s.H), unsigned(ceil_div(n, kTile))); }

/// launch(width) with the number of columns that a thread block is compiled for, as a type: the least ≥ D.
template <class Launch>
void with_width(int D, Launch launch) {
  if (D <= 32)
    launch(std::integral_constant<int, 32>{});
  else if (D <= 64)
    launch(std::integral_constant<int, 64>{});
  else
    launch(std::integral_constant<int, kMaxD>{});
}

// ---- who sees whom ----

/// The keys [begin(i), end(i)) that query i sees. Both ends grow with i, and end(i) ≤ K.
struct Sight {
  int T, offset, window, first;
  __device__ Sight(const Shape& s, const int32_t* first_key, int b)
      : T(s.T), offset(s.K - s.T), window(s.window), first(first_key ? max(0, first_key[b]) : 0) {}
  __device__ int end(int i) const { return i + offset + 1; }
  __device__ int begin(int i) const { return window > 0 ? max(first, end(i) - window) : first; }
  __device__ bool sees(int i, int j) const { return i >= 0 && i < T && j >= begin(i) && j < end(i); }
};

// Bit c of the result: dropout keeps the element of draw `draw` + c, c in [0, 16). Five Philox blocks cover them,
// wherever the first one stands; draws before the tensor's belong to nobody.
__device__ inline unsigned kept(const Dropout& d, int64_t draw) {
  const int shift = int(draw & 3);
  unsigned bits = 0;
#pragma unroll 1
  for (int g = 0; g < kPart / 4 + 1; ++g) {
    const uint4 four = philox(d.stream, uint64_t((draw >> 2) + g));
    const unsigned keep = unsigned(uniform_of(four.x) >= d.p) | unsigned(uniform_of(four.y) >= d.p) << 1 |
                          unsigned(uniform_of(four.z) >= d.p) << 2 | unsigned(uniform_of(four.w) >= d.p) << 3;
    bits |= keep << (4 * g) >> shift;
  }
  return bits & ((1u << kPart) - 1);
}

// ---- rows from global memory ----

__device__ inline void store4(float* p, float4 x, int left, bool vector) {
  if (vector) {
    *reinterpret_cast<float4*>(p) = x;
    return;
  }
  p[0] = x.x;
  if (left > 1) p[1] = x.y;
  if (left > 2) p[2] = x.z;
  if (left > 3) p[3] = x.w;
}

/// One head's rows of an array, D numbers each, `stride` apart. Those outside [0, count) are zero.
struct Rows {
  const float* data;
  int count;
  int stride;
};

/// What becomes of queries on their way into shared memory: scale · q + bias, the bias in shared memory.
struct Bias {
  const float* values;  // (D), times the scale already
  float scale;
};

/// Both biases of a head times the scale, in shared memory (2, kD), zero beyond D. The next barrier is the caller's.
template <int kD>
__device__ inline void load_biases(float* biases, const float* u, const float* w, int h, const Shape& s) {
  for (int d = int(threadIdx.x); d < kD; d += kThreads) {
    biases[d] = d < s.D ? u[h * s.D + d] * s.scale : 0;
    biases[kD + d] = d < s.D ? w[h * s.D + d] * s.scale : 0;
  }
}

/// Rows first, first + step, … of a strip of columns: fetched into registers, kept, stored to shared memory. Thread t
/// takes float4s t, t + 256, …: neighbours read neighbouring 16 bytes of a row.
template <int kRows, int kWidth>
struct Strip {
  static constexpr int kFours = kRows * kWidth / 4;
  static constexpr int kMine = (kFours + kThreads - 1) / kThreads;
  float4 x[kMine];

  __device__ void fetch(const Rows& rows, int first, int step, int column, int D, bool vector) {
    if (vector)  // outside of the loop, so that all loads are under way together
      each(rows, first, step, column, D, [](const float* p, int) { return *reinterpret_cast<const float4*>(p); });
    else
      each(rows, first, step, column, D, [](const float* p, int left) {
        return float4{p[0], left > 1 ? p[1] : 0, left > 2 ? p[2] : 0, left > 3 ? p[3] : 0};
      });
  }
  template <int kStride>
  __device__ void store(float* to) const {
    put<kStride>(to, [](float4 q, int) { return q; });
  }
  template <int kStride>
  __device__ void store(float* to, Bias bias, int column) const {
    put<kStride>(to, [&](float4 q, int d) {
      const float4 b = *reinterpret_cast<const float4*>(bias.values + column + d);
      const float f = bias.scale;
      return float4{fmaf(q.x, f, b.x), fmaf(q.y, f, b.y), fmaf(q.z, f, b.z), fmaf(q.w, f, b.w)};
    });
  }

 private:
  template <class Load>
  __device__ void each(const Rows& rows, int first, int step, int column, int D, Load load) {
#pragma unroll
    for (int n = 0; n < kMine; ++n) {
      const int e = int(threadIdx.x) + n * kThreads;
      const int row = first + step * (e / (kWidth / 4)), d = column + 4 * (e % (kWidth / 4));
      const bool inside = e < kFours && row >= 0 && row < rows.count && d < D;
      x[n] = inside ? load(rows.data + int64_t(row) * rows.stride + d, D - d) : float4{0, 0, 0, 0};
    }
  }
  template <int kStride, class F>
  __device__ void put(float* to, F f) const {
#pragma unroll
    for (int n = 0; n < kMine; ++n) {
      const int e = int(threadIdx.x) + n * kThreads, d = 4 * (e % (kWidth / 4));
      if (e < kFours) *reinterpret_cast<float4*>(to + e / (kWidth / 4) * kStride + d) = f(x[n], d);
    }
  }
};

// ---- inner products ----

// The 8 warps stand 4 above each other, 2 side by side; the lanes of each, 4 × 8. So a warp reads 4 rows of x, 8 of y
// and 11 of z at a time: few enough for one or two passes over the banks.
__device__ inline int score_x() { return int(threadIdx.x) % 8 + int(threadIdx.x) / 32 % 2 * 8; }
__device__ inline int score_y() { return int(threadIdx.x) / 8 % 4 + int(threadIdx.x) / 64 * 4; }

/// A thread's 16 of a tile's scores: [a][c] is that of query y + 16 a and key x + 16 c.
using Scores = float[kEach][kEach];

__device__ inline float4 row4(const float* x, int row, int d) {
  return *reinterpret_cast<const float4*>(x + row * kStripStride + d);
}
__device__ inline void add_dot(float& sum, float4 a, float4 b) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  sum = fmaf(a.w, b.w, sum);
}

/// scores += x_a·y_c, or x_a·y_{c−a+63} if kBanded. `width`: columns, a multiple of 4. Of 4 columns: 64 multiplications
/// and additions; 8 or 11 reads of 16 bytes.
template <bool kBanded>
__device__ inline void add_inner(Scores& scores, const float* x, const float* y, int width) {
  x += score_y() * kStripStride;
  y += (kBanded ? score_x() - score_y() + kTile - 1 : score_x()) * kStripStride;
#pragma unroll 1
  for (int d = 0; d < width; d += 4) {
    float4 xa[kEach];
#pragma unroll
    for (int a = 0; a < kEach; ++a) xa[a] = row4(x, kPart * a, d);
#pragma unroll
    for (int e = kBanded ? 1 - kEach : 0; e < kEach; ++e) {
      const float4 ye = row4(y, kPart * e, d);
#pragma unroll
      for (int a = 0; a < kEach; ++a) {
        const int c = kBanded ? a + e : e;  // the pairs with c − a = e share a row of the band
        if (c >= 0 && c < kEach) add_dot(scores[a][c], xa[a], ye);
      }
    }
  }
}

/// Where a tile's rows begin. Queries query, query + step, …; the plain rows and the band upwards.
struct At {
  int query, step, plain, band;
};

/// The scores of a tile: (q + plain bias)·y + (q + band's bias)·z, over all D columns. Reads of global memory, in rows
/// of D floats: 64 of q and y each, 127 of z. All threads must come.
__device__ inline void add_scores(Scores& scores, float* memory, const Rows& q, Bias plain, Bias banded, const Rows& y,
                                  const Rows& z, At at, const Shape& s) {
  float *x = memory, *x2 = x + kStripFloats, *ys = x2 + kStripFloats, *zs = ys + kStripFloats;
  Strip<kTile, kStrip> next_q, next_y;
  Strip<kBand, kStrip> next_z;
  const auto fetch = [&](int d) {
    next_q.fetch(q, at.query, at.step, d, s.D, s.vector);
    next_y.fetch(y, at.plain, 1, d, s.D, s.vector);
    next_z.fetch(z, at.band, 1, d, s.D, s.vector);
  };
  fetch(0);
#pragma unroll 1
  for (int d = 0; d < s.D; d += kStrip) {
    __syncthreads();
    next_q.store<kStripStride>(x, plain, d);
    next_q.store<kStripStride>(x2, banded, d);
    next_y.store<kStripStride>(ys);
    next_z.store<kStripStride>(zs);
    __syncthreads();
    if (d + kStrip < s.D) fetch(d + kStrip);
    const int width = min(kStrip, (s.D - d + 3) / 4 * 4);
    add_inner<false>(scores, x, ys, width);
    add_inner<true>(scores, x2, zs, width);
  }
}

/// products += x_a·y_c, or x_a·y_{c−a+63} if kBanded. Reads 64 rows of x and 64 or 127 of y. All threads must come.
template <bool kBanded>
__device__ inline void add_products(Scores& products, float* memory, const Rows& x, const Rows& y, At at,
                                    const Shape& s) {
  Strip<kTile, kStrip> next_x;
  Strip<kBanded ? kBand : kTile, kStrip> next_y;
  const auto fetch = [&](int d) {
    next_x.fetch(x, at.query, at.step, d, s.D, s.vector);
    next_y.fetch(y, kBanded ? at.band : at.plain, 1, d, s.D, s.vector);
  };
  fetch(0);
#pragma unroll 1
  for (int d = 0; d < s.D; d += kStrip) {
    __syncthreads();
    next_x.template store<kStripStride>(memory);
    next_y.template store<kStripStride>(memory + kStripFloats);
    __syncthreads();
    if (d + kStrip < s.D) fetch(d + kStrip);
    add_inner<kBanded>(products, memory, memory + kStripFloats, min(kStrip, (s.D - d + 3) / 4 * 4));
  }
}

// ---- outer products ----

// A thread has two neighbouring rows of the sum, and of each 32 columns four.
__device__ inline int sum_row() { return int(threadIdx.x) / 8 * 2; }
__device__ inline int sum_column() { return int(threadIdx.x) % 8 * 4; }

/// A thread's part of a (64, D) sum: columns 32 n + sum_column() … + 3 of row sum_row() + i.
template <int kD>
struct Sum {
  float4 x[kD / kColumns][2] = {};

  /// The rows of one head, times `factor`. `to`: the head's row 0; only rows below `count` are written.
  __device__ void store(float* to, int stride, int first, int count, float factor0, float factor1,
                        const Shape& s) const {
#pragma unroll
    for (int n = 0; n < kD / kColumns; ++n) {
      const int d = n * kColumns + sum_column();
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = first + sum_row() + i;
        const float f = i ? factor1 : factor0;
        if (row < count && d < s.D)
          store4(to + int64_t(row) * stride + d, {x[n][i].x * f, x[n][i].y * f, x[n][i].z * f, x[n][i].w * f}, s.D - d,
                 s.vector);
      }
    }
  }
};

__device__ inline void add_times(float4& sum, float a, float4 x) {
  sum.x = fmaf(a, x.x, sum.x);
  sum.y = fmaf(a, x.y, sum.y);
  sum.z = fmaf(a, x.z, sum.z);
  sum.w = fmaf(a, x.w, sum.w);
}
__device__ inline float4 scores4(const float* scores, int row, int j) {
  return *reinterpret_cast<const float4*>(scores + row * kScoreStride + j);
}
__device__ inline float4 column4(const float* x, int row) {
  return *reinterpret_cast<const float4*>(x + row * kColumns + sum_column());
}

/// sum_i += Σ_j score[i,j] y_j, or z_{j−i+63} if kBanded; y or z lies behind the scores. For each j, 8 multiplications
/// and additions; a read of 16 bytes, and half a read of scores. (Row i + 1 of the sum meets at j the band's row that
/// row i met at j − 1.)
template <bool kBanded>
__device__ inline void add_outer(float4 (&sum)[2], const float* scores) {
  const float* rows = scores + kScores;
  const int i = sum_row(), band = kTile - 1 - i;
  float4 last = kBanded ? column4(rows, band - 1) : float4{0, 0, 0, 0};
#pragma unroll 2
  for (int j = 0; j < kTile; j += 4) {
    const float4 a = scores4(scores, i, j), b = scores4(scores, i + 1, j);
    const float as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float4 row = column4(rows, kBanded ? band + j + n : j + n);
      add_times(sum[0], as[n], row);
      add_times(sum[1], bs[n], kBanded ? last : row);
      last = row;
    }
  }
}

/// The same for all columns. `memory` holds the scores, (64, kScoreStride), which other threads may just have written.
/// Reads 64 rows of D floats, or 127, from row `first` on; with a bias (times the scale) it is q + bias that is
/// summed. All threads must come.
template <bool kBanded, int kD, class... Biases>
__device__ inline void add_outer_products(Sum<kD>& sum, float* memory, const Rows& rows, int first, int step,
                                          const Shape& s, Biases... bias) {
  Strip<kBanded ? kBand : kTile, kColumns> next;
  next.fetch(rows, first, step, 0, s.D, s.vector);
#pragma unroll
  for (int n = 0; n < kD / kColumns; ++n) {
    const int d = n * kColumns;
    if (d >= s.D) continue;
    __syncthreads();
    if constexpr (sizeof...(bias) > 0)
      next.template store<kColumns>(memory + kScores, bias..., d);
    else
      next.template store<kColumns>(memory + kScores);
    __syncthreads();
    if (d + kColumns < s.D) next.fetch(rows, first, step, d + kColumns, s.D, s.vector);
    add_outer<kBanded>(sum.x[n], memory);
  }
}

}  // namespace lem::LEM_DEVICE::relative
