// The sum of n numbers, in four versions. What must be moved is 4 bytes a number.
#include "cuda/device.h"
#include "cuda/lessons/lessons.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

// ---- 1. One thread ----
//
// Mapping: a block of one thread has all numbers.
// Bytes:   4 read a number; moved is a sector of 32 each time.
// Reads:   n, each addition waiting for the one before. Rounding errors add up over n additions.
// Mend:    one thread works.

__global__ void sum_1_kernel(float* y, const float* x, int64_t n) {
  float total = 0;
  for (int64_t i = 0; i < n; ++i) total += x[i];
  y[0] = total;
}

void sum_1(float* y, const float* x, int64_t n) {
  LAUNCH(sum_1_kernel, 1, 1, 0, stream())(y, x, n);
  CUDA_LAUNCHED();
}

// ---- 2. One block, and a tree in shared memory ----
//
// Mapping: thread t has numbers t, t + 256, …
// Bytes:   4 read a number, coalesced: 4 are moved. Shared memory: 1 KiB.
// Reads:   n / 256 a thread. Then 128 threads each add one of the other 128 sums to theirs, 64 …, down to one, with a
//          barrier at each step.
// Mend:    one block works, and so one SM of the GPU's hundred.

__global__ void __launch_bounds__(kThreads) sum_2_kernel(float* y, const float* x, int64_t n) {
  SHARED(float, sums, [kThreads]);
  float total = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) total += x[i];
  sums[threadIdx.x] = total;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) y[0] = sums[0];
}

void sum_2(float* y, const float* x, int64_t n) {
  LAUNCH(sum_2_kernel, 1, kThreads, 0, stream())(y, x, n);
  CUDA_LAUNCHED();
}

// ---- 3. Many blocks, in two launches ----
//
// Mapping: thread i of the grid has numbers i, i + threads of the grid, …: four a thread, until the grid is large.
// Bytes:   4 read a number, and 8 a block for its sum, written and read again. Shared memory: 32 bytes.
// Reads:   4 a thread. Inside a warp shuffles take the place of the tree's first five steps and of their barriers.
//          Blocks cannot wait for each other, so a second launch adds their sums up: an atomic addition would do it
//          in one, but in an order, and so to last bits, that change from run to run.
// Mend:    a thread's reads wait for its additions, and with n grows the number of floats that are added one by one.

__global__ void __launch_bounds__(kThreads) sum_3_kernel(float* y, const float* x, int64_t n) {
  SHARED(float, partial, [kThreads / kWarp]);
  float total = 0;
  for (int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) total += x[i];
  total = block_sum<kThreads>(total, partial);
  if (threadIdx.x == 0) y[blockIdx.x] = total;
}

void sum_3(float* y, const float* x, int64_t n) {
  const unsigned blocks = blocks_for(n, 4 * kThreads);
  const Workspace<float> sums(blocks);
  LAUNCH(sum_3_kernel, blocks, kThreads, 0, stream())(sums, x, n);
  CUDA_LAUNCHED();
  LAUNCH(sum_3_kernel, 1, kThreads, 0, stream())(y, sums, blocks);
  CUDA_LAUNCHED();
}

// ---- 4. Ours: cuda/reduce.cu ----
//
// Mapping: a block has 4096 numbers at a time, a thread 16 of them, 256 apart.
// Bytes:   4 read a number, and 16 a block for its sum, which is a double.
// Reads:   16 a thread at a time, all under way at once: what hides the time that memory takes to answer. They are
//          added in a tree, in float, and the result to a total in double, so that rounding is that of four additions
//          however many numbers there are.

void sum_4(float* y, const float* x, int64_t n) { sum(y, x, n); }

}  // namespace

extern const SumLesson sum_lesson[kLessonVersions] = {sum_1, sum_2, sum_3, sum_4};

}  // namespace lem::LEM_DEVICE
