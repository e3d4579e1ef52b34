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

TEST_CASE("copies of rows a pitch apart, in every direction", "[simt]") {
  const Streams s;
  std::vector<int> host(3 * 5), back(3 * 4, -1);
  for (size_t i = 0; i < host.size(); ++i) host[i] = int(i);
  const Device<int> x(size_t{3 * 7}, -1), y(size_t{2 * 3 + 2}, -1);
  constexpr size_t size = sizeof(int);
  OK(cudaDeviceSynchronize());
  OK(cudaMemcpy2DAsync(x.get() + 1, 7 * size, host.data(), 5 * size, 4 * size, 3, cudaMemcpyHostToDevice, s.a));
  host.assign(host.size(), 0);
  OK(cudaMemcpy2DAsync(y.get(), 3 * size, x.get() + 2, 7 * size, 2 * size, 3, cudaMemcpyDeviceToDevice, s.a));
  OK(cudaMemcpy2DAsync(y.get(), 3 * size, nullptr, 7 * size, 2 * size, 0, cudaMemcpyDeviceToDevice, s.a));
  OK(cudaMemcpy2DAsync(back.data(), 4 * size, y.get(), 3 * size, 2 * size, 3, cudaMemcpyDeviceToHost, s.a));
  OK(cudaStreamSynchronize(s.a));
  REQUIRE(x.host() == std::vector<int>{-1, 0, 1, 2, 3, -1, -1, -1, 5, 6, 7, 8, -1, -1, -1, 10, 11, 12, 13, -1, -1});
  REQUIRE(y.host() == std::vector<int>{1, 2, -1, 6, 7, -1, 11, 12});
  REQUIRE(back == std::vector<int>{1, 2, -1, -1, 6, 7, -1, -1, 11, 12, -1, -1});
#ifndef __CUDACC__
  const auto copy = [&](size_t dst_pitch, size_t src_pitch, size_t width, size_t height) {
    (void)cudaMemcpy2DAsync(y.get(), dst_pitch, x.get(), src_pitch, width, height, cudaMemcpyDeviceToDevice, s.a);
  };
  REQUIRE_THROWS_WITH(copy(8, 12, 12, 2),
                      Catch::Contains("[cudaMemcpy2DAsync] pitch of the destination at tests/simt/") &&
                          Catch::Contains("got 8, expected at least the width 12"));
  REQUIRE_THROWS_WITH(copy(12, 8, 12, 2), Catch::Contains("pitch of the source at"));
  REQUIRE_THROWS_WITH(copy(size_t{1} << 31, 8, 8, 2), Catch::Contains("at most 2147483647"));
  REQUIRE_THROWS_WITH(copy(12, 8, 8, 4), Catch::Contains("destination at") && Catch::Contains("got 44 bytes from 0"));
  REQUIRE_THROWS_WITH(copy(8, 28, 8, 4), Catch::Contains("source at") && Catch::Contains("got 92 bytes from 0"));
#endif
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
