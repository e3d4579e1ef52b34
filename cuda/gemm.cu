// Matrix products, by cuBLAS. It counts columns first: to it our row-major C = A B is Cᵀ = Bᵀ Aᵀ of the same memory, so
// the factors change places and nothing is moved. Rows may stand further apart than they are long, and the products of
// a batch may interleave: heads are taken in place.
//
// One stream and no atomics in cuBLAS (its default): the same bits in every run on the same GPU.
#include "cuda/gemm.h"

#include <climits>

#include "tensor/error.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostGathered = int64_t{16} << 20;  // numbers, 64 MiB: products that wait to be added up

/// C = beta C, for products without terms, of `matrices` matrices: 8 bytes an element. What beta = 0 replaces is not
/// read.
__global__ void __launch_bounds__(kThreads) scale_only_kernel(float* c, Gemm g, int64_t matrices) {
  for (int64_t i = thread_in_grid(); i < matrices * g.m * g.n; i += threads_in_grid()) {
    const int64_t col = i % g.n, row = i / g.n % g.m, matrix = i / g.n / g.m;
    float& out = c[matrix * g.stride_c + row * g.ldc + col];
    out = g.beta == 0 ? 0.0f : g.beta * out;
  }
}

void scale_only(float* c, const Gemm& g) {
  const int64_t matrices = g.stride_c == 0 ? 1 : g.batch;
  if (matrices == 0) return;
  LAUNCH(scale_only_kernel, blocks_for(matrices * g.m * g.n, kThreads), kThreads, 0, stream())(c, g, matrices);
  CUDA_LAUNCHED();
}

cublasOperation_t operation(bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; }

void multiply(float* c, const float* a, const float* b, const Gemm& g, float beta) {
  CUBLAS_CHECK(cublasSgemm(blas(), operation(g.trans_b), operation(g.trans_a), int(g.n), int(g.m), int(g.k), &g.alpha,
                           b, int(g.ldb), a, int(g.lda), &beta, c, int(g.ldc)));
}

void multiply_batch(float* c, const float* a, const float* b, const Gemm& g) {
  CUBLAS_CHECK(cublasSgemmStridedBatched(blas(), operation(g.trans_b), operation(g.trans_a), int(g.n), int(g.m),
                                         int(g.k), &g.alpha, b, int(g.ldb), g.stride_b, a, int(g.lda), g.stride_a,
                                         &g.beta, c, int(g.ldc), g.stride_c, int(g.batch)));
}

/// C = beta C + Σ_i products_i, in the order of i: a thread adds up one element. 4 (batch + 2) bytes an element, whose
/// neighbours are read side by side.
__global__ void __launch_bounds__(kThreads) add_products_kernel(float* c, const float* products, Gemm g) {
  const int64_t size = g.m * g.n;
  for (int64_t i = thread_in_grid(); i < size; i += threads_in_grid()) {
    float sum = 0;
    for (int64_t p = 0; p < g.batch; ++p) sum += products[p * size + i];
    float& out = c[i / g.n * g.ldc + i % g.n];
    out = g.beta == 0 ? sum : g.beta * out + sum;
  }
}

/// Products of a batch that add up to one C: all of them at once, each into memory of its own, and then their sum. One
/// after the other would be `batch` launches, each with too few tiles of C for a large GPU.
void multiply_and_add(float* c, const float* a, const float* b, const Gemm& g) {
  const Workspace<float> products(g.batch * g.m * g.n);
  Gemm apart = g;
  apart.beta = 0, apart.ldc = g.n, apart.stride_c = g.m * g.n;
  multiply_batch(products, a, b, apart);
  LAUNCH(add_products_kernel, blocks_for(g.m * g.n, kThreads), kThreads, 0, stream())(c, products, g);
  CUDA_LAUNCHED();
}

/// Whether the terms of product i + 1 follow those of product i in both factors: then all products that add up to one C
/// are one product of batch·k terms.
bool terms_follow(const Gemm& g) {
  const bool a = g.trans_a ? g.stride_a == g.k * g.lda : g.stride_a == g.k && g.lda >= g.batch * g.k;
  const bool b = g.trans_b ? g.stride_b == g.k && g.ldb >= g.batch * g.k : g.stride_b == g.k * g.ldb;
  return a && b && g.batch * g.k <= INT_MAX;
}

}  // namespace

void allow_tf32(bool allow) {
  // The default mode is full float; the pedantic one would only forbid algorithms that are as exact.
  CUBLAS_CHECK(cublasSetMathMode(blas(), allow ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH));
}

void gemm(real* c, const real* a, const real* b, const Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0 || g.batch == 0) return scale_only(c, g);
  check(g.lda >= (g.trans_a ? g.m : g.k) && g.ldb >= (g.trans_b ? g.k : g.n) && g.ldc >= g.n,
        "[gemm] rows overlap: got lda {}, ldb {}, ldc {} for m {}, n {}, k {}", g.lda, g.ldb, g.ldc, g.m, g.n, g.k);
  for (const int64_t size : {g.m, g.n, g.k, g.lda, g.ldb, g.ldc, g.batch})
    check(size <= INT_MAX,
          "[gemm] too large for cuBLAS: got m {}, n {}, k {}, lda {}, ldb {}, ldc {}, batch {}, expected at most {} "
          "each; use a smaller batch or segment",
          g.m, g.n, g.k, g.lda, g.ldb, g.ldc, g.batch, INT_MAX);
  if (g.batch == 1) return multiply(c, a, b, g, g.beta);
  if (g.stride_c != 0) return multiply_batch(c, a, b, g);
  if (terms_follow(g)) {
    Gemm one = g;
    one.k *= g.batch;
    return multiply(c, a, b, one, g.beta);
  }
  if (g.m * g.n <= kMostGathered / g.batch) return multiply_and_add(c, a, b, g);
  for (int64_t i = 0; i < g.batch; ++i) multiply(c, a + i * g.stride_a, b + i * g.stride_b, g, i == 0 ? g.beta : 1.0f);
}

}  // namespace lem::LEM_DEVICE
