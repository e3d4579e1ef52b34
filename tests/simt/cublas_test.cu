// cuBLAS calls against three loops, and every argument that cuBLAS refuses.
#include "cuda/simt/cublas.h"

#include <string>

#include "tests/simt/support.h"

namespace {

constexpr auto N = CUBLAS_OP_N, T = CUBLAS_OP_T;

struct Blas {
  cublasHandle_t handle;
  Blas() { REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS); }
  ~Blas() { (void)cublasDestroy(handle); }
};

std::vector<float> numbers(size_t n, int seed) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = float((int(i) * 7 + seed) % 11 - 5);  // small integers: sums are exact
  return x;
}

// c = alpha op(a) op(b) + beta c, column by column.
void naive(bool ta, bool tb, int m, int n, int k, float alpha, const float* a, int lda, const float* b, int ldb,
           float beta, float* c, int ldc) {
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      float sum = 0;
      for (int l = 0; l < k; ++l)
        sum += (ta ? a[l + i * lda] : a[i + l * lda]) * (tb ? b[j + l * ldb] : b[l + j * ldb]);
      c[i + j * ldc] = alpha * sum + (beta == 0 ? 0 : beta * c[i + j * ldc]);
    }
}

}  // namespace

TEST_CASE("cublasSgemm", "[simt][cublas]") {
  const Blas blas;
  const int m = 5, n = 7, k = 3;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const float beta : {0.0f, 2.0f}) {
        const int lda = (ta ? k : m) + 1, ldb = (tb ? n : k) + 2, ldc = m + 3;
        const auto a = numbers(size_t(lda * (ta ? m : k)), 1), b = numbers(size_t(ldb * (tb ? k : n)), 2);
        auto c = numbers(size_t(ldc * n), 3);
        const Device<float> da(a), db(b), dc(c);
        const float alpha = 0.5f;
        REQUIRE(cublasSgemm(blas.handle, ta ? T : N, tb ? T : N, m, n, k, &alpha, da.get(), lda, db.get(), ldb, &beta,
                            dc.get(), ldc) == CUBLAS_STATUS_SUCCESS);
        naive(ta, tb, m, n, k, alpha, a.data(), lda, b.data(), ldb, beta, c.data(), ldc);
        REQUIRE(dc.host() == c);
      }
}

TEST_CASE("cublasSgemmStridedBatched, heads side by side in one row", "[simt][cublas]") {
  const Blas blas;
  const int heads = 3, T_ = 4, D = 2, C = heads * D;  // x: (T, heads · D), scores: (heads, T, T)
  const auto x = numbers(size_t(T_ * C), 1);
  const Device<float> dx(x), scores(size_t(heads * T_ * T_), -1.0f);
  const float one = 1, zero = 0;
  REQUIRE(cublasSgemmStridedBatched(blas.handle, T, N, T_, T_, D, &one, dx.get(), C, D, dx.get(), C, D, &zero,
                                    scores.get(), T_, T_ * T_, heads) == CUBLAS_STATUS_SUCCESS);
  const auto host = scores.host();
  for (int h = 0; h < heads; ++h)
    for (int i = 0; i < T_; ++i)
      for (int j = 0; j < T_; ++j) {
        float sum = 0;
        for (int d = 0; d < D; ++d) sum += x[size_t(i * C + h * D + d)] * x[size_t(j * C + h * D + d)];
        REQUIRE(host[size_t((h * T_ + j) * T_ + i)] == sum);
      }
}

TEST_CASE("cuBLAS runs in its handle's stream", "[simt][cublas]") {
  const Blas blas;
  cudaStream_t s, now;
  OK(cudaStreamCreate(&s));
  REQUIRE(cublasSetStream(blas.handle, s) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasGetStream(blas.handle, &now) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(now == s);
  REQUIRE(cublasSetMathMode(blas.handle, CUBLAS_TF32_TENSOR_OP_MATH) == CUBLAS_STATUS_SUCCESS);
  cublasMath_t mode;
  REQUIRE(cublasGetMathMode(blas.handle, &mode) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(mode == CUBLAS_TF32_TENSOR_OP_MATH);
  const Device<float> a(size_t{4}, 2.0f), c(size_t{4});
  const float one = 1, zero = 0;
  REQUIRE(cublasSgemm(blas.handle, N, N, 2, 2, 2, &one, a.get(), 2, a.get(), 2, &zero, c.get(), 2) ==
          CUBLAS_STATUS_SUCCESS);
  OK(cudaStreamSynchronize(s));
  REQUIRE(c.host() == std::vector<float>(4, 8.0f));
  OK(cudaStreamDestroy(s));
}

TEST_CASE("cuBLAS refuses what it must", "[simt][cublas]") {
  const Blas blas;
  const Device<float> x(size_t{64}, 1.0f);
  float* p = x.get();
  const float one = 1;
  const auto gemm = [&](int m, int n, int k, int lda, int ldb, int ldc) {
    return cublasSgemm(blas.handle, N, T, m, n, k, &one, p, lda, p, ldb, &one, p, ldc);
  };
  REQUIRE(gemm(-1, 2, 2, 2, 2, 2) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(gemm(2, -1, 2, 2, 2, 2) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(gemm(2, 2, -1, 2, 2, 2) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(gemm(4, 2, 2, 3, 2, 4) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(gemm(4, 2, 2, 4, 1, 4) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(gemm(4, 2, 2, 4, 2, 3) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(gemm(0, 2, 2, 1, 2, 1) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasSgemm(blas.handle, N, N, 2, 2, 2, nullptr, p, 2, p, 2, &one, p, 2) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(cublasSgemmStridedBatched(blas.handle, N, N, 2, 2, 2, &one, p, 2, 4, p, 2, 4, &one, p, 2, 4, -1) ==
          CUBLAS_STATUS_INVALID_VALUE);
  cublasHandle_t none = nullptr;
  REQUIRE(cublasSetStream(none, 0) == CUBLAS_STATUS_NOT_INITIALIZED);
#ifndef __CUDACC__
  REQUIRE(gemm(4, 2, 2, 3, 2, 4) == CUBLAS_STATUS_INVALID_VALUE);
  REQUIRE(std::string(cublasGetStatusString(CUBLAS_STATUS_INVALID_VALUE)) ==
          "CUBLAS_STATUS_INVALID_VALUE: [cublasSgemm] lda: got 3, expected at least 4, the rows of A as it is stored");
  REQUIRE_THROWS_WITH(gemm(8, 2, 9, 8, 2, 8),
                      Catch::Contains("[cublasSgemm] A at") &&
                          Catch::Contains("got 288 bytes from 0 bytes into the 256-byte allocation"));
  REQUIRE_THROWS_WITH(cublasSgemm(blas.handle, N, N, 1, 1, 1, &one, &one, 1, p, 1, &one, p, 1),
                      Catch::Contains("expected device memory"));
#endif
}
