// Matrix products, by the CBLAS that is linked.
#include <cblas.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"
#include "tensor/error.h"

namespace lem::cpu {
namespace {

constexpr int64_t kPieceRows = 512;  // B is packed for each piece, at the price of a few rows of it
constexpr int64_t kFewTerms = 64;    // of a sum, that no further thread is worth its own copy of C for

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

/// Rows [begin, end) of C = alpha A B + beta C.
void multiply_rows(real* c, const real* a, const real* b, Gemm g, int64_t begin, int64_t end) {
  g.m = end - begin;
  multiply(c + begin * g.ldc, a + (g.trans_a ? begin : begin * g.lda), b, g, g.beta);
}

/// C = alpha A B + beta C, over terms [begin, end) of the inner dimension.
void multiply_terms(real* c, const real* a, const real* b, Gemm g, int64_t begin, int64_t end, real beta) {
  g.k = end - begin;
  multiply(c, a + (g.trans_a ? begin * g.lda : begin), b + (g.trans_b ? begin : begin * g.ldb), g, beta);
}

/// The rows of all products, in equal pieces to whoever is free: a processor that others use as well gets fewer.
void share_rows(real* c, const real* a, const real* b, const Gemm& g, int threads) {
  const int64_t rows = g.batch * g.m, pieces = threads == 1 ? 1 : std::max<int64_t>(threads, rows / kPieceRows);
  parallel_items(pieces, threads, [&](int64_t p, int) {
    for_items(rows * p / pieces, rows * (p + 1) / pieces, g.m, [&](int64_t i, int64_t first, int64_t last) {
      multiply_rows(c + i * g.stride_c, a + i * g.stride_a, b + i * g.stride_b, g, first, last);
    });
  });
}

/// One C to which all products add: every thread sums up its share of the terms apart, then the sums are added in
/// order.
void share_terms(real* c, const real* a, const real* b, const Gemm& g, int threads) {
  const int64_t terms = g.batch * g.k, size = g.m * g.n;
  std::vector<real> sums(size_t((threads - 1) * size));
  Gemm packed = g;  // C of a sum of its own
  packed.ldc = g.n;
  parallel_for(threads, terms * size, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      real* mine = t == 0 ? c : sums.data() + (t - 1) * size;
      real beta = t == 0 ? g.beta : real(0);
      for_items(terms * t / threads, terms * (t + 1) / threads, g.k, [&](int64_t i, int64_t first, int64_t last) {
        multiply_terms(mine, a + i * g.stride_a, b + i * g.stride_b, t == 0 ? g : packed, first, last, beta);
        beta = 1;
      });
    }
  });
  parallel_for(g.m, (threads - 1) * g.n, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int t = 1; t < threads; ++t)
#pragma omp simd
        for (int64_t col = 0; col < g.n; ++col) c[row * g.ldc + col] += sums[size_t((t - 1) * size + row * g.n + col)];
  });
}

}  // namespace

// A BLAS shares out one product at a time, packs what its threads share behind barriers, and looks for parallel work in
// C, of which a weight's gradient has little. Shared out here, each thread's products are its own from end to end:
// 5 % faster for 8192 × 300 × 300, 15 % for its weight's gradient, on two cores. (In a parallel region the BLAS runs on
// one thread.)
void gemm(real* c, const real* a, const real* b, const Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0 || g.batch == 0) return scale_only(c, g);
  check(g.lda >= (g.trans_a ? g.m : g.k) && g.ldb >= (g.trans_b ? g.k : g.n) && g.ldc >= g.n,
        "[gemm] rows overlap: got lda {}, ldb {}, ldc {} for m {}, n {}, k {}", g.lda, g.ldb, g.ldc, g.m, g.n, g.k);
  check(
      std::max({g.m, g.n, g.k, g.lda, g.ldb, g.ldc}) <= std::numeric_limits<int>::max(),
      "[gemm] the BLAS counts in 32 bits: got m {}, n {}, k {}, lda {}, ldb {}, ldc {}; use a smaller batch or segment",
      g.m, g.n, g.k, g.lda, g.ldb, g.ldc);
  const bool one_c = g.batch == 1 || g.stride_c == 0;
  int threads = threads_for(g.batch * g.m * g.n * g.k);
  if (one_c && (g.batch > 1 || g.k > 4 * g.m)) {
    threads = int(std::min<int64_t>(threads, (g.batch * g.k + kFewTerms - 1) / kFewTerms));
    share_terms(c, a, b, g, threads);
  } else {
    share_rows(c, a, b, g, threads);
  }
}

}  // namespace lem::cpu
