// What every kernel file here starts with. The same file is compiled twice: by nvcc into namespace lem::cuda, and by
// g++ into namespace lem::simt, where cuda/simt runs its threads on the CPU (docs/simt.md).
#pragma once

#include <string>

#include "cuda/simt/cublas.h"
#include "cuda/simt/simt.h"
#include "tensor/backend.h"

#ifdef __CUDACC__
#define LEM_DEVICE cuda
#else
#define LEM_DEVICE simt
#endif

static_assert(!lem::kDouble, "CUDA kernels compute in float");

namespace lem::LEM_DEVICE {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// ---- host side ----

/// The one stream that all kernels, copies and products are ordered by. No function waits for it but download,
/// synchronize, release, and upload of more than 64 KiB.
cudaStream_t stream();
/// cuBLAS on that stream.
cublasHandle_t blas();

/// Why no device can be used, asked anew; empty if one can. absence() (tensor/backend.h) is what it was at first.
std::string missing();

/// Throws an Error: the failing expression, file, line, device, and what CUDA says of it.
[[noreturn]] void fail_cuda(cudaError_t error, const char* expression, const char* file, int line);
[[noreturn]] void fail_cublas(cublasStatus_t status, const char* expression, const char* file, int line);

#define CUDA_CHECK(call)                                                   \
  do {                                                                     \
    if (const cudaError_t cuda_error = (call); cuda_error != cudaSuccess)  \
      ::lem::LEM_DEVICE::fail_cuda(cuda_error, #call, __FILE__, __LINE__); \
  } while (false)
#define CUBLAS_CHECK(call)                                                                   \
  do {                                                                                       \
    if (const cublasStatus_t cublas_status = (call); cublas_status != CUBLAS_STATUS_SUCCESS) \
      ::lem::LEM_DEVICE::fail_cublas(cublas_status, #call, __FILE__, __LINE__);              \
  } while (false)
/// After every launch: a launch that CUDA refuses is named here. (Faults inside a kernel show at the next call that
/// waits.)
#define CUDA_LAUNCHED() CUDA_CHECK(cudaGetLastError())

/// n numbers of device memory for the duration of a kernel function, from the pool. Not initialised. The memory may be
/// handed out again as soon as this dies: what uses it then is queued behind this on the one stream.
template <class T>
class Workspace {
 public:
  explicit Workspace(int64_t n);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  operator T*() const { return data_; }

 private:
  T* data_;
  size_t bytes_;
};

/// The least integer ≥ a / b.
__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Blocks for n independent elements: enough of them, but no more than keep a large GPU busy; kernels stride by the
/// grid.
inline unsigned blocks_for(int64_t n, int64_t per_block) {
  constexpr int64_t kMaxBlocks = 2048;
  const int64_t blocks = ceil_div(n, per_block);
  return unsigned(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

// ---- device side ----

/// This thread's number in the grid, and the number of threads: for (i = thread_in_grid(); i < n; i +=
/// threads_in_grid()).
__device__ inline int64_t thread_in_grid() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t threads_in_grid() { return int64_t(gridDim.x) * blockDim.x; }

/// Sum and maximum over a warp, in every lane: five shuffles in a fixed order. All 32 lanes must take part.
__device__ inline float warp_sum(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

/// Sum over a block of kThreads threads (a multiple of 32, one dimension), in every thread. `partial`: shared memory
/// for kThreads / 32 numbers, which may be used again after the next barrier. All threads must come.
template <int kThreads>
__device__ inline float block_sum(float x, float (&partial)[kThreads / kWarp]) {
  x = warp_sum(x);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = x;
  __syncthreads();
  float sum = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) sum += partial[w];
  return sum;
}

/// Draws 4·block … 4·block + 3 of a stream: cuRAND's Philox4x32-10, and so the CPU's bits (tensor/random.h).
__device__ inline uint4 philox(const Stream& s, uint64_t block) {
  return curand_Philox4x32_10(
      make_uint4(unsigned(block), unsigned(block >> 32), unsigned(s.stream), unsigned(s.stream >> 32)),
      make_uint2(unsigned(s.seed), unsigned(s.seed >> 32)));
}
/// Draw i: its 32 bits.
__device__ inline unsigned philox_draw(const Stream& s, uint64_t i) {
  const uint4 four = philox(s, i / 4);
  const unsigned k = unsigned(i % 4);
  return k == 0 ? four.x : k == 1 ? four.y : k == 2 ? four.z : four.w;
}
/// Draws i … i + 3: of two blocks, unless i is a block's first.
__device__ inline uint4 philox_draws(const Stream& s, uint64_t i) {
  const uint4 a = philox(s, i / 4);
  const unsigned k = unsigned(i % 4);
  if (k == 0) return a;
  const uint4 b = philox(s, i / 4 + 1);
  return k == 1   ? make_uint4(a.y, a.z, a.w, b.x)
         : k == 2 ? make_uint4(a.z, a.w, b.x, b.y)
                  : make_uint4(a.w, b.x, b.y, b.z);
}
/// The uniform in [0, 1) that a draw's bits stand for.
__device__ inline float uniform_of(unsigned bits) { return float(bits >> 8) * (1.0f / 16777216.0f); }

/// What dropout multiplies an element with, given its draw: 0 or 1 / (1 − p).
__device__ inline float dropout_factor(const Dropout& d, unsigned bits) {
  return uniform_of(bits) >= d.p ? 1 / (1 - d.p) : 0.0f;
}
/// The same for element i of the tensor, drawing for it alone; 1 without dropout.
__device__ inline float dropout_at(const Dropout& d, int64_t i) {
  return d.p == 0 ? 1.0f : dropout_factor(d, philox_draw(d.stream, d.first + uint64_t(i)));
}

}  // namespace lem::LEM_DEVICE
