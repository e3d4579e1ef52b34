#include "nn/ridge.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/error.h"

namespace lem {

std::vector<double> positions(int64_t L) {
  check(L > 0, "[ridge] nothing to fit: got L = {} vectors, expected at least 1; skip updates without vectors", L);
  std::vector<double> t(L);
  for (int64_t l = 0; l < L; ++l) t[l] = (double(l) + 0.5) / double(L);
  return t;
}

std::vector<double> uniform_points(int64_t R) {
  check(R > 0, "[ridge] the old signal must be read somewhere: got R = {} points, expected at least 1; raise R", R);
  std::vector<double> u(R);
  for (int64_t i = 0; i < R; ++i) u[i] = double(i + 1) / double(R);
  return u;
}

std::vector<double> contraction_positions(int64_t R, double tau, int64_t L) {
  check(tau > 0 && tau < 1,
        "[ridge] tau is the old signal's share of [0, 1]: got {}, expected 0 < tau < 1; choose e.g. .75", tau);
  check(L > 0, "[ridge] nothing to fit: got L = {} vectors, expected at least 1; skip updates without vectors", L);
  std::vector<double> t = uniform_points(R);
  for (double& old : t) old *= tau;
  // The last stands at 1 exactly: beyond, a basis may have nothing.
  for (int64_t l = 1; l <= L; ++l) t.push_back(1 - (1 - tau) * double(L - l) / double(L));
  return t;
}

std::vector<double> padding_positions(int64_t points) {
  const double P = double(points);
  std::vector<double> t;
  for (int64_t k = (points + 1) / 2; k >= 1; --k) t.push_back(-(double(k) - 0.5) / P);
  for (int64_t k = 1; k <= (points + 1) / 2; ++k) t.push_back(1 + (double(k) - 0.5) / P);
  return t;
}

/// Fᵀ (P, N): row l holds ψ(t_l)
static std::vector<double> design(const Basis& basis, const std::vector<double>& t) {
  const int64_t N = basis.size(), P = int64_t(t.size());
  std::vector<double> Ft(P * N);
#pragma omp parallel for
  for (int64_t l = 0; l < P; ++l)
    for (int64_t j = 0; j < N; ++j) Ft[l * N + j] = basis.evaluate(j, t[l]);
  return Ft;
}

// Cholesky factor: K = U ᵀ U with U upper triangular, in place in the upper half of K (N, N), blocks of rows at a time.
// For the rows of one block, with everything above already subtracted:
//   U_dd ᵀ U_dd = K_dd (a small factorisation),  U_dr = U_dd⁻ᵀ K_dr (triangular solve),  K_rr −= U_dr ᵀ U_dr.
// A pivot that is lost in the rounding of its row means that K is singular to working precision.
static void cholesky(std::vector<double>& K, int64_t N, double lambda) {
  constexpr int64_t kBlock = 64;
  double largest = 0;
  for (int64_t j = 0; j < N; ++j) largest = std::max(largest, K[j * N + j]);
  const double smallest = largest * double(N) * std::numeric_limits<double>::epsilon();
  for (int64_t k = 0; k < N; k += kBlock) {
    const int64_t end = std::min(k + kBlock, N), rest = N - end;
    for (int64_t i = k; i < end; ++i) {
      const double pivot = K[i * N + i];
      check(pivot > smallest && std::isfinite(pivot),
            "[ridge] F Fᵀ + lambda I is not positive definite: got pivot {} in row {} of {} at lambda = {}; raise "
            "lambda, "
            "or use fewer or narrower basis functions",
            pivot, i, N, lambda);
      const double root = std::sqrt(pivot);
      for (int64_t j = i; j < end; ++j) K[i * N + j] /= root;
      for (int64_t r = i + 1; r < end; ++r)
        for (int64_t j = r; j < end; ++j) K[r * N + j] -= K[i * N + r] * K[i * N + j];
    }
    if (rest == 0) break;
    double *diagonal = &K[k * N + k], *right = &K[k * N + end];
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, int(end - k), int(rest), 1, diagonal,
                int(N), right, int(N));
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, int(rest), int(end - k), -1, right, int(N), 1, &K[end * N + end],
                int(N));
  }
}

std::vector<double> ridge_operator(const Basis& basis, const std::vector<double>& t, double lambda, bool pad) {
  const int64_t N = basis.size(), L = int64_t(t.size());
  check(L > 0, "[ridge] nothing to fit: got no positions, expected at least 1; skip updates without vectors");
  check(lambda >= 0, "[ridge] lambda must not be negative: got {}; give e.g. 1", lambda);
  std::vector<double> all = t;  // (P): the vectors' positions, then the padding's
  if (pad) {
    const std::vector<double> zeros = padding_positions(L);
    all.insert(all.end(), zeros.begin(), zeros.end());
  }
  const int64_t P = int64_t(all.size());
  std::vector<double> G = design(basis, all);  // (P, N): Fᵀ, whose first L rows become G
  std::vector<double> K(N * N);                // (N, N): F Fᵀ + λ I, upper half
  cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, int(N), int(P), 1, G.data(), int(N), 0, K.data(), int(N));
  for (int64_t j = 0; j < N; ++j) K[j * N + j] += lambda;
  cholesky(K, N, lambda);
  // G (Uᵀ U) = Fᵀ:  first Y U = Fᵀ, then G Uᵀ = Y.
  G.resize(L * N);
  cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, int(L), int(N), 1, K.data(), int(N),
              G.data(), int(N));
  cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, int(L), int(N), 1, K.data(), int(N),
              G.data(), int(N));
  return G;
}

Contraction contraction(const Basis& basis, int64_t R, double tau, int64_t L, double lambda, bool pad) {
  const int64_t N = basis.size();
  const std::vector<double> G = ridge_operator(basis, contraction_positions(R, tau, L), lambda, pad);  // (R + L, N)
  const std::vector<double> psi = design(basis, uniform_points(R));                                    // (R, N)
  Contraction c{{G.begin(), G.begin() + R * N}, {G.begin() + R * N, G.end()}, std::vector<double>(N * N)};
  cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, int(N), int(N), int(R), 1, c.G_old.data(), int(N), psi.data(),
              int(N), 0, c.A.data(), int(N));
  return c;
}

}  // namespace lem
