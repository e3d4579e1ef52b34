// Sticky memories (docs/sticky-memories.md): where did the previous segment look, and at which points is the old signal
// read next. Both are small beside the attention that they follow.
#include "cuda/expectation.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

/// mass[b, k] = Σ_i Φ((e_{k+1} − μ_i)/σ_i) − Φ((e_k − μ_i)/σ_i): a block has one bin of one row; thread t adds up
/// densities t, t + 256, …, and the block's sum has a fixed order. Each difference keeps its digits, in float (a
/// rectangle's expectation), and none is negative, so that there is nothing for sums in double to save. 8 bytes and
/// some 50 operations a density and bin, the bytes from the cache but for the first bin.
__global__ void __launch_bounds__(kThreads)
    histogram_kernel(float* mass, const float* density, int64_t B, int64_t n, int64_t bins) {
  SHARED(float, partial, [kThreads / kWarp]);
  const int64_t k = blockIdx.x % bins, b = blockIdx.x / bins;
  const double lo = bin_edge(k, bins), hi = bin_edge(k + 1, bins);
  const float from = float(lo), to = float(hi), width = float(hi - lo);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const Expect<BasisKind::rectangle, DensityKind::gaussian, float> expect(density[b * n + i],
                                                                            density[(B + b) * n + i]);
    sum += expect(from, to, width).value;
  }
  sum = block_sum<kThreads>(sum, partial);
  if (threadIdx.x == 0) mass[b * bins + k] = sum < 0 ? 0 : sum;  // NaN passes
}

// ---- points ----
//
// R heights, ascending, on an axis on which the bins' masses lie end to end, each pick the bin that they hit; points
// lie in their bins. The same operations in the same order and in double, as the CPU's, give the CPU's bits: draws are
// pure functions of (seed, stream, draw), and none of the expressions holds a product that an FMA could take up
// unrounded.

/// What a row's draws need.
struct Axis {
  double* top;    // (B, bins): mass[0] + … + mass[k]
  int32_t* last;  // (B): the last bin with mass; −1 where mass is unusable and points are i/R
};

/// A warp has a row: its lanes read 32 masses at once and hand them to each other one by one, since double addition has
/// an order.
__global__ void __launch_bounds__(kWarp) axis_kernel(Axis axis, int32_t* fallbacks, const float* mass, int64_t bins) {
  const int64_t b = blockIdx.x;
  const int lane = threadIdx.x;
  double total = 0;
  int32_t last = -1;
  for (int64_t k0 = 0; k0 < bins; k0 += kWarp) {
    const float mine = k0 + lane < bins ? mass[b * bins + k0 + lane] : 0.0f;
    double top = 0;
    for (int i = 0; i < kWarp && k0 + i < bins; ++i) {
      const float m = __shfl_sync(kAllLanes, mine, i);
      total += double(m);
      if (m > 0) last = int32_t(k0 + i);
      if (lane == i) top = total;
    }
    if (k0 + lane < bins) axis.top[b * bins + k0 + lane] = top;
  }
  const bool usable = total > 0 && isfinite(total);
  if (lane == 0) fallbacks[b] = !usable, axis.last[b] = usable ? last : -1;
}

__device__ inline double uniform(const Stream& stream, uint64_t draw) {
  return double(philox_draw(stream, draw) >> 8) * (1.0 / 16777216.0);
}

/// x (B, R): the heights as shares of the row's total. Stratified: R even steps from one random offset, ascending.
/// Multinomial: R independent draws, to be sorted. Of the 2R draws of a row's stream the first R are for the heights.
__global__ void __launch_bounds__(kThreads)
    heights_kernel(double* x, StickyDraw draw, const Stream* streams, int64_t B, int64_t R) {
  for (int64_t e = thread_in_grid(); e < B * R; e += threads_in_grid()) {
    const int64_t b = e / R, i = e % R;
    x[e] = draw == StickyDraw::stratified ? (double(i) + uniform(streams[b], 0)) / double(R) : uniform(streams[b], i);
  }
}

/// sorted = the rows of x (B, R), each ascending: a thread counts how many numbers of the row come before its own, and
/// writes its own there. R² comparisons a row, but all at once, and R is hundreds. A block has 256 numbers of one row
/// and takes the row through shared memory, 256 at a time.
template <class Number>
__global__ void __launch_bounds__(kThreads) sort_kernel(Number* sorted, const Number* x, int64_t R) {
  SHARED(Number, others, [kThreads]);
  const int64_t parts = ceil_div(R, kThreads), b = blockIdx.x / parts;
  const int64_t i = blockIdx.x % parts * kThreads + threadIdx.x;
  const Number mine = x[b * R + (i < R ? i : 0)];
  int64_t before = 0;
  for (int64_t from = 0; from < R; from += kThreads) {
    if (from + threadIdx.x < R) others[threadIdx.x] = x[b * R + from + threadIdx.x];
    __syncthreads();
    for (int k = 0; k < kThreads && from + k < R; ++k)
      before += others[k] < mine || (others[k] == mine && from + k < i);
    __syncthreads();
  }
  if (i < R) sorted[b * R + before] = mine;
}

/// u (B, R): a thread has one point. Bin k covers the heights below top[k] that no earlier bin covers; rounding may
/// lift a height to the very top, which the last bin with mass takes.
__global__ void __launch_bounds__(kThreads) points_kernel(float* u, Axis axis, const double* x, StickyPlace place,
                                                          const Stream* streams, int64_t B, int64_t bins, int64_t R) {
  for (int64_t e = thread_in_grid(); e < B * R; e += threads_in_grid()) {
    const int64_t b = e / R, i = e % R;
    if (axis.last[b] < 0) {
      u[e] = float(double(i + 1) / double(R));
      continue;
    }
    const double* top = axis.top + b * bins;  // (bins)
    const double height = top[bins - 1] * x[e];
    int64_t low = 0, high = axis.last[b];  // the bin lies in [low, high]
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (height < top[middle]) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const double within = place == StickyPlace::left     ? 0
                          : place == StickyPlace::centre ? 0.5
                                                         : uniform(streams[b], R + i);
    u[e] = float((double(low) + within) / double(bins));
  }
}

/// The rows of x (B, R), sorted.
template <class Number>
void sort_rows(Number* sorted, const Number* x, int64_t B, int64_t R) {
  LAUNCH(sort_kernel<Number>, unsigned(B * ceil_div(R, kThreads)), kThreads, 0, stream())(sorted, x, R);
  CUDA_LAUNCHED();
}

}  // namespace

void sticky_histogram(real* mass, const real* density, int64_t B, int64_t n, int64_t bins) {
  if (B * bins == 0) return;
  LAUNCH(histogram_kernel, unsigned(B * bins), kThreads, 0, stream())(mass, density, B, n, bins);
  CUDA_LAUNCHED();
}

void sticky_points(real* points, int32_t* fallbacks, const real* mass, StickyDraw draw, StickyPlace place,
                   const Stream* streams, int64_t B, int64_t bins, int64_t R) {
  if (B == 0) return;
  const Workspace<double> top(B * bins), drawn(B * R), ascending(B * R);
  const Workspace<int32_t> last(B);
  const Workspace<float> unsorted(B * R);
  const Axis axis = {top, last};
  LAUNCH(axis_kernel, unsigned(B), kWarp, 0, stream())(axis, fallbacks, mass, bins);
  CUDA_LAUNCHED();
  if (R == 0) return;
  const unsigned blocks = blocks_for(B * R, kThreads);
  LAUNCH(heights_kernel, blocks, kThreads, 0, stream())(drawn, draw, streams, B, R);
  CUDA_LAUNCHED();
  const bool stratified = draw == StickyDraw::stratified, sorted = place != StickyPlace::uniform;
  if (!stratified) sort_rows<double>(ascending, drawn, B, R);
  LAUNCH(points_kernel, blocks, kThreads, 0, stream())
  (sorted ? points : unsorted, axis, stratified ? drawn : ascending, place, streams, B, bins, R);
  CUDA_LAUNCHED();
  if (!sorted) sort_rows<float>(points, unsorted, B, R);
}

}  // namespace lem::LEM_DEVICE
