// What the forward and the backward of relative attention share (docs/relative-attention.md derives the formulas): who
// sees whom, how tiles come into shared memory, and how many threads and blocks work on them. The products that
// everything is made of stand in relative_attention_products.h.
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

}  // namespace lem::LEM_DEVICE::relative
