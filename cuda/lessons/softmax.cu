// Softmax along rows, y_j = exp(x_j − max) / Σ_k exp(x_k − max), in four versions. What must be moved, if nothing is
// moved twice, is 8 bytes an element: 4 read, 4 written. `make lessons` counts what each version asks for and what that
// moves.
#include <cfloat>

#include "cuda/device.h"
#include "cuda/lessons/lessons.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

// ---- 1. The formula ----
//
// Mapping: a block of one thread for each row.
// Bytes:   12 read, 4 written an element: three passes. Memory is moved in sectors of 32 bytes, and each access of a
//          warp fetches at least one: here for a single number, so up to 96 and 32 are moved.
// Reads:   3 cols a thread, one after the other.
// Mend:    31 of the warp's 32 lanes do not exist, and 28 of each sector's 32 bytes are moved for nothing.

__global__ void softmax_1_kernel(float* y, const float* x, int64_t cols) {
  const int64_t begin = blockIdx.x * cols, end = begin + cols;
  float largest = -INFINITY, total = 0;
  for (int64_t i = begin; i < end; ++i) largest = fmaxf(largest, x[i]);
  for (int64_t i = begin; i < end; ++i) total += expf(x[i] - largest);
  for (int64_t i = begin; i < end; ++i) y[i] = expf(x[i] - largest) / total;
}

void softmax_1(float* y, const float* x, int64_t rows, int64_t cols) {
  LAUNCH(softmax_1_kernel, unsigned(rows), 1, 0, stream())(y, x, cols);
  CUDA_LAUNCHED();
}

// ---- 2. A warp a row ----
//
// Mapping: lane l of a row's warp has columns l, l + 32, …; eight rows a block.
// Bytes:   12 read, 4 written an element still, but now the 32 lanes read 128 bytes side by side, four whole sectors
//          (this is called coalescing): what is moved is what is asked for.
// Reads:   3 cols / 32 a thread. The lanes' maxima and sums meet in five shuffles, without memory or barriers.
// Mend:    x is read three times where twice would do.

__global__ void __launch_bounds__(kThreads) softmax_2_kernel(float* y, const float* x, int64_t rows, int64_t cols) {
  const int64_t row = thread_in_grid() / kWarp, begin = row * cols + threadIdx.x % kWarp, end = (row + 1) * cols;
  if (row >= rows) return;
  float largest = -INFINITY, total = 0;
  for (int64_t i = begin; i < end; i += kWarp) largest = fmaxf(largest, x[i]);
  largest = warp_max(largest);
  for (int64_t i = begin; i < end; i += kWarp) total += expf(x[i] - largest);
  total = warp_sum(total);
  for (int64_t i = begin; i < end; i += kWarp) y[i] = expf(x[i] - largest) / total;
}

void softmax_2(float* y, const float* x, int64_t rows, int64_t cols) {
  LAUNCH(softmax_2_kernel, unsigned(ceil_div(rows, kThreads / kWarp)), kThreads, 0, stream())(y, x, rows, cols);
  CUDA_LAUNCHED();
}

// ---- 3. One pass for both the maximum and the sum ----
//
// Mapping: as before.
// Bytes:   8 read, 4 written an element. The sum is kept relative to the largest number so far, and shrinks by exp(old
//          − new) where a larger one comes. The lanes' sums are made relative to the row's maximum before they meet.
// Reads:   2 cols / 32 a thread, for one more exponential an element: arithmetic is what there is plenty of.
// Mend:    x is still read twice, though a row of 512 would fit into its warp's registers, 16 numbers a thread.

__global__ void __launch_bounds__(kThreads) softmax_3_kernel(float* y, const float* x, int64_t rows, int64_t cols) {
  const int64_t row = thread_in_grid() / kWarp, begin = row * cols + threadIdx.x % kWarp, end = (row + 1) * cols;
  if (row >= rows) return;
  float mine = -FLT_MAX, total = 0;  // a lane without columns takes differences of its maximum, too: not −∞
  for (int64_t i = begin; i < end; i += kWarp) {
    const float before = mine;
    mine = fmaxf(mine, x[i]);
    total = total * expf(before - mine) + expf(x[i] - mine);
  }
  const float largest = warp_max(mine);
  total = warp_sum(total * expf(mine - largest));
  for (int64_t i = begin; i < end; i += kWarp) y[i] = expf(x[i] - largest) / total;
}

void softmax_3(float* y, const float* x, int64_t rows, int64_t cols) {
  LAUNCH(softmax_3_kernel, unsigned(ceil_div(rows, kThreads / kWarp)), kThreads, 0, stream())(y, x, rows, cols);
  CUDA_LAUNCHED();
}

// ---- 4. Ours: cuda/softmax.cu ----
//
// Mapping: a warp a row up to 512 columns, a block a longer one; each thread has four neighbouring columns at a time.
// Bytes:   4 read, 4 written an element: the row stays in registers between the passes (up to 4096 columns).
// Reads:   cols / 128 a thread, of 16 bytes each: a warp's access is 512 bytes side by side.

void softmax_4(float* y, const float* x, int64_t rows, int64_t cols) { softmax_forward(y, x, nullptr, rows, cols); }

}  // namespace

extern const SoftmaxLesson softmax_lesson[kLessonVersions] = {softmax_1, softmax_2, softmax_3, softmax_4};

}  // namespace lem::LEM_DEVICE
