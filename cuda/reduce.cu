// Reductions. All read their input once, 4 bytes a number, and are bound by that. The order of every addition follows
// from the sizes alone: a fixed number of blocks leave partial sums in memory, which a second launch adds up, so the
// bits are the same on every GPU and in every run. No atomics.
#include "cuda/rows.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

// ---- sums over a flat array ----
//
// A block takes 4096 numbers at a time. A thread reads 16 of them, 256 apart (a warp's read is 128 bytes side by side,
// and 16 are under way at once), adds them in a tree in float, and the result to its total in double. So rounding is
// that of four additions however long the array is, at one double addition for 64 bytes: GPUs for graphics have few
// units for doubles.

constexpr int kPerThread = 16;
constexpr int kTile = kThreads * kPerThread;
constexpr int64_t kMaxPartials = 1024;

struct Itself {
  __device__ static float of(float x) { return x; }
};
struct Square {
  __device__ static float of(float x) { return x * x; }
};
/// 1 for NaN and infinities, whose exponent has all bits set.
struct Nonfinite {
  __device__ static float of(float x) { return (__float_as_uint(x) & 0x7F800000u) == 0x7F800000u ? 1.0f : 0.0f; }
};

/// The block's sum, in thread 0.
__device__ inline double sum_of_block(double x) {
  SHARED(double, partial, [kThreads / kWarp]);
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = x;
  __syncthreads();
  double sum = 0;
  if (threadIdx.x == 0)
    for (const double p : partial) sum += p;
  return sum;
}

/// y[b] = Σ Term(x) over the tiles b, b + gridDim.x, …
template <class Term, class Out>
__global__ void __launch_bounds__(kThreads) sum_kernel(Out* y, const float* x, int64_t n) {
  double total = 0;
  for (int64_t tile = int64_t(blockIdx.x) * kTile; tile < n; tile += int64_t(gridDim.x) * kTile) {
    float terms[kPerThread];
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t i = tile + j * kThreads + threadIdx.x;
      terms[j] = i < n ? Term::of(x[i]) : 0.0f;
    }
#pragma unroll
    for (int half = kPerThread / 2; half > 0; half /= 2)
#pragma unroll
      for (int j = 0; j < half; ++j) terms[j] += terms[j + half];
    total += double(terms[0]);
  }
  total = sum_of_block(total);
  if (threadIdx.x == 0) y[blockIdx.x] = Out(total);
}
/// y[0] = the sum of n partial sums. One block.
template <class Out>
__global__ void __launch_bounds__(kThreads) sum_partials_kernel(Out* y, const double* partial, int n) {
  double total = 0;
  for (int i = int(threadIdx.x); i < n; i += kThreads) total += partial[i];
  total = sum_of_block(total);
  if (threadIdx.x == 0) y[0] = Out(total);
}

template <class Term, class Out>
void sum_terms(Out* y, const float* x, int64_t n) {
  const int64_t tiles = ceil_div(n, kTile);
  if (tiles <= 1) {
    LAUNCH((sum_kernel<Term, Out>), 1, kThreads, 0, stream())(y, x, n);
    CUDA_LAUNCHED();
    return;
  }
  const int64_t blocks = tiles < kMaxPartials ? tiles : kMaxPartials;
  const Workspace<double> partial(blocks);
  LAUNCH((sum_kernel<Term, double>), unsigned(blocks), kThreads, 0, stream())(partial, x, n);
  CUDA_LAUNCHED();
  LAUNCH(sum_partials_kernel<Out>, 1, kThreads, 0, stream())(y, partial, int(blocks));
  CUDA_LAUNCHED();
}

// ---- sums over rows ----
//
// A block of 32 × 8 threads takes 32 columns of some rows: thread (i, j) adds rows j, j + 8, … of column i, then the
// eight sums meet in shared memory (1 KiB). A warp reads 128 bytes of one row. Narrow matrices leave lanes idle.

constexpr int kRowsAtOnce = 8;
constexpr int64_t kRowsEach = 256;   // of one block, at least
constexpr int64_t kMaxChunks = 128;  // of rows

/// Row blockIdx.y of y = (or += ) Σ over its rows_each rows of x.
__global__ void __launch_bounds__(kWarp* kRowsAtOnce)
    column_sums_kernel(float* y, const float* x, int64_t rows, int64_t cols, int64_t rows_each, bool add) {
  SHARED(float, partial, [kRowsAtOnce][kWarp]);
  const int64_t col = int64_t(blockIdx.x) * kWarp + threadIdx.x;
  const int64_t begin = blockIdx.y * rows_each, end = begin + rows_each < rows ? begin + rows_each : rows;
  float sum = 0;
  if (col < cols)
#pragma unroll 4
    for (int64_t row = begin + threadIdx.y; row < end; row += kRowsAtOnce) sum += x[row * cols + col];
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || col >= cols) return;
  for (int j = 1; j < kRowsAtOnce; ++j) sum += partial[j][threadIdx.x];
  float& out = y[blockIdx.y * cols + col];
  out = add ? out + sum : sum;
}

void add_chunks(float* y, const float* x, int64_t rows, int64_t cols, int64_t rows_each, bool add) {
  const dim3 grid(unsigned(ceil_div(cols, kWarp)), unsigned(ceil_div(rows, rows_each)));
  LAUNCH(column_sums_kernel, grid, dim3(kWarp, kRowsAtOnce), 0, stream())(y, x, rows, cols, rows_each, add);
  CUDA_LAUNCHED();
}

// ---- argmax: a row is a warp's or a block's ----

struct Candidate {
  float value;
  int col;
};
/// The larger one, and of equals the first. NaN is not larger than anything.
__device__ inline Candidate better(Candidate a, Candidate b) {
  return b.value > a.value || (b.value == a.value && b.col < a.col) ? b : a;
}

template <int kRow>
__global__ void __launch_bounds__(kRowBlock) argmax_kernel(int32_t* y, const float* x, int64_t rows, int cols) {
  const int64_t row = row_of_thread<kRow>();
  if (row >= rows) return;
  const float* xr = x + row * cols;
  Candidate best{xr[0], 0};  // where it is NaN, nothing takes its place
  for_each_column<kRow, 1>(cols, [&](int c) { best = better(best, {xr[c], c}); });
  for (int step = kWarp / 2; step > 0; step /= 2)
    best = better(best, {__shfl_xor_sync(kAllLanes, best.value, step), __shfl_xor_sync(kAllLanes, best.col, step)});
  if constexpr (kRow != kWarp) {
    SHARED(Candidate, of_warps, [kRow / kWarp]);
    if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = best;
    __syncthreads();
    for (const Candidate& c : of_warps) best = better(best, c);
  }
  if (lane_in_row<kRow>() == 0) y[row] = best.col;
}

}  // namespace

void sum(real* y, const real* x, int64_t n) { sum_terms<Itself>(y, x, n); }
void sum_squares(real* y, const real* x, int64_t n) { sum_terms<Square>(y, x, n); }
void count_nonfinite(int32_t* y, const real* x, int64_t n) { sum_terms<Nonfinite>(y, x, n); }

void column_sums(real* y, const real* x, int64_t rows, int64_t cols) {
  if (rows * cols == 0) return;
  const int64_t at_least = ceil_div(rows, kMaxChunks), rows_each = at_least > kRowsEach ? at_least : kRowsEach;
  const int64_t chunks = ceil_div(rows, rows_each);
  if (chunks == 1) return add_chunks(y, x, rows, cols, rows, true);
  const Workspace<float> partial(chunks * cols);
  add_chunks(partial, x, rows, cols, rows_each, false);
  add_chunks(y, partial, chunks, cols, chunks, true);
}

void argmax(int32_t* y, const real* x, int64_t rows, int64_t cols) {
  if (rows * cols == 0) return;
  launch_rows(rows, cols, [&](auto kRow, auto, unsigned blocks) {
    LAUNCH(argmax_kernel<kRow.value>, blocks, kRowBlock, 0, stream())(y, x, rows, int(cols));
    CUDA_LAUNCHED();
  });
}

}  // namespace lem::LEM_DEVICE
