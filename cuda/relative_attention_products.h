// The products that relative attention's kernels are made of (relative_attention.h): rows of global memory come in
// strips into shared memory, and there meet in inner products, which give a tile's scores, and in outer products, which
// take them.
#pragma once

#include "cuda/relative_attention.h"

namespace lem::LEM_DEVICE::relative {

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

/// visit(rows, d) for each four columns of a strip, d … d + 3 of it, with a thread's rows of x there. `left`: columns
/// from the strip's first on.
template <int kThreads, class Visit>
__device__ inline void for_four_columns(const float* x, int left, Visit visit) {
  const int width = min(kStrip, (left + 3) / 4 * 4);
#pragma unroll 1
  for (int d = 0; d < width; d += 4) {
    float4 rows[Scores<kThreads>::kQueries];
#pragma unroll
    for (int a = 0; a < Scores<kThreads>::kQueries; ++a) rows[a] = row4(x, Scores<kThreads>::query(a), d);
    visit(rows, d);
  }
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
    for_four_columns<kThreads>(x, s.D - column, [&](auto& rows, int d) {
      add_inner<false>(scores, rows, ys, d);
      const float4 b = *reinterpret_cast<const float4*>(shift + column + d);
#pragma unroll
      for (float4& row : rows)
        row = {fmaf(sign, b.x, row.x), fmaf(sign, b.y, row.y), fmaf(sign, b.z, row.z), fmaf(sign, b.w, row.w)};
      add_inner<true>(scores, rows, zs, d);
    });
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
    for_four_columns<kThreads>(xs, s.D - column,
                               [&](const auto& rows, int d) { add_inner<kBanded>(products, rows, ys, d); });
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
/// rows of scores and 4 of y, 16 bytes each, for 64 multiplications and additions; one of 256 threads, 2 and 4 for 32.
/// (Row i + 1 of the sum meets at j the band's row that row i met at j − 1.)
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
