// Matrix products, by the CBLAS that is linked.
#include <cblas.h>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"
#include "tensor/error.h"

namespace lem::cpu {
namespace {

void multiply(real* c, const real* a, const real* b, const Gemm& g, real beta) {
  const auto ta = g.trans_a ? CblasTrans : CblasNoTrans, tb = g.trans_b ? CblasTrans : CblasNoTrans;
  const int m = int(g.m), n = int(g.n), k = int(g.k), lda = int(g.lda), ldb = int(g.ldb), ldc = int(g.ldc);
  if constexpr (kDouble)
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, g.alpha, reinterpret_cast<const double*>(a), lda,
                reinterpret_cast<const double*>(b), ldb, beta, reinterpret_cast<double*>(c), ldc);
  else
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, g.alpha, reinterpret_cast<const float*>(a), lda,
                reinterpret_cast<const float*>(b), ldb, beta, reinterpret_cast<float*>(c), ldc);
}

/// C = beta C, for products without terms: BLAS may refuse their sizes.
void scale_only(real* c, const Gemm& g) {
  const int64_t matrices = g.stride_c == 0 ? 1 : g.batch;
  for (int64_t i = 0; i < matrices; ++i)
    for (int64_t row = 0; row < g.m; ++row)
      for (int64_t col = 0; col < g.n; ++col) {
        real& out = c[i * g.stride_c + row * g.ldc + col];
        out = g.beta == 0 ? 0 : g.beta * out;
      }
}

}  // namespace

void gemm(real* c, const real* a, const real* b, const Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0 || g.batch == 0) return scale_only(c, g);
  check(g.lda >= (g.trans_a ? g.m : g.k) && g.ldb >= (g.trans_b ? g.k : g.n) && g.ldc >= g.n,
        "[gemm] rows overlap: got lda {}, ldb {}, ldc {} for m {}, n {}, k {}", g.lda, g.ldb, g.ldc, g.m, g.n, g.k);
  const auto one = [&](int64_t i, real beta) {
    multiply(c + i * g.stride_c, a + i * g.stride_a, b + i * g.stride_b, g, beta);
  };
  if (g.batch > 1 && g.stride_c == 0) {  // all products add up into one C, in order
    for (int64_t i = 0; i < g.batch; ++i) one(i, i == 0 ? g.beta : real(1));
  } else if (g.batch >= omp_get_max_threads() && g.batch > 1) {
    parallel_for(g.batch, g.m * g.n * g.k, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) one(i, g.beta);  // the BLAS runs on one thread in here
    });
  } else {
    for (int64_t i = 0; i < g.batch; ++i) one(i, g.beta);
  }
}

}  // namespace lem::cpu
