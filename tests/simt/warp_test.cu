// Warp operations against what the programming guide says each lane gets.
#include "tests/simt/support.h"

namespace {

__global__ void shuffles_kernel(int* y, int argument, int width) {
  const int v = 100 + int(threadIdx.x);
  int* out = y + threadIdx.x * 4;
  out[0] = __shfl_sync(0xFFFFFFFFu, v, argument, width);
  out[1] = __shfl_up_sync(0xFFFFFFFFu, v, unsigned(argument), width);
  out[2] = __shfl_down_sync(0xFFFFFFFFu, v, unsigned(argument), width);
  out[3] = __shfl_xor_sync(0xFFFFFFFFu, v, argument, width);
}

int expected(int which, int lane, int argument, int width) {
  const int first = lane / width * width;
  int from = lane;
  if (which == 0) from = first + argument % width;
  if (which == 1 && lane - argument >= first) from = lane - argument;
  if (which == 2 && lane + argument < first + width) from = lane + argument;
  if (which == 3 && (lane ^ argument) < first + width) from = lane ^ argument;
  return 100 + from;
}

__global__ void types_kernel(double* y) {
  const int lane = int(threadIdx.x), from = 31 - lane;
  y[lane] = __shfl_sync(0xFFFFFFFFu, 0.5 + lane, from) + double(__shfl_sync(0xFFFFFFFFu, float(lane), from)) +
            double(__shfl_sync(0xFFFFFFFFu, (long long)(lane) << 40, from) >> 40) +
            __shfl_sync(0xFFFFFFFFu, unsigned(lane), from);
}

// One block a row; thread t adds up columns t, t + blockDim.x, …
__global__ void row_sum_kernel(float* y, const float* x, int cols) {
  SHARED(float, partial, [32]);   // nvcc: __shared__ float partial[32]
  SHARED_DYNAMIC(float, scaled);  // nvcc: extern __shared__; as many bytes as the launch asks for
  float v = 0;
  for (int j = int(threadIdx.x); j < cols; j += int(blockDim.x)) v += x[int(blockIdx.x) * cols + j];
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, d);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < int(blockDim.x) / 32; ++i) sum += partial[i];
    scaled[0] = sum / float(cols);
    y[blockIdx.x] = sum;
  }
}

// The lower half of each warp and its upper half go different ways, each with its own mask.
__global__ void halves_kernel(float* y) {
  float v = float(threadIdx.x);
  if (threadIdx.x % 32 < 16) {
    for (int d = 8; d > 0; d /= 2) v += __shfl_xor_sync(0x0000FFFFu, v, d);
  } else {
    for (int d = 8; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xFFFF0000u, v, d));
  }
  y[threadIdx.x] = v;
}

__global__ void votes_kernel(unsigned* y, int n) {
  if (int(threadIdx.x) >= n) return;  // votes ask only those that are still there
  const int third = threadIdx.x % 3 == 0;
  unsigned* out = y + threadIdx.x * 5;
  out[0] = __ballot_sync(0xFFFFFFFFu, third);
  out[1] = unsigned(__any_sync(0xFFFFFFFFu, third)) + 2 * unsigned(__any_sync(0xFFFFFFFFu, 0));
  out[2] = unsigned(__all_sync(0xFFFFFFFFu, third)) + 2 * unsigned(__all_sync(0xFFFFFFFFu, 1));
  out[3] = __match_any_sync(0xFFFFFFFFu, int(threadIdx.x % 4));
  int all = 0;
  out[4] = __match_all_sync(0xFFFFFFFFu, 5, &all) + unsigned(all) -
           __match_all_sync(0xFFFFFFFFu, int(threadIdx.x), &all) - unsigned(all);
}

__global__ void syncwarp_kernel(int* y) {
  SHARED(int, s, [64]);
  for (int i = 0; i < 4; ++i) {
    s[threadIdx.x] = int(threadIdx.x) + i;
    __syncwarp();
    y[threadIdx.x] += s[threadIdx.x ^ 1];
    __syncwarp();
  }
  if (threadIdx.x % 2) {  // different places, one barrier: allowed since Volta
    s[threadIdx.x] = 7;
    __syncwarp();
  } else {
    __syncwarp();
    y[threadIdx.x] += s[threadIdx.x + 1];
  }
}

__global__ void reduce_kernel(int* y) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  const int v = int(threadIdx.x) - 5;
  const int results[8] = {
      __reduce_add_sync(0xFFFFFFFFu, v),
      __reduce_min_sync(0xFFFFFFFFu, v),
      __reduce_max_sync(0xFFFFFFFFu, v),
      int(__reduce_min_sync(0xFFFFFFFFu, unsigned(v))),
      int(__reduce_max_sync(0xFFFFFFFFu, unsigned(v))),
      int(__reduce_and_sync(0xFFFFFFFFu, threadIdx.x | 64)),
      int(__reduce_or_sync(0xFFFFFFFFu, threadIdx.x)),
      int(__reduce_xor_sync(0xFFFFFFFFu, threadIdx.x | 32)),
  };
  if (threadIdx.x < 8) y[threadIdx.x] = results[threadIdx.x];
#else
  y[threadIdx.x] = 0;
#endif
}

// Those that come here add up first, then one of them goes to memory: right with any answer of __activemask().
__global__ void aggregate_kernel(unsigned* count) {
  if (threadIdx.x % 3 == 0) {
    const unsigned mask = __activemask();
    const int leader = __ffs(int(mask)) - 1;
    if (int(threadIdx.x % 32) == leader) atomicAdd(count, unsigned(__popc(mask)));
  }
}

}  // namespace

TEST_CASE("the four shuffles at every width", "[simt]") {
  in_every_order([] {
    for (const int width : {1, 2, 4, 8, 16, 32})
      for (const int argument : {0, 1, 3, 8, 17, 31}) {
        const Device<int> y(256);
        LAUNCH(shuffles_kernel, 1, 64, 0, 0)(y.get(), argument, width);
        const auto host = y.host();
        bool right = true;
        for (int t = 0; t < 64; ++t)
          for (int which = 0; which < 4; ++which)
            right = right && host[size_t(t * 4 + which)] == expected(which, t % 32, argument, width) + t / 32 * 32;
        INFO("width " << width << ", argument " << argument);
        REQUIRE(right);
      }
  });
}

TEST_CASE("shuffles of every number type", "[simt]") {
  const Device<double> y(32);
  LAUNCH(types_kernel, 1, 32, 0, 0)(y.get());
  const auto host = y.host();
  for (int i = 0; i < 32; ++i) REQUIRE(host[size_t(i)] == 0.5 + 4 * (31 - i));
}

TEST_CASE("two halves of a warp apart", "[simt]") {
  in_every_order([] {
    const Device<float> y(32);
    LAUNCH(halves_kernel, 1, 32, 0, 0)(y.get());
    const auto host = y.host();
    for (size_t i = 0; i < 32; ++i) REQUIRE(host[i] == (i < 16 ? 120.0f : 31.0f));
  });
}

TEST_CASE("votes", "[simt]") {
  in_every_order([] {
    for (const int n : {32, 20}) {
      const Device<unsigned> y(32 * 5);
      LAUNCH(votes_kernel, 1, 32, 0, 0)(y.get(), n);
      const auto host = y.host();
      const unsigned there = n == 32 ? 0xFFFFFFFFu : 0x000FFFFFu;
      for (size_t i = 0; i < size_t(n); ++i) {
        REQUIRE(host[i * 5] == (0x49249249u & there));
        REQUIRE(host[i * 5 + 1] == 1);
        REQUIRE(host[i * 5 + 2] == 2);
        REQUIRE(host[i * 5 + 3] == (0x11111111u << i % 4 & there));
        REQUIRE(host[i * 5 + 4] == there + 1);
      }
    }
  });
}

TEST_CASE("__syncwarp orders shared memory within a warp", "[simt]") {
  in_every_order([] {
    const Device<int> y(64);
    LAUNCH(syncwarp_kernel, 1, 64, 0, 0)(y.get());
    const auto host = y.host();
    for (int i = 0; i < 64; ++i) REQUIRE(host[size_t(i)] == 4 * (i ^ 1) + 6 + (i % 2 ? 0 : 7));
  });
}

TEST_CASE("warp reductions", "[simt]") {
  const Device<int> y(32);
  LAUNCH(reduce_kernel, 1, 32, 0, 0)(y.get());
  const auto host = y.host();
  REQUIRE(std::vector<int>(host.begin(), host.begin() + 8) == std::vector<int>{336, -5, 26, 0, -1, 64, 31, 0});
}

TEST_CASE("a warp that adds up before it goes to memory", "[simt]") {
  in_every_order([] {
    const Device<unsigned> count(size_t{1});
    LAUNCH(aggregate_kernel, 4, 96, 0, 0)(count.get());
    REQUIRE(count.host()[0] == 128);
  });
}

TEST_CASE("the chapter's row sum", "[simt]") {
  constexpr int rows = 3, cols = 70;
  std::vector<float> x(size_t(rows * cols));
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i);
  in_every_order([&] {
    const Device<float> on_device(x), y(size_t{rows});
    LAUNCH(row_sum_kernel, rows, 64, sizeof(float), 0)(y.get(), on_device.get(), cols);
    const auto host = y.host();
    for (int i = 0; i < rows; ++i) REQUIRE(host[size_t(i)] == float(cols * (i * cols * 2 + cols - 1) / 2));
  });
}
