// Reading the continuous memory (docs/continuous-memory.md) through Gaussian densities, in four versions:
//   z_t = Σ_j r_tj values_j,   r_tj = E_{p_t}[ψ_j] = N(μ_t; m_j, s_j² + σ_t²) for the function ψ_j = N(·; m_j, s_j²).
// What must be moved is 4 (N D + T D + 2 T + 2 N) bytes; what must be worked out is T N closed forms, each with an
// exponential and a square root, and T N D multiplications. The closed form is the library's, of tensor/expectation.h.
#include "cuda/expectation.h"
#include "cuda/lessons/lessons.h"

namespace lem::LEM_DEVICE {
namespace {

using GaussianExpectation = Expect<BasisKind::gaussian, DensityKind::gaussian, float>;

constexpr int kThreads = 256;

// ---- 1. A thread an element ----
//
// Mapping: thread i of the grid has element i of z.
// Bytes:   12 N + 8 read an element: m_j and s_j, the same for all lanes of a warp, which costs it one sector, and
//          values, coalesced.
// Reads:   3 N + 2 a thread.
// Mend:    the closed forms are worked out anew for each of the D elements of a query.

__global__ void __launch_bounds__(kThreads)
    expectation_1_kernel(float* z, const float* density, const float* values, BasisView basis, int64_t T, int64_t D) {
  const int64_t i = thread_in_grid(), t = i / D;
  if (i >= T * D) return;
  const GaussianExpectation expect(density[t], density[T + t]);
  float sum = 0;
  for (int64_t j = 0; j < basis.N; ++j) sum += expect(basis.a[j], basis.b[j]).value * values[j * D + i % D];
  z[i] = sum;
}

void expectation_1(float* z, const float* density, const float* values, BasisView basis, int64_t T, int64_t D) {
  LAUNCH(expectation_1_kernel, unsigned(ceil_div(T * D, kThreads)), kThreads, 0, stream())
  (z, density, values, basis, T, D);
  CUDA_LAUNCHED();
}

// ---- 2. A matrix of expectations, and a product ----
//
// Mapping: a thread an element of r (T, N), then a thread an element of z.
// Bytes:   4 T N written for r; 8 N read an element of z: one number of r, the same for lanes of the same query, and
// one
//          of values. Each closed form is worked out once.
// Reads:   4 a thread of the first launch, 2 N of the second.
// Mend:    r is memory: T N numbers for every head of every layer, 512 MB for 16 documents, 4 heads, T = 4096, N = 512.

__global__ void __launch_bounds__(kThreads)
    expectations_2_kernel(float* r, const float* density, BasisView basis, int64_t T) {
  const int64_t i = thread_in_grid(), t = i / basis.N, j = i % basis.N;
  if (i >= T * basis.N) return;
  const GaussianExpectation expect(density[t], density[T + t]);
  r[i] = expect(basis.a[j], basis.b[j]).value;
}

__global__ void __launch_bounds__(kThreads)
    product_2_kernel(float* z, const float* r, const float* values, int64_t T, int64_t N, int64_t D) {
  const int64_t i = thread_in_grid(), t = i / D;
  if (i >= T * D) return;
  float sum = 0;
  for (int64_t j = 0; j < N; ++j) sum += r[t * N + j] * values[j * D + i % D];
  z[i] = sum;
}

void expectation_2(float* z, const float* density, const float* values, BasisView basis, int64_t T, int64_t D) {
  const Workspace<float> r(T * basis.N);
  LAUNCH(expectations_2_kernel, unsigned(ceil_div(T * basis.N, kThreads)), kThreads, 0, stream())
  (r, density, basis, T);
  CUDA_LAUNCHED();
  LAUNCH(product_2_kernel, unsigned(ceil_div(T * D, kThreads)), kThreads, 0, stream())(z, r, values, T, basis.N, D);
  CUDA_LAUNCHED();
}

// ---- 3. A block a query ----
//
// Mapping: a block of 64 threads has one query and 64 columns. 64 functions at a time, thread t works out the closed
//          form of function t and leaves it in shared memory (256 bytes); then it has column t.
// Bytes:   r is in nobody's memory now. 4 N read an element for values, (8 N + 512) / D for the rest.
// Reads:   N + N / 32 + 2 a thread.
// Mend:    every block goes through all of values: each number that is fetched serves one multiplication.

constexpr int kColumns = 64;

__global__ void __launch_bounds__(kColumns)
    expectation_3_kernel(float* z, const float* density, const float* values, BasisView basis, int64_t T, int64_t D) {
  SHARED(float, r, [kColumns]);
  const int64_t t = blockIdx.x, d = int64_t(blockIdx.y) * kColumns + threadIdx.x;
  const GaussianExpectation expect(density[t], density[T + t]);
  float sum = 0;
  for (int64_t j0 = 0; j0 < basis.N; j0 += kColumns) {
    const int64_t j = j0 + threadIdx.x;
    if (j < basis.N) r[threadIdx.x] = expect(basis.a[j], basis.b[j]).value;
    __syncthreads();
    if (d < D)
      for (int64_t k = j0; k < basis.N && k < j0 + kColumns; ++k) sum += r[k - j0] * values[k * D + d];
    __syncthreads();  // before r is written again
  }
  if (d < D) z[t * D + d] = sum;
}

void expectation_3(float* z, const float* density, const float* values, BasisView basis, int64_t T, int64_t D) {
  LAUNCH(expectation_3_kernel, dim3(unsigned(T), unsigned(ceil_div(D, kColumns))), kColumns, 0, stream())
  (z, density, values, basis, T, D);
  CUDA_LAUNCHED();
}

// ---- 4. Ours: cuda/continuous_attention.cu ----
//
// Mapping: a block of 256 threads has 64 queries and 64 columns, a thread 4 × 4 of its 4096 sums, in registers. 32
//          functions at a time it puts r (32 × 64) and values (32 × 64) into shared memory, 17 KiB.
// Bytes:   4 N / 64 read an element for values: a number fetched serves 64 queries; 8 N / 64 + 1 / 2 for the rest. Each
//          number that a thread takes from shared memory serves 4 multiplications.
// Reads:   N / 32 · (8 of values + 16 of m and s) + 2 a thread, for its 16 elements.

void expectation_4(float* z, const float* density, const float* values, BasisView basis, int64_t T, int64_t D) {
  continuous_attention_forward(z, density, values, basis, {1, T, 1, D, DensityKind::gaussian});
}

}  // namespace

extern const ExpectationLesson expectation_lesson[kLessonVersions] = {expectation_1, expectation_2, expectation_3,
                                                                      expectation_4};

}  // namespace lem::LEM_DEVICE
