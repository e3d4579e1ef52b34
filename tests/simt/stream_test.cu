// Streams, events, pinned memory and what happens when there is none left.
#include <cstring>

#include "tests/simt/support.h"

namespace {

__global__ void scale_kernel(float* y, float a, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] *= a;
}
__global__ void copy_kernel(float* y, const float* x, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = x[i];
}

struct Streams {
  cudaStream_t a, b;
  cudaEvent_t event, end;
  Streams() {
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    OK(cudaEventCreate(&event));
    OK(cudaEventCreate(&end));
  }
  ~Streams() {
    (void)cudaStreamDestroy(a), (void)cudaStreamDestroy(b);
    (void)cudaEventDestroy(event), (void)cudaEventDestroy(end);
  }
};

}  // namespace

TEST_CASE("work of one stream runs in order, and an event orders two", "[simt]") {
  in_every_order([] {
    const Streams s;
    const Device<float> x(size_t{64}, 1.0f), y(size_t{64});
    OK(cudaDeviceSynchronize());
    LAUNCH(scale_kernel, 1, 64, 0, s.a)(x.get(), 3.0f, 64);
    LAUNCH(scale_kernel, 1, 64, 0, s.a)(x.get(), 5.0f, 64);
    OK(cudaEventRecord(s.event, s.a));
    OK(cudaStreamWaitEvent(s.b, s.event, 0));
    LAUNCH(copy_kernel, 1, 64, 0, s.b)(y.get(), x.get(), 64);
    OK(cudaEventRecord(s.end, s.b));
    OK(cudaEventSynchronize(s.end));
    OK(cudaStreamSynchronize(s.b));
    float milliseconds = -1;
    OK(cudaEventElapsedTime(&milliseconds, s.event, s.end));
    REQUIRE(milliseconds >= 0);
    REQUIRE(y.host() == std::vector<float>(64, 15.0f));
  });
}

TEST_CASE("the default stream waits for the others, and they for it", "[simt]") {
  in_every_order([] {
    cudaStream_t s;
    OK(cudaStreamCreate(&s));
    const Device<float> x(size_t{64}, 1.0f), y(size_t{64});
    LAUNCH(scale_kernel, 1, 64, 0, s)(x.get(), 3.0f, 64);
    LAUNCH(copy_kernel, 1, 64, 0, 0)(y.get(), x.get(), 64);
    LAUNCH(scale_kernel, 1, 64, 0, s)(y.get(), 2.0f, 64);
    OK(cudaStreamSynchronize(s));
    REQUIRE(y.host() == std::vector<float>(64, 6.0f));
    OK(cudaStreamDestroy(s));
  });
}

TEST_CASE("copies from and to pinned memory, and polling", "[simt]") {
  const Streams s;
  float* pinned = nullptr;
  OK(cudaMallocHost(&pinned, 64 * sizeof(float)));
  for (int i = 0; i < 64; ++i) pinned[i] = float(i);
  const Device<float> x(size_t{64});
  OK(cudaMemcpyAsync(x.get(), pinned, 64 * sizeof(float), cudaMemcpyHostToDevice, s.a));
  OK(cudaStreamSynchronize(s.a));
  std::memset(pinned, 0, 64 * sizeof(float));
  LAUNCH(scale_kernel, 1, 64, 0, s.a)(x.get(), 2.0f, 64);
  OK(cudaMemcpyAsync(pinned, x.get(), 64 * sizeof(float), cudaMemcpyDeviceToHost, s.a));
  cudaError_t state;
  int polls = 0;
  while ((state = cudaStreamQuery(s.a)) == cudaErrorNotReady) ++polls;
  OK(state);
  REQUIRE(pinned[63] == 126.0f);
  OK(cudaFreeHost(pinned));
}

TEST_CASE("pageable memory may be changed as soon as a copy from it is queued", "[simt]") {
  const Streams s;
  std::vector<float> host(64, 4.0f);
  const Device<float> x(size_t{64});
  OK(cudaMemcpyAsync(x.get(), host.data(), 64 * sizeof(float), cudaMemcpyHostToDevice, s.a));
  for (float& h : host) h = 0;
  OK(cudaStreamSynchronize(s.a));
  REQUIRE(x.host() == std::vector<float>(64, 4.0f));
}

TEST_CASE("memset and copies on the device", "[simt]") {
  const Device<int> x(size_t{10}, 1), y(size_t{10}, 2);
  OK(cudaMemset(x.get() + 2, 0, 3 * sizeof(int)));
  OK(cudaMemcpy(y.get() + 5, x.get(), 5 * sizeof(int), cudaMemcpyDeviceToDevice));
  REQUIRE(y.host() == std::vector<int>{2, 2, 2, 2, 2, 1, 1, 0, 0, 0});
}

#ifndef __CUDACC__
TEST_CASE("fresh device memory is NaN, and memory runs out as it should", "[simt]") {
  float* x = nullptr;
  OK(cudaMalloc(&x, 3 * sizeof(float)));
  std::vector<float> host(3);
  OK(cudaMemcpy(host.data(), x, 3 * sizeof(float), cudaMemcpyDeviceToHost));
  for (const float h : host) REQUIRE(h != h);
  OK(cudaFree(x));

  simt::set_device_memory(1 << 20);
  size_t free = 0, total = 0;
  OK(cudaMemGetInfo(&free, &total));
  REQUIRE(total == 1 << 20);
  REQUIRE(cudaMalloc(&x, free + 1) == cudaErrorMemoryAllocation);
  REQUIRE(cudaGetLastError() == cudaErrorMemoryAllocation);
  REQUIRE(cudaGetLastError() == cudaSuccess);
  OK(cudaMalloc(&x, free));
  OK(cudaFree(x));
  simt::set_device_memory(0);
}
#endif

TEST_CASE("what the device says of itself", "[simt]") {
  cudaDeviceProp p;
  OK(cudaGetDeviceProperties(&p, 0));
  REQUIRE(p.warpSize == 32);
  int count = 0;
  OK(cudaGetDeviceCount(&count));
  REQUIRE(count >= 1);
  OK(cudaFuncSetAttribute(scale_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 60 * 1024));
  const Device<float> x(size_t{32}, 1.0f);
  LAUNCH(scale_kernel, 1, 32, 60 * 1024, 0)(x.get(), 2.0f, 32);
  REQUIRE(x.host() == std::vector<float>(32, 2.0f));
}
