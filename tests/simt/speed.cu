// What a CUDA thread costs in the interpreter: nanoseconds of CPU time a thread, the best of five. `make simt-speed`.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "cuda/simt/simt.h"

namespace {

__global__ void empty_kernel() {}

__global__ void add_kernel(float* y, const float* x, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] += x[i];
}

__global__ void ten_barriers_kernel(float* y) {
  SHARED(float, s, [1024]);
  float v = float(threadIdx.x);
  for (int i = 0; i < 5; ++i) {
    s[threadIdx.x] = v;
    __syncthreads();
    v += s[(threadIdx.x + 1) % blockDim.x];
    __syncthreads();
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = v;
}

__global__ void five_shuffles_kernel(float* y) {
  float v = float(threadIdx.x);
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, d);
  y[blockIdx.x * blockDim.x + threadIdx.x] = v;
}

template <class Work>
void time(const char* name, int threads, Work work) {
  double best = 1e30;
  for (int i = 0; i < 5; ++i) {
    const std::clock_t begin = std::clock();
    work();
    cudaDeviceSynchronize();
    best = std::min(best, double(std::clock() - begin) / CLOCKS_PER_SEC);
  }
  std::printf("%-34s %7.1f ns a thread\n", name, best * 1e9 / threads);
}

}  // namespace

int main() {
  const int n = 1 << 18;
  float *x = nullptr, *y = nullptr;
  cudaMalloc(&x, n * sizeof(float));
  cudaMalloc(&y, n * sizeof(float));
  cudaMemset(x, 0, n * sizeof(float));
  cudaMemset(y, 0, n * sizeof(float));
  time("nothing, blocks of 256", n, [&] { LAUNCH(empty_kernel, n / 256, 256, 0, 0)(); });
  time("y += x, blocks of 256", n, [&] { LAUNCH(add_kernel, n / 256, 256, 0, 0)(y, x, n); });
  time("y += x, blocks of 32", n, [&] { LAUNCH(add_kernel, n / 32, 32, 0, 0)(y, x, n); });
  time("ten barriers, blocks of 128", n, [&] { LAUNCH(ten_barriers_kernel, n / 128, 128, 0, 0)(y); });
  time("ten barriers, blocks of 256", n, [&] { LAUNCH(ten_barriers_kernel, n / 256, 256, 0, 0)(y); });
  time("ten barriers, blocks of 1024", n, [&] { LAUNCH(ten_barriers_kernel, n / 1024, 1024, 0, 0)(y); });
  time("five shuffles, blocks of 256", n, [&] { LAUNCH(five_shuffles_kernel, n / 256, 256, 0, 0)(y); });
  return 0;
}
