// What the forward and the backward of relative attention share (docs/relative-attention.md derives the formulas): who
// sees whom, how tiles come into shared memory, and the small products that everything is made of.
//
// A block works on tiles of 64 queries × 64 keys. The (64, 64) scores of a tile live in its registers, 8 × 4 a thread,
// and then in shared memory, never in global memory.
//
// What bounds these kernels is shared memory, not arithmetic: an SM multiplies and adds 128 numbers a clock, and takes
// 128 bytes a clock out of shared memory into registers. That several lanes of a warp read the same does not help, for
// each gets a copy. So a product of n × m numbers a thread, which reads 16 (n + m) bytes for 4 n m multiplications, is
// bound by its reads unless 4 (n + m) ≤ n m: the more scores a thread has, the better.
//
//   inner products   a[i,j] += x_i·y_j             x: 64 rows, y: 64 rows
//                    a[i,j] += x_i·z_{j−i+63}      z: a band of 127 rows; the relative term, where query i and key j
//                                                  (counted within the tile) meet row T−1−i+j of r
//   outer products   o_i    += Σ_j a[i,j] y_j      o: 64 rows of D, in registers
//                    o_i    += Σ_j a[i,j] z_{j−i+63}
//
// The rows come in strips of 16 columns (inner products) or 32 (outer products), so that shared memory does not grow
// with D: 26 KiB, or 35 where the second outer product is needed. While a block waits for a strip, others of the same
// SM are at work.
//
// Convention: every step waits at a barrier before it writes shared memory, none waits after its last read.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/device.h"
#include "tensor/error.h"

namespace lem::LEM_DEVICE::relative {

constexpr int kTile = 64;                 // queries and keys
constexpr int kBand = 2 * kTile - 1;      // rows of r that they meet
constexpr int kStrip = 16;                // columns of an inner product at a time
constexpr int kStripStride = kStrip + 4;  // 8 neighbouring rows of 16 bytes fall into 32 different banks
constexpr int kStripFloats = kTile * kStripStride;
constexpr int kColumns = 32;  // columns of an outer product at a time
constexpr int kScoreStride = kTile + 4;
constexpr int kMaxD = 128;
constexpr int kDraws = 16;                // dropout is drawn for so many neighbouring pairs at a time
constexpr int64_t kMaxK = 65535 * kTile;  // as many tiles as a grid has rows

// A block's shared memory, in floats, one use after the other:
//   inner products   x (64), y (64), z (127 rows), each of kStripStride
//   outer products   scores (64 rows of kScoreStride), then the strip of y (64 rows) or z (127 rows of kColumns)
constexpr int kInner = (2 * kTile + kBand) * kStripStride;
constexpr int kScores = kTile * kScoreStride;
constexpr int kOuter = kScores + kTile * kColumns;
constexpr int kOuterBand = kScores + kBand * kColumns;

/// Threads of a block for sums of kD columns. 128 have 8 × 4 scores each; where the sums are too wide for their
/// registers, 256 have 4 × 4.
template <int kD>
constexpr int kThreadsFor = kD <= 64 ? 128 : 256;

/// Blocks that an SM shall hold at least, for which the compiler does with 168 registers a thread: another block
/// computes while one waits for a strip. A Turing SM's 64 KiB of shared memory hold two.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <int kD>
constexpr int kBlocks = kD <= 64 ? 2 : 1;
#else
template <int kD>
constexpr int kBlocks = kD <= 64 ? 3 : 1;
#endif

/// Sizes, as kernels take them.
struct Shape {
  int B, T, K, H, D;
  int window;  // 0: none
  float scale;
  int vector;  // so many floats come in one read: all rows begin on 4, or 2, of them and are whole; else 1
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
  check(s.K * s.H * s.D < int64_t(1) << 31,
        "[relative_attention] a batch row of K × H × D = {} × {} × {} numbers: expected fewer than 2³¹", s.K, s.H, s.D);
  const auto whole = [&](int n) {
    return ((reinterpret_cast<uintptr_t>(arrays) % (4 * n) == 0) && ...) && s.D % n == 0;
  };
  return {int(s.B),  int(s.T),
          int(s.K),  int(s.H),
          int(s.D),  int(std::min(s.window, s.K)),  // K keys back are all keys
          s.scale,   whole(4) ? 4 : whole(2) ? 2 : 1,
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

/// The keys [begin(i), end(i)) that query i sees: those from `first` on with before < j − i ≤ offset. Both ends grow
/// with i, and end(i) ≤ K.
struct Sight {
  int offset, before, first;
  __device__ Sight(const Shape& s, const int32_t* first_key, int b)
      : offset(s.K - s.T),
        before(offset - (s.window > 0 ? s.window : s.K)),
        first(first_key ? max(0, first_key[b]) : 0) {}
  __device__ int end(int i) const { return i + offset + 1; }
  __device__ int begin(int i) const { return max(first, i + before + 1); }
  /// For a tile by the distance j − i, which many of its pairs share.
  __device__ bool sees(int i, int j) const { return j - i <= offset && j - i > before && j >= first; }
};

// Bit c of the result: dropout keeps the element of draw `draw` + c, c in [0, 16). Five Philox blocks cover them,
// wherever the first one stands; draws before the tensor's belong to nobody.
__device__ inline unsigned kept(const Dropout& d, int64_t draw) {
  const int shift = int(draw & 3);
  unsigned bits = 0;
#pragma unroll 1
  for (int g = 0; g < kDraws / 4 + 1; ++g) {
    const uint4 four = philox(d.stream, uint64_t((draw >> 2) + g));
    const unsigned keep = unsigned(uniform_of(four.x) >= d.p) | unsigned(uniform_of(four.y) >= d.p) << 1 |
                          unsigned(uniform_of(four.z) >= d.p) << 2 | unsigned(uniform_of(four.w) >= d.p) << 3;
    bits |= keep << (4 * g) >> shift;
  }
  return bits & ((1u << kDraws) - 1);
}

// ---- rows from global memory ----

__device__ inline void store4(float* p, float4 x, int left, int vector) {
  if (vector == 4) {
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
  const float* values;  // of the strip's first column on, times the scale already
  float scale;
  __device__ float4 operator()(float4 q, int d) const {
    const float4 b = *reinterpret_cast<const float4*>(values + d);
    return {fmaf(q.x, scale, b.x), fmaf(q.y, scale, b.y), fmaf(q.z, scale, b.z), fmaf(q.w, scale, b.w)};
  }
};

/// What stands in shared memory for a head, each (kD), zero beyond D: scale · u, scale · w, and scale · (w − u).
template <int kD>
struct Biases {
  float *u, *w, *from_u_to_w;

  /// `memory`: 3 kD floats. The next barrier is the caller's.
  __device__ Biases(float* memory, const float* u_row, const float* w_row, int h, const Shape& s)
      : u(memory), w(memory + kD), from_u_to_w(memory + 2 * kD) {
    for (int d = int(threadIdx.x); d < kD; d += kThreadsFor<kD>) {
      u[d] = d < s.D ? u_row[h * s.D + d] * s.scale : 0;
      w[d] = d < s.D ? w_row[h * s.D + d] * s.scale : 0;
      from_u_to_w[d] = w[d] - u[d];
    }
  }
};

/// Rows first, first + step, … of a strip of kWidth columns, on their way into shared memory: fetched into registers,
/// then stored. Of 8 rows of 16 columns a warp takes one float4 a lane, so that neighbours read neighbouring 16 bytes
/// of a row; and 8 neighbouring lanes, whose float4s are stored together, have rows n and n + 4, which lie in different
/// banks.
template <int kThreads, int kRows, int kWidth>
struct Strip {
  static constexpr int kTogether = kThreads * 4 / kWidth, kMine = (kRows + kTogether - 1) / kTogether;  // rows
  float4 x[kMine];

  static __device__ int column() { return 4 * (int(threadIdx.x) % (kWidth / 4)); }
  static __device__ int row(int n) {
    const int t = int(threadIdx.x);
    return n * kTogether + (kWidth == 16 ? t / 32 * 8 + t % 32 / 8 + t % 8 / 4 * 4 : t / (kWidth / 4));
  }
  static __device__ bool mine(int n) { return kRows % kTogether == 0 || row(n) < kRows; }

  /// load(p, left): a float4 from p on, of whose row `left` columns remain.
  template <class Load>
  __device__ void fetch(const Rows& rows, int first, int step, int strip, int D, Load load) {
    const int left = D - strip - column();
    int at = first + step * row(0);
    int from = at * rows.stride + strip + column();
#pragma unroll
    for (int n = 0; n < kMine; ++n) {
      x[n] = left > 0 && at >= 0 && at < rows.count && mine(n) ? load(rows.data + from, left) : float4{0, 0, 0, 0};
      at += step * kTogether, from += step * kTogether * rows.stride;
    }
  }
  template <int kStride, class Change>
  __device__ void store(float* to, Change change) const {
#pragma unroll
    for (int n = 0; n < kMine; ++n)
      if (mine(n)) *reinterpret_cast<float4*>(to + row(n) * kStride + column()) = change(x[n], column());
  }
};
struct Unchanged {
  __device__ float4 operator()(float4 x, int) const { return x; }
};

/// fetch(load) with the widest reads that all rows allow, chosen once for all that is fetched, so that all reads are
/// under way together.
template <class Fetch>
__device__ inline void with_reads(const Shape& s, Fetch fetch) {
  if (s.vector == 4)
    fetch([](const float* p, int) { return *reinterpret_cast<const float4*>(p); });
  else if (s.vector == 2)
    fetch([](const float* p, int left) {
      const float2 a = *reinterpret_cast<const float2*>(p),
                   b = left > 2 ? *reinterpret_cast<const float2*>(p + 2) : float2{0, 0};
      return float4{a.x, a.y, b.x, b.y};
    });
  else
    fetch([](const float* p, int left) {
      return float4{p[0], left > 1 ? p[1] : 0, left > 2 ? p[2] : 0, left > 3 ? p[3] : 0};
    });
}

// ---- inner products ----

/// A thread's scores of a tile: x[a][c] is that of query query(a) and key key(c), counted within the tile. Both grow by
/// kPart, so that pairs with the same c − a meet the same row of a band. Of a warp's lanes 8 have neighbouring keys and
/// one query: the rows that they read of each operand are the same, or lie in different banks.
template <int kThreads>
struct Scores {
  static constexpr int kKeys = 4, kQueries = kTile * kTile / kThreads / kKeys, kPart = kTile / kQueries;
  float x[kQueries][kKeys] = {};

  static __device__ int query(int a) { return first_query() + kPart * a; }
  static __device__ int key(int c) { return first_key() + kPart * c; }
  // Warps stand two side by side, the others above each other.
  static __device__ int first_query() { return int(threadIdx.x) / 8 % 4 + int(threadIdx.x) / 64 * 4; }
  static __device__ int first_key() {
    return int(threadIdx.x) % 8 + int(threadIdx.x) / 32 % 2 * (kPart == 8 ? kTile / 2 : 8);
  }
  template <class F>
  static __device__ void each(F f) {
#pragma unroll
    for (int a = 0; a < kQueries; ++a)
#pragma unroll
      for (int c = 0; c < kKeys; ++c) f(a, c);
  }
};

__device__ inline float4 row4(const float* x, int row, int d) {
  return *reinterpret_cast<const float4*>(x + row * kStripStride + d);
}
__device__ inline void add_dot(float& sum, float4 a, float4 b) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  sum = fmaf(a.w, b.w, sum);
}

/// scores += x_a·y_c, or x_a·y_{c−a+63} if kBanded, for four columns: 4 reads of y, or 11 (7 of 4 × 4 scores).
template <bool kBanded, int kThreads, int kQueries>
__device__ inline void add_inner(Scores<kThreads>& scores, const float4 (&x)[kQueries], const float* y, int d) {
  using Own = Scores<kThreads>;
  y += (kBanded ? Own::first_key() - Own::first_query() + kTile - 1 : Own::first_key()) * kStripStride;
#pragma unroll
  for (int e = kBanded ? 1 - Own::kQueries : 0; e < Own::kKeys; ++e) {
    const float4 ye = row4(y, Own::kPart * e, d);
#pragma unroll
    for (int a = 0; a < Own::kQueries; ++a) {
      const int c = kBanded ? a + e : e;  // the pairs with c − a = e share a row of the band
      if (c >= 0 && c < Own::kKeys) add_dot(scores.x[a][c], x[a], ye);
    }
  }
}

/// A thread's rows of x, four columns.
template <int kThreads, int kQueries>
__device__ inline void read_rows(float4 (&rows)[kQueries], const float* x, int d) {
#pragma unroll
  for (int a = 0; a < kQueries; ++a) rows[a] = row4(x, Scores<kThreads>::query(a), d);
}

/// Where a tile's rows begin. Queries query, query + step, …; the plain rows and the band upwards.
struct At {
  int query, step, plain, band;
};

/// The scores of a tile: x·y + (x + shift)·z with x = scale · q + bias, over all D columns. Reads of global memory, in
/// rows of D floats: 64 of q and y each, 127 of z. All threads must come. bias, shift (kD): in shared memory, the one
/// times the scale, the other times `sign`.
template <int kThreads>
__device__ inline void add_scores(Scores<kThreads>& scores, float* memory, const Rows& q, const float* bias,
                                  const float* shift, float sign, const Rows& y, const Rows& z, At at, const Shape& s) {
  float *x = memory, *ys = x + kStripFloats, *zs = ys + kStripFloats;
  Strip<kThreads, kTile, kStrip> q_strip, y_strip;
  Strip<kThreads, kBand, kStrip> z_strip;
#pragma unroll 1
  for (int column = 0; column < s.D; column += kStrip) {
    with_reads(s, [&](auto load) {
      q_strip.fetch(q, at.query, at.step, column, s.D, load);
      y_strip.fetch(y, at.plain, 1, column, s.D, load);
      z_strip.fetch(z, at.band, 1, column, s.D, load);
    });
    __syncthreads();
    q_strip.template store<kStripStride>(x, Bias{bias + column, s.scale});
    y_strip.template store<kStripStride>(ys, Unchanged{});
    z_strip.template store<kStripStride>(zs, Unchanged{});
    __syncthreads();
    const int width = min(kStrip, (s.D - column + 3) / 4 * 4);
#pragma unroll 1
    for (int d = 0; d < width; d += 4) {
      float4 rows[Scores<kThreads>::kQueries];
      read_rows<kThreads>(rows, x, d);
      add_inner<false>(scores, rows, ys, d);
      const float4 b = *reinterpret_cast<const float4*>(shift + column + d);
#pragma unroll
      for (float4& row : rows)
        row = {fmaf(sign, b.x, row.x), fmaf(sign, b.y, row.y), fmaf(sign, b.z, row.z), fmaf(sign, b.w, row.w)};
      add_inner<true>(scores, rows, zs, d);
    }
  }
}

/// products += x_a·y_c, or x_a·y_{c−a+63} if kBanded. Reads 64 rows of x and 64 or 127 of y. All threads must come.
template <bool kBanded, int kThreads>
__device__ inline void add_products(Scores<kThreads>& products, float* memory, const Rows& x, const Rows& y, At at,
                                    const Shape& s) {
  float *xs = memory, *ys = xs + kStripFloats;
  Strip<kThreads, kTile, kStrip> x_strip;
  Strip<kThreads, kBanded ? kBand : kTile, kStrip> y_strip;
#pragma unroll 1
  for (int column = 0; column < s.D; column += kStrip) {
    with_reads(s, [&](auto load) {
      x_strip.fetch(x, at.query, at.step, column, s.D, load);
      y_strip.fetch(y, kBanded ? at.band : at.plain, 1, column, s.D, load);
    });
    __syncthreads();
    x_strip.template store<kStripStride>(xs, Unchanged{});
    y_strip.template store<kStripStride>(ys, Unchanged{});
    __syncthreads();
    const int width = min(kStrip, (s.D - column + 3) / 4 * 4);
#pragma unroll 1
    for (int d = 0; d < width; d += 4) {
      float4 rows[Scores<kThreads>::kQueries];
      read_rows<kThreads>(rows, xs, d);
      add_inner<kBanded>(products, rows, ys, d);
    }
  }
}

// ---- outer products ----

/// A thread's part of a (64, D) sum: columns 32 n + column() … + 3 of row row() + i.
template <int kD>
struct Sum {
  static constexpr int kThreads = kThreadsFor<kD>, kRows = kTile * kColumns / 4 / kThreads;
  float4 x[kD / kColumns][kRows] = {};

  static __device__ int row() { return int(threadIdx.x) / 8 * kRows; }
  static __device__ int column() { return int(threadIdx.x) % 8 * 4; }
  template <class F>
  __device__ void each(F f) {
#pragma unroll
    for (auto& strip : x)
#pragma unroll
      for (int i = 0; i < kRows; ++i) f(strip[i], i);
  }

  /// The rows of one head, row i times factor(i). `to`: the head's row 0; only rows below `count` are written.
  template <class Factor>
  __device__ void store(float* to, int stride, int first, int count, const Shape& s, Factor factor) const {
#pragma unroll
    for (int n = 0; n < kD / kColumns; ++n) {
      const int d = n * kColumns + column();
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int at = first + row() + i;
        const float f = factor(row() + i);
        if (at < count && d < s.D)
          store4(to + int64_t(at) * stride + d, {x[n][i].x * f, x[n][i].y * f, x[n][i].z * f, x[n][i].w * f}, s.D - d,
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

/// sum_i += Σ_j score[i,j] y_j, or z_{j−i+63} if kBanded; y or z lies behind the scores. For four j a thread reads 4
/// rows of scores and 4 of y, 16 bytes each, for 64 multiplications and additions. (Row i + 1 of the sum meets at j the
/// band's row that row i met at j − 1.)
template <bool kBanded, int kD, int kRows>
__device__ inline void add_outer(float4 (&sum)[kRows], const float* scores) {
  const int row = Sum<kD>::row();
  const float* rows = scores + kScores + Sum<kD>::column() + (kBanded ? kTile - 1 - row : 0) * kColumns;
  const auto at = [&](int j) { return *reinterpret_cast<const float4*>(rows + j * kColumns); };
  float4 met[kRows];  // by each row of the sum
  if (kBanded)
#pragma unroll
    for (int i = 1; i < kRows; ++i) met[i] = at(-i);
#pragma unroll 2
  for (int j = 0; j < kTile; j += 4) {
    float4 a[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) a[i] = *reinterpret_cast<const float4*>(scores + (row + i) * kScoreStride + j);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      met[0] = at(j + n);
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        add_times(sum[i], n == 0 ? a[i].x : n == 1 ? a[i].y : n == 2 ? a[i].z : a[i].w, met[kBanded ? i : 0]);
#pragma unroll
      for (int i = kRows - 1; i > 0; --i) met[i] = met[i - 1];
    }
  }
}

/// The same for all columns. `memory` holds the scores, (64, kScoreStride), which other threads may just have written.
/// Reads 64 rows of D floats, or 127, from row `first` on; with a bias (times the scale) it is q + bias that is
/// summed. All threads must come.
template <bool kBanded, int kD>
__device__ inline void add_outer_products(Sum<kD>& sum, float* memory, const Rows& rows, int first, int step,
                                          const Shape& s, const float* bias = nullptr) {
  Strip<kThreadsFor<kD>, kBanded ? kBand : kTile, kColumns> strip;
#pragma unroll
  for (int n = 0; n < kD / kColumns; ++n) {
    const int column = n * kColumns;
    if (column >= s.D) continue;
    with_reads(s, [&](auto load) { strip.fetch(rows, first, step, column, s.D, load); });
    __syncthreads();
    if (bias != nullptr)
      strip.template store<kColumns>(memory + kScores, Bias{bias + column, s.scale});
    else
      strip.template store<kColumns>(memory + kScores, Unchanged{});
    __syncthreads();
    add_outer<kBanded, kD>(sum.x[n], memory);
  }
}

}  // namespace lem::LEM_DEVICE::relative
