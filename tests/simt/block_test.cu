// Blocks: who am I, barriers, shared memory, the order of things.
#include "tests/simt/support.h"

namespace {

struct Ids {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
};

__global__ void ids_kernel(Ids* ids) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  ids[block * blockDim.x * blockDim.y * blockDim.z + thread] = {threadIdx, blockIdx, blockDim, gridDim};
}

// Each thread passes its value on to its neighbour, `rounds` times.
__global__ void ring_kernel(int* y, int rounds) {
  SHARED(int, ring, [1024]);
  int v = int(threadIdx.x);
  for (int i = 0; i < rounds; ++i) {
    ring[(threadIdx.x + 1) % blockDim.x] = v;
    __syncthreads();
    v = ring[threadIdx.x];
    __syncthreads();
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = v;
}

__global__ void votes_kernel(int* y) {
  const int odd = int(threadIdx.x % 2);
  const int count = __syncthreads_count(odd), all = __syncthreads_and(odd), any = __syncthreads_or(odd);
  const int none = __syncthreads_or(0), each = __syncthreads_and(1);
  y[threadIdx.x] = count + 1000 * (all != 0) + 2000 * (any != 0) + 4000 * (none != 0) + 8000 * (each != 0);
}

// Sum of a row by a tree in dynamic shared memory; some numbers of another type beside it.
__global__ void tree_sum_kernel(double* y, const float* x, int cols) {
  SHARED_DYNAMIC(double, tree);
  SHARED(int, used, [2][3]);
  SHARED(unsigned char, flag);
  if (threadIdx.x == 0) used[1][2] = cols, flag = 7;
  double v = 0;
  for (int i = int(threadIdx.x); i < cols; i += int(blockDim.x))
    v += double(x[blockIdx.x * unsigned(cols) + unsigned(i)]);
  tree[threadIdx.x] = v;
  __syncthreads();
  for (unsigned n = blockDim.x / 2; n > 0; n /= 2) {
    if (threadIdx.x < n) tree[threadIdx.x] += tree[threadIdx.x + n];
    __syncthreads();
  }
  if (threadIdx.x == 0) y[blockIdx.x] = tree[0] + (used[1][2] - cols) + (flag - 7);
}

template <int ROWS, int COLS>
__global__ void transpose_kernel(float* y, const float* x, int rows, int cols) {
  SHARED(float, tile, [ROWS][COLS + 1]);
  const int i = int(blockIdx.y) * ROWS + int(threadIdx.y), j = int(blockIdx.x) * COLS + int(threadIdx.x);
  if (i < rows && j < cols) tile[threadIdx.y][threadIdx.x] = x[i * cols + j];
  __syncthreads();
  if (i < rows && j < cols) y[j * rows + i] = tile[threadIdx.y][threadIdx.x];
}

__global__ void __launch_bounds__(256) add_kernel(float* y, const float* __restrict__ x, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] += x[i];
}

__constant__ float weights[3] = {1, 2, 3};
__device__ float helper(float x) { return x * weights[1]; }
__global__ void constant_kernel(float* y) { y[threadIdx.x] = helper(float(threadIdx.x)) + weights[2]; }

}  // namespace

TEST_CASE("every thread of a grid of blocks knows its place", "[simt]") {
  const dim3 grid(3, 2, 2), block(5, 4, 3);
  in_every_order([&] {
    const Device<Ids> ids(12 * 60);
    LAUNCH(ids_kernel, grid, block, 0, 0)(ids.get());
    const auto host = ids.host();
    size_t i = 0;
    bool right = true;
    for (unsigned bz = 0; bz < 2; ++bz)
      for (unsigned by = 0; by < 2; ++by)
        for (unsigned bx = 0; bx < 3; ++bx)
          for (unsigned z = 0; z < 3; ++z)
            for (unsigned y = 0; y < 4; ++y)
              for (unsigned x = 0; x < 5; ++x, ++i) {
                const Ids& d = host[i];
                right = right && d.thread.x == x && d.thread.y == y && d.thread.z == z && d.block.x == bx &&
                        d.block.y == by && d.block.z == bz && d.block_dim.x == 5 && d.block_dim.z == 3 &&
                        d.grid_dim.x == 3 && d.grid_dim.z == 2;
              }
    REQUIRE(right);
  });
}

TEST_CASE("barriers and shared memory pass values round a block of any size", "[simt]") {
  in_every_order([] {
    for (const int n : {1, 2, 31, 32, 33, 96, 257}) {
      const Device<int> y(size_t(3 * n));
      LAUNCH(ring_kernel, 3, n, 0, 0)(y.get(), 5);
      const auto host = y.host();
      bool right = true;
      for (int i = 0; i < 3 * n; ++i) right = right && host[size_t(i)] == ((i % n - 5) % n + n) % n;
      INFO("threads: " << n);
      REQUIRE(right);
    }
  });
}

TEST_CASE("__syncthreads_count, _and, _or", "[simt]") {
  in_every_order([] {
    const Device<int> y(65);
    LAUNCH(votes_kernel, 1, 65, 0, 0)(y.get());
    REQUIRE(y.host() == std::vector<int>(65, 32 + 2000 + 8000));
  });
}

TEST_CASE("dynamic and static shared memory of several types", "[simt]") {
  const int rows = 7, cols = 100;
  std::vector<float> x(size_t(rows * cols));
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i % 13);
  in_every_order([&] {
    const Device<float> dx(x);
    const Device<double> y(size_t{7});
    LAUNCH(tree_sum_kernel, rows, 32, 32 * sizeof(double), 0)(y.get(), dx.get(), cols);
    const auto host = y.host();
    for (int r = 0; r < rows; ++r) {
      double sum = 0;
      for (int c = 0; c < cols; ++c) sum += double(x[size_t(r * cols + c)]);
      REQUIRE(host[size_t(r)] == sum);
    }
  });
}

TEST_CASE("a template kernel with commas in its name", "[simt]") {
  std::vector<float> x(33 * 17);
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i);
  in_every_order([&] {
    const Device<float> dx(x), y(x.size());
    LAUNCH((transpose_kernel<4, 8>), dim3(3, 9), dim3(8, 4), 0, 0)(y.get(), dx.get(), 33, 17);
    const auto host = y.host();
    bool right = true;
    for (size_t i = 0; i < 33; ++i)
      for (size_t j = 0; j < 17; ++j) right = right && host[j * 33 + i] == x[i * 17 + j];
    REQUIRE(right);
  });
}

TEST_CASE("many blocks, and a tail", "[simt]") {
  in_every_order([] {
    const int n = 5001;
    const Device<float> y(size_t{5001}, 1.0f), x(size_t{5001}, 2.0f);
    for (int i = 0; i < 3; ++i) LAUNCH(add_kernel, (n + 63) / 64, 64, 0, 0)(y.get(), x.get(), n);
    REQUIRE(y.host() == std::vector<float>(5001, 7.0f));
  });
}

TEST_CASE("constant memory and device functions", "[simt]") {
  const Device<float> y(size_t{4});
  LAUNCH(constant_kernel, 1, 4, 0, 0)(y.get());
  REQUIRE(y.host() == std::vector<float>{3, 5, 7, 9});
  const float other[3] = {0, 10, 1};
  OK(cudaMemcpyToSymbol(weights, other, sizeof other));
  LAUNCH(constant_kernel, 1, 4, 0, 0)(y.get());
  REQUIRE(y.host() == std::vector<float>{1, 11, 21, 31});
  const float back[3] = {1, 2, 3};
  OK(cudaMemcpyToSymbol(weights, back, sizeof back));
}

#ifndef __CUDACC__
TEST_CASE("the orders really differ", "[simt]") {
  REQUIRE(simt::Order::parse("reverse").at(0, 10, 0) == 9);
  std::vector<bool> seen(1000);
  const simt::Order random = simt::Order::parse("random:3");
  size_t in_place = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    const uint64_t at = random.at(i, 1000, 5);
    REQUIRE(!seen[at]);
    seen[at] = true;
    in_place += at == i;
  }
  REQUIRE(in_place < 100);
  REQUIRE_THROWS_WITH(simt::Order::parse("sideways"),
                      Catch::Contains("got \"sideways\", expected forward, reverse, random"));
}
#endif
