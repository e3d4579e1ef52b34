// Rows of a matrix (rows, cols) on the threads of a block: what the kernels on rows share.
//
// A row is one warp's, eight rows a block, where it has at most 512 columns: nobody waits for anybody, a sum is five
// shuffles. A longer row is a whole block's. Thread `lane` of the kRow that share a row takes columns W·lane … W·lane +
// W − 1, then those W·kRow further on: W = 4, one 16-byte access, where all rows of all arrays begin on 16 bytes, else
// 1. A warp so touches 128 or 512 bytes side by side.
//
// Each thread can hold its first 16 columns in registers, so that a row of up to 16·kRow columns (512 or 4096) is read
// from memory once however often the kernel goes over it.
#pragma once

#include <type_traits>

#include "cuda/device.h"

namespace lem::LEM_DEVICE {

inline constexpr int kRowBlock = 256;    // threads of a block
inline constexpr int kHeldColumns = 16;  // of each thread, in registers

/// kernel(kRow, W, blocks) with the constants that suit the rows: call with a generic lambda that launches.
template <class Launch, class... Arrays>
void launch_rows(int64_t rows, int64_t cols, Launch launch, const Arrays*... arrays) {
  const bool fours = cols % 4 == 0 && ((reinterpret_cast<uintptr_t>(arrays) % 16 == 0) && ...);
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 4> four;
  if (cols <= kWarp * kHeldColumns) {
    constexpr std::integral_constant<int, kWarp> warp;
    const auto blocks = unsigned(ceil_div(rows, kRowBlock / kWarp));
    fours ? launch(warp, four, blocks) : launch(warp, one, blocks);
  } else {
    constexpr std::integral_constant<int, kRowBlock> block;
    fours ? launch(block, four, unsigned(rows)) : launch(block, one, unsigned(rows));
  }
}

/// The row of this thread, which may lie behind the last one (then all threads that share it may leave), and the
/// thread's number among those.
template <int kRow>
__device__ inline int64_t row_of_thread() {
  return int64_t(blockIdx.x) * (kRowBlock / kRow) + threadIdx.x / kRow;
}
template <int kRow>
__device__ inline int lane_in_row() {
  return int(threadIdx.x) % kRow;
}

// ---- W neighbours ----

template <int W>
struct Floats {
  float v[W];
};
template <int W>
__device__ inline Floats<W> load(const float* p) {
  if constexpr (W == 4) {
    const float4 x = *reinterpret_cast<const float4*>(p);
    return {{x.x, x.y, x.z, x.w}};
  } else {
    return {{*p}};
  }
}
template <int W>
__device__ inline void store(float* p, const Floats<W>& x) {
  if constexpr (W == 4)
    *reinterpret_cast<float4*>(p) = {x.v[0], x.v[1], x.v[2], x.v[3]};
  else
    *p = x.v[0];
}
/// What dropout multiplies elements i … i + W − 1 with; the first draw and i are multiples of W.
template <int W>
__device__ inline Floats<W> dropout_factors(const Dropout& d, int64_t i) {
  if constexpr (W == 4) {
    if (d.p == 0) return {{1, 1, 1, 1}};
    const uint4 bits = philox(d.stream, (d.first + uint64_t(i)) / 4);
    return {
        {dropout_factor(d, bits.x), dropout_factor(d, bits.y), dropout_factor(d, bits.z), dropout_factor(d, bits.w)}};
  } else {
    return {{dropout_at(d, i)}};
  }
}

// ---- this thread's columns ----

template <int W>
using Held = Floats<W>[kHeldColumns / W];

/// Puts the columns that a thread can hold into registers: read(c, x…) sets the W numbers x from column c on of each
/// array.
template <int kRow, int W, class Read, class... X>
__device__ inline void hold(int cols, Read read, X&... held) {
#pragma unroll
  for (int i = 0; i < kHeldColumns / W; ++i)
    if (const int c = (i * kRow + lane_in_row<kRow>()) * W; c < cols) read(c, held[i]...);
}
/// f(c, x…) for all columns c … c + W − 1 of this thread: x are the held numbers, which f may change, and beyond those
/// what read(c, x…) makes of memory, each time anew. A warp's row has none beyond (launch_rows).
template <int kRow, int W, class Read, class F, class... X>
__device__ inline void for_columns(int cols, Read read, F f, X&... held) {
  hold<kRow, W>(cols, f, held...);
  if constexpr (kRow != kWarp)
    for (int c = (kHeldColumns / W * kRow + lane_in_row<kRow>()) * W; c < cols; c += kRow * W)
      [&](std::remove_extent_t<X>... x) {
        read(c, x...);
        f(c, x...);
      }(std::remove_extent_t<X>{}...);
}
/// f(c) for the same columns, nothing held.
template <int kRow, int W, class F>
__device__ inline void for_each_column(int cols, F f) {
  for (int c = lane_in_row<kRow>() * W; c < cols; c += kRow * W) f(c);
}

// ---- over the threads of a row: all of them must come, and all get the result ----

template <int kRow>
__device__ inline float row_sum(float x) {
  if constexpr (kRow == kWarp) {
    return warp_sum(x);
  } else {
    SHARED(float, partial, [kRow / kWarp]);
    const float sum = block_sum<kRow>(x, partial);
    __syncthreads();  // before the next sum writes
    return sum;
  }
}
template <int kRow>
__device__ inline float row_max(float x) {
  x = warp_max(x);
  if constexpr (kRow != kWarp) {
    SHARED(float, partial, [kRow / kWarp]);
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = x;
    __syncthreads();
    for (int w = 0; w < kRow / kWarp; ++w) x = fmaxf(x, partial[w]);
    __syncthreads();
  }
  return x;
}

}  // namespace lem::LEM_DEVICE
