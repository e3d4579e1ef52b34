// Layer normalisation, y = gamma (x − mean) rstd + beta, in four versions. What must be moved is 8 bytes an element: 4
// read, 4 written; gamma and beta are the same for all rows and come from the cache, but are asked for once a row.
#include "cuda/device.h"
#include "cuda/lessons/lessons.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

// ---- 1. A thread a row ----
//
// Mapping: thread i of the grid has row i.
// Bytes:   12 of x, 8 of gamma and beta read, 4 written an element. All lanes work, but at any moment they are cols
//          numbers apart: every access of a warp touches 32 sectors for 32 numbers, 8 times what it asks for. (gamma
//          and beta cost one sector for all 32 lanes: these are at the same column.)
// Reads:   5 cols a thread. The squares are summed about the mean, in a pass of their own: the mean square less the
//          squared mean would lose digits where the mean is large.
// Mend:    7 of 8 bytes are moved for nothing, and a matrix of few rows keeps few threads busy.

__global__ void __launch_bounds__(kThreads)
    layer_norm_1_kernel(float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta,
                        float eps, int64_t rows, int64_t cols) {
  const int64_t row = thread_in_grid(), start = row * cols;
  if (row >= rows) return;
  float total = 0, squares = 0;
  for (int64_t c = 0; c < cols; ++c) total += x[start + c];
  const float m = total / float(cols);
  for (int64_t c = 0; c < cols; ++c) squares += (x[start + c] - m) * (x[start + c] - m);
  const float r = 1 / sqrtf(squares / float(cols) + eps);
  for (int64_t c = 0; c < cols; ++c) y[start + c] = (x[start + c] - m) * r * gamma[c] + beta[c];
  mean[row] = m, rstd[row] = r;
}

void layer_norm_1(float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta, float eps,
                  int64_t rows, int64_t cols) {
  LAUNCH(layer_norm_1_kernel, unsigned(ceil_div(rows, kThreads)), kThreads, 0, stream())
  (y, mean, rstd, x, gamma, beta, eps, rows, cols);
  CUDA_LAUNCHED();
}

// ---- 2. A block a row ----
//
// Mapping: thread t of a row's block has columns t, t + 256, …
// Bytes:   12 of x, 8 of gamma and beta read, 4 written an element, all coalesced. The threads' sums meet by shuffles
//          within a warp, then in shared memory (32 bytes), behind a barrier.
// Reads:   5 cols / 256 a thread.
// Mend:    x is read three times; a short row leaves threads idle, and all wait at three barriers.

__global__ void __launch_bounds__(kThreads)
    layer_norm_2_kernel(float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta,
                        float eps, int64_t cols) {
  SHARED(float, partial, [kThreads / kWarp]);
  const int64_t row = blockIdx.x, start = row * cols;
  float total = 0, squares = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) total += x[start + c];
  const float m = block_sum<kThreads>(total, partial) / float(cols);
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) squares += (x[start + c] - m) * (x[start + c] - m);
  __syncthreads();  // all have read the first sum's parts
  const float r = 1 / sqrtf(block_sum<kThreads>(squares, partial) / float(cols) + eps);
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) y[start + c] = (x[start + c] - m) * r * gamma[c] + beta[c];
  if (threadIdx.x == 0) mean[row] = m, rstd[row] = r;
}

void layer_norm_2(float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta, float eps,
                  int64_t rows, int64_t cols) {
  LAUNCH(layer_norm_2_kernel, unsigned(rows), kThreads, 0, stream())(y, mean, rstd, x, gamma, beta, eps, cols);
  CUDA_LAUNCHED();
}

// ---- 3. A warp a row, which it holds in registers ----
//
// Mapping: lane l has columns l, l + 32, …, 16 at most: rows of up to 512 columns. (Longer ones go to version 2.)
// Bytes:   4 of x, 8 of gamma and beta read, 4 written an element. The three passes go over registers: loops of a fixed
//          length, unrolled, so that no array index is left for the running program, or the array would be memory.
// Reads:   3 cols / 32 a thread, the first 16 all under way at once. No barriers.
// Mend:    four numbers are four instructions, where one can fetch 16 bytes; rows of more than 512 columns gain
// nothing.

constexpr int kHeld = 16;

__global__ void __launch_bounds__(kThreads)
    layer_norm_3_kernel(float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta,
                        float eps, int64_t rows, int64_t cols) {
  const int64_t row = thread_in_grid() / kWarp, start = row * cols;
  const int lane = threadIdx.x % kWarp;
  if (row >= rows) return;
  float v[kHeld], total = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < kHeld; ++k) v[k] = k * kWarp + lane < cols ? x[start + k * kWarp + lane] : 0;
#pragma unroll
  for (int k = 0; k < kHeld; ++k) total += v[k];
  const float m = warp_sum(total) / float(cols);
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (k * kWarp + lane < cols) squares += (v[k] - m) * (v[k] - m);
  const float r = 1 / sqrtf(warp_sum(squares) / float(cols) + eps);
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (const int c = k * kWarp + lane; c < cols) y[start + c] = (v[k] - m) * r * gamma[c] + beta[c];
  if (lane == 0) mean[row] = m, rstd[row] = r;
}

void layer_norm_3(float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta, float eps,
                  int64_t rows, int64_t cols) {
  if (cols > kWarp * kHeld) return layer_norm_2(y, mean, rstd, x, gamma, beta, eps, rows, cols);
  LAUNCH(layer_norm_3_kernel, unsigned(ceil_div(rows, kThreads / kWarp)), kThreads, 0, stream())
  (y, mean, rstd, x, gamma, beta, eps, rows, cols);
  CUDA_LAUNCHED();
}

// ---- 4. Ours: cuda/layer_norm.cu ----
//
// Mapping: a warp a row up to 512 columns, a block a longer one; each thread has four neighbouring columns at a time.
// Bytes:   as version 3, also for rows of up to 4096 columns.
// Reads:   3 cols / 128 a thread, of 16 bytes each. In models it also adds the residual and drops out on the way, which
//          saves those the passes over memory that they would take alone; here there is nothing to add.

void layer_norm_4(float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta, float eps,
                  int64_t rows, int64_t cols) {
  float* const sum = const_cast<float*>(x);  // x + nothing, which is not written where it is x itself
  layer_norm_forward(y, sum, mean, rstd, x, nullptr, nullptr, gamma, beta, eps, {}, rows, cols);
}

}  // namespace

extern const LayerNormLesson layer_norm_lesson[kLessonVersions] = {layer_norm_1, layer_norm_2, layer_norm_3,
                                                                   layer_norm_4};

}  // namespace lem::LEM_DEVICE
