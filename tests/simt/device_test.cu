// Atomics, fences, intrinsics, random numbers.
#include <algorithm>
#include <cmath>

#include "tensor/random.h"
#include "tests/simt/support.h"

namespace {

__global__ void atomics_kernel(int* i, unsigned* u, float* f, double* d, unsigned long long* l) {
  const int t = int(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&i[0], t);
  atomicSub(&i[1], t);
  atomicMin(&i[2], -t);
  atomicMax(&i[3], t);
  atomicOr(&i[4], 1 << t % 8);
  atomicAnd(&i[5], ~(1 << t % 4));
  atomicXor(&i[6], t);
  atomicAdd(&u[0], 1u);
  atomicInc(&u[1], 6u);
  atomicDec(&u[2], 6u);
  atomicAdd(f, 0.5f);
  atomicAdd(d, 0.25);
  atomicAdd(l, 1ull << 40);
  unsigned seen = atomicAdd(&u[3], 0u), before;  // u[3] += 2 by compare and swap
  do {
    before = seen;
    seen = atomicCAS(&u[3], before, before + 2);
  } while (seen != before);
}

__global__ void shared_histogram_kernel(int* y, const int* x, int n) {
  SHARED(int, bins, [8]);
  if (threadIdx.x < 8) bins[threadIdx.x] = 0;
  __syncthreads();
  for (int i = int(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += int(gridDim.x * blockDim.x))
    atomicAdd(&bins[x[i]], 1);
  __syncthreads();
  if (threadIdx.x < 8) atomicAdd(&y[threadIdx.x], bins[threadIdx.x]);
}

// The last block to finish adds up what all have published: fence, ticket, fence.
__global__ void last_block_kernel(float* total, float* partial, unsigned* tickets) {
  SHARED(bool, last);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = float(blockIdx.x + 1);
    __threadfence();
    last = atomicAdd(tickets, 1u) == gridDim.x - 1;
    __threadfence();
    if (last) {
      float sum = 0;
      for (unsigned b = 0; b < gridDim.x; ++b) sum += partial[b];
      *total = sum;
    }
  }
}

// A lock that spins: the thread that holds it has to get its turn.
__global__ void lock_kernel(int* lock, int* counter) {
  while (atomicCAS(lock, 0, 1) != 0) __nanosleep(20);
  __threadfence();
  *counter += 1;
  __threadfence();
  atomicExch(lock, 0);
}

__global__ void intrinsics_kernel(float* f, int* i, const float* x) {
  const float v = __ldg(x);
  f[0] = __expf(v), f[1] = __logf(v), f[2] = __powf(v, 1.5f), f[3] = __sinf(v), f[4] = __cosf(v),
  f[5] = __fdividef(v, 3.0f);
  f[6] = rsqrtf(v), f[7] = __saturatef(v), f[8] = __fmaf_rn(v, v, 1.0f), f[9] = __frcp_rn(v), f[10] = max(v, 0.0f),
  f[11] = min(v, 0.0f);
  i[0] = __popc(0xF0F0u), i[1] = __clz(1), i[2] = __ffs(8), i[3] = int(__brev(1u) >> 31), i[4] = __float_as_int(1.0f);
  i[5] = int(__umulhi(0x80000000u, 6u)), i[6] = __float2int_rn(2.5f), i[7] = max(3, 4) - min(3, 4);
}

__global__ void random_kernel(unsigned* bits, float* uniform, unsigned long long seed) {
  const unsigned t = threadIdx.x;
  curandStatePhilox4_32_10_t state;
  curand_init(seed, 5, t * 4, &state);
  const uint4 r = curand4(&state);
  bits[t * 4] = r.x, bits[t * 4 + 1] = r.y, bits[t * 4 + 2] = r.z, bits[t * 4 + 3] = r.w;
  uniform[t] = curand_uniform(&state);
}

__global__ void vector_kernel(float4* y, const float4* x) {
  const float4 v = x[threadIdx.x];
  y[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);
}

}  // namespace

TEST_CASE("atomics of every kind", "[simt]") {
  in_every_order([] {
    const int n = 4 * 50;
    const Device<int> i(std::vector<int>{0, 0, 0, 0, 0, -1, 0});
    const Device<unsigned> u(size_t{4});
    const Device<float> f(size_t{1});
    const Device<double> d(size_t{1});
    const Device<unsigned long long> l(size_t{1});
    LAUNCH(atomics_kernel, 4, 50, 0, 0)(i.get(), u.get(), f.get(), d.get(), l.get());
    const int sum = n * (n - 1) / 2;
    int parity = 0;
    for (int t = 0; t < n; ++t) parity ^= t;
    REQUIRE(i.host() == std::vector<int>{sum, -sum, -(n - 1), n - 1, 255, ~15, parity});
    REQUIRE(u.host() == std::vector<unsigned>{200, 200 % 7, (7 - 200 % 7) % 7, 400});
    REQUIRE(f.host()[0] == 100.0f);
    REQUIRE(d.host()[0] == 50.0);
    REQUIRE(l.host()[0] == 200ull << 40);
  });
}

TEST_CASE("a histogram in shared memory", "[simt]") {
  std::vector<int> x(1000), bins(8);
  for (size_t i = 0; i < x.size(); ++i) ++bins[size_t(x[i] = int(i * i % 8))];
  in_every_order([&] {
    const Device<int> y(size_t{8}), dx(x);
    LAUNCH(shared_histogram_kernel, 3, 64, 0, 0)(y.get(), dx.get(), 1000);
    REQUIRE(y.host() == bins);
  });
}

TEST_CASE("the last block adds up", "[simt]") {
  in_every_order([] {
    const Device<float> total(size_t{1}), partial(size_t{20});
    const Device<unsigned> tickets(size_t{1});
    LAUNCH(last_block_kernel, 20, 32, 0, 0)(total.get(), partial.get(), tickets.get());
    REQUIRE(total.host()[0] == 210.0f);
  });
}

TEST_CASE("threads that wait for a lock let its holder run", "[simt]") {
  in_every_order([] {
    const Device<int> lock(size_t{1}), counter(size_t{1});
    LAUNCH(lock_kernel, 3, 40, 0, 0)(lock.get(), counter.get());
    REQUIRE(counter.host()[0] == 120);
  });
}

TEST_CASE("intrinsics", "[simt]") {
  const float x = 1.75f;
  const Device<float> f(size_t{12}), dx(std::vector<float>{x});
  const Device<int> i(size_t{8});
  LAUNCH(intrinsics_kernel, 1, 1, 0, 0)(f.get(), i.get(), dx.get());
  const double v = double(x), e[12] = {std::exp(v),      std::log(v), std::pow(v, 1.5), std::sin(v), std::cos(v), v / 3,
                                       1 / std::sqrt(v), 1,           v * v + 1,        1 / v,       v,           0};
  const auto host = f.host();
  for (size_t k = 0; k < 12; ++k) REQUIRE(std::abs(double(host[k]) - e[k]) <= 2e-6 * std::max(1.0, std::abs(e[k])));
  REQUIRE(i.host() == std::vector<int>{8, 31, 4, 1, 0x3F800000, 3, 2, 1});
}

TEST_CASE("cuRAND's Philox gives the bits of tensor/random.h", "[simt]") {
  const uint64_t seed = 0x123456789ABCDEFull;
  const Device<unsigned> bits(64);
  const Device<float> uniform(16);
  LAUNCH(random_kernel, 1, 16, 0, 0)(bits.get(), uniform.get(), seed);
  const auto host = bits.host();
  const lem::Stream stream{seed, 5};
  for (uint64_t i = 0; i < 64; ++i) REQUIRE(host[i] == stream.bits(i));
  for (const float u : uniform.host()) REQUIRE((u > 0 && u <= 1));
}

TEST_CASE("vector types", "[simt]") {
  std::vector<float4> x;
  for (int i = 0; i < 8; ++i) x.push_back(make_float4(float(i), float(i + 1), float(i + 2), float(i + 3)));
  const Device<float4> y(8), dx(x);
  LAUNCH(vector_kernel, 1, 8, 0, 0)(y.get(), dx.get());
  const auto host = y.host();
  for (size_t i = 0; i < 8; ++i) REQUIRE((host[i].x == float(i + 3) && host[i].w == float(i)));
}
