// Attention to the continuous memory (model.md §3):  z_i = E_{p_i}[values_hᵀ ψ(t)] = Σ_j r_ij values_j,  r_ij =
// E_{p_i}[ψ_j].
//
// The (T, N) matrix r of a head never exists: it is made for a tile of queries at a time, small enough for the L2
// cache, and multiplied with the head's values there; backward makes it again. Tiles are held transposed, rt (N, tile),
// so that the inner loop runs over queries: one basis function's centre and width against many densities side by side.
#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/backend.h"
#include "tensor/cpu/expectation.h"
#include "tensor/cpu/simd.h"

namespace lem::cpu {

namespace {

constexpr int64_t kTile = 128;  // queries; at N = 512 a tile of r takes 256 KiB in float

/// C (m, n) = op(A) op(B) + beta C on the calling thread: OpenBLAS in its OpenMP flavour starts no threads inside a
/// parallel region.
template <class T>
void multiply(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda,
              const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  if constexpr (sizeof(T) == 4) {
    cblas_sgemm(CblasRowMajor, ta, tb, int(m), int(n), int(k), 1, a, int(lda), b, int(ldb), beta, c, int(ldc));
  } else {
    cblas_dgemm(CblasRowMajor, ta, tb, int(m), int(n), int(k), 1, a, int(lda), b, int(ldb), beta, c, int(ldc));
  }
}

/// The different widths of a Gaussian basis, few by construction: what depends on (s_j, σ_i) alone is computed once per
/// width and query instead of once per basis function and query.
struct Widths {
  std::vector<real> values;  // (W)
  std::vector<int64_t> of;   // (N): width of basis function j
  explicit Widths(BasisView basis) : of(basis.N) {
    for (int64_t j = 0; j < basis.N; ++j) {
      const auto found = std::find(values.begin(), values.end(), basis.b[j]);
      of[j] = found - values.begin();
      if (found == values.end()) values.push_back(basis.b[j]);
    }
  }
};

/// What one thread works on: n ≤ kTile queries of one head.
struct Tile {
  int64_t n;
  const real *mu, *sigma2;            // (n) each
  std::vector<real> rt, drt;          // (N, n): rᵀ and its gradient
  std::vector<real> inverse, factor;  // (W, n): 1/(s² + σ²) and 1/√(2π (s² + σ²))
};

// ---- Gaussian basis, Gaussian density
// --------------------------------------------------------------------------------
//
//   r = N(μ; m, a) = exp(−½ d²/a) / √(2π a),   a = s² + σ², d = μ − m
//   ∂r/∂μ = −r d/a,   ∂r/∂σ² = ½ r (d²/a² − 1/a)

void prepare(Tile& tile, const Widths& widths) {
  tile.inverse.resize(widths.values.size() * tile.n), tile.factor.resize(tile.inverse.size());
  for (size_t w = 0; w < widths.values.size(); ++w) {
    const real s = widths.values[w];
    real *inverse = &tile.inverse[w * tile.n], *factor = &tile.factor[w * tile.n];  // (n) each
    for (int64_t i = 0; i < tile.n; ++i) {
      inverse[i] = 1 / (s * s + tile.sigma2[i]);
      factor[i] = real(0.3989422804014327) * std::sqrt(inverse[i]);  // 1/√(2π) · √inverse
    }
  }
}

void gaussian_forward(Tile& tile, BasisView basis, const Widths& widths) {
  prepare(tile, widths);
  const int64_t n = tile.n;
  const real* mu = tile.mu;  // (n)
  for (int64_t j = 0; j < basis.N; ++j) {
    const real m = basis.a[j];
    const real *inverse = &tile.inverse[widths.of[j] * n], *factor = &tile.factor[widths.of[j] * n];  // (n) each
    real* r = &tile.rt[j * n];                                                                        // (n)
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const real d = mu[i] - m;
      r[i] = factor[i] * exp(real(-0.5) * d * d * inverse[i]);
    }
  }
}

/// Makes r again; dmu, dsigma2 (n): Σ_j dr_j ∂r_j/∂μ and Σ_j dr_j ∂r_j/∂σ².
void gaussian_backward(Tile& tile, BasisView basis, const Widths& widths, real* dmu, real* dsigma2) {
  prepare(tile, widths);
  const int64_t n = tile.n;
  const real* mu = tile.mu;  // (n)
  std::fill_n(dmu, n, real(0)), std::fill_n(dsigma2, n, real(0));
  for (int64_t j = 0; j < basis.N; ++j) {
    const real m = basis.a[j];
    const real *inverse = &tile.inverse[widths.of[j] * n], *factor = &tile.factor[widths.of[j] * n];  // (n) each
    const real* dr = &tile.drt[j * n];                                                                // (n)
    real* r = &tile.rt[j * n];                                                                        // (n)
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const real d = mu[i] - m, d_a = d * inverse[i];
      r[i] = factor[i] * exp(real(-0.5) * d * d_a);
      const real g = dr[i] * r[i];
      dmu[i] -= g * d_a;
      dsigma2[i] += real(0.5) * g * (d_a * d_a - inverse[i]);
    }
  }
}

// ---- every other pair: closed forms of expectation.h, query by query
// -------------------------------------------------

void general_forward(Tile& tile, BasisView basis, DensityKind kind) {
  std::vector<Expectation> row(basis.N);
  for (int64_t i = 0; i < tile.n; ++i) {
    expectation_row(row.data(), basis, kind, tile.mu[i], tile.sigma2[i]);
    for (int64_t j = 0; j < basis.N; ++j) tile.rt[j * tile.n + i] = real(row[j].value);
  }
}

void general_backward(Tile& tile, BasisView basis, DensityKind kind, real* dmu, real* dsigma2) {
  std::vector<Expectation> row(basis.N);
  for (int64_t i = 0; i < tile.n; ++i) {
    expectation_row(row.data(), basis, kind, tile.mu[i], tile.sigma2[i]);
    double sum_mu = 0, sum_sigma2 = 0;
    for (int64_t j = 0; j < basis.N; ++j) {
      const double dr = tile.drt[j * tile.n + i];
      tile.rt[j * tile.n + i] = real(row[j].value);
      sum_mu += dr * row[j].dmu;
      sum_sigma2 += dr * row[j].dsigma2;
    }
    dmu[i] = real(sum_mu), dsigma2[i] = real(sum_sigma2);
  }
}

bool closed_gaussian(BasisView basis, const ContinuousAttention& s) {
  return basis.kind == BasisKind::gaussian && s.density == DensityKind::gaussian;
}

}  // namespace

// z[b,t,h,:] = Σ_j r_j values[b,j,h,:]. One thread makes one tile of one head; no two write the same z.
void continuous_attention_forward(real* z, const real* density, const real* values, BasisView basis,
                                  const ContinuousAttention& s) {
  const int64_t N = basis.N, C = s.H * s.D, tiles = (s.T + kTile - 1) / kTile;
  const Widths widths(basis);
#pragma omp parallel num_threads(threads_for(s.B* s.H* s.T* N))
  {
    Tile tile;
    tile.rt.resize(N * kTile);
#pragma omp for collapse(3) schedule(static)
    for (int64_t b = 0; b < s.B; ++b)
      for (int64_t h = 0; h < s.H; ++h)
        for (int64_t part = 0; part < tiles; ++part) {
          const int64_t t = part * kTile, query = (b * s.H + h) * s.T + t;
          tile.n = std::min(kTile, s.T - t);
          tile.mu = density + query, tile.sigma2 = density + s.B * s.H * s.T + query;
          if (closed_gaussian(basis, s)) {
            gaussian_forward(tile, basis, widths);
          } else {
            general_forward(tile, basis, s.density);
          }
          multiply(CblasTrans, CblasNoTrans, tile.n, s.D, N, tile.rt.data(), tile.n, values + b * N * C + h * s.D, C,
                   real(0), z + (b * s.T + t) * C + h * s.D, C);
        }
  }
}

// drᵀ = values_h dzᵀ (N, n);   dμ = Σ_j dr ∂r/∂μ, dσ² likewise;   dvalues_h = Σ over tiles of rᵀ dz (N, D).
// One thread has all tiles of a (b, h), in order: dvalues is summed in one order whatever the number of threads.
void continuous_attention_backward(real* ddensity, real* dvalues, const real* dz, const real* density,
                                   const real* values, BasisView basis, const ContinuousAttention& s) {
  const int64_t N = basis.N, C = s.H * s.D;
  const Widths widths(basis);
#pragma omp parallel num_threads(threads_for(s.B* s.H* s.T* N))
  {
    Tile tile;
    tile.rt.resize(N * kTile), tile.drt.resize(N * kTile);
#pragma omp for collapse(2) schedule(static)
    for (int64_t b = 0; b < s.B; ++b)
      for (int64_t h = 0; h < s.H; ++h)
        for (int64_t t = 0; t < s.T; t += kTile) {
          const int64_t query = (b * s.H + h) * s.T + t, n = std::min(kTile, s.T - t);
          const real* values_h = values + b * N * C + h * s.D;             // (N, D), rows C apart
          const real* dz_h = dz + (b * s.T + t) * C + h * s.D;             // (n, D), rows C apart
          real *dmu = ddensity + query, *dsigma2 = dmu + s.B * s.H * s.T;  // (n) each
          tile.n = n, tile.mu = density + query, tile.sigma2 = tile.mu + s.B * s.H * s.T;
          multiply(CblasNoTrans, CblasTrans, N, n, s.D, values_h, C, dz_h, C, real(0), tile.drt.data(), n);
          if (closed_gaussian(basis, s)) {
            gaussian_backward(tile, basis, widths, dmu, dsigma2);
          } else {
            general_backward(tile, basis, s.density, dmu, dsigma2);
          }
          multiply(CblasNoTrans, CblasNoTrans, N, s.D, n, tile.rt.data(), n, dz_h, C, real(t > 0),
                   dvalues + b * N * C + h * s.D, C);
        }
  }
}

}  // namespace lem::cpu
