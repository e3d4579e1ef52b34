// Attention to the continuous memory (docs/continuous-memory.md):
//   z_i = E_{p_i}[values_hᵀ ψ(t)] = Σ_j r_ij values_j,   r_ij = E_{p_i}[ψ_j].
//
// The (T, N) matrix r of a head never exists: it is made for a tile of queries at a time, small enough for the L2
// cache, and multiplied with the head's values there; backward makes it again. Tiles are held transposed, (N, n), so
// that queries lie in vector lanes: one basis function's centre and width against many densities side by side.
#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/backend.h"
#include "tensor/cpu/expectation.h"
#include "tensor/cpu/lanes.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/simd.h"

namespace lem::cpu {

namespace {

constexpr int64_t kTile = 96;  // queries; at N = 512 a tile of r takes 192 KiB in float
static_assert(kTile % kLanes == 0);

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

/// What one thread works on: `count` queries of one head, at most kTile, and n, that number rounded up to whole
/// vectors. Queries that only fill a vector have μ = ½, σ² = 1 and dz = 0.
struct Tile {
  int64_t count, n;
  real mu[kTile], sigma2[kTile];      // (n) each
  real dmu[kTile], dsigma2[kTile];    // (n) each
  std::vector<real> rt, drt;          // (N, n): rᵀ and its gradient
  std::vector<real> inverse, factor;  // (W, n): 1/(s² + σ²) and 1/√(2π (s² + σ²))

  void load(const real* from_mu, const real* from_sigma2, int64_t queries) {
    count = queries, n = round_up(queries);
    for (int64_t i = 0; i < n; ++i) {
      mu[i] = i < count ? from_mu[i] : real(0.5);
      sigma2[i] = i < count ? from_sigma2[i] : real(1);
    }
  }
};

// ---- Gaussian basis, Gaussian density ---------------------------------------------------------------------------
//
//   r = N(μ; m, a) = exp(−½ d²/a) / √(2π a),   a = s² + σ², d = μ − m
//   ∂r/∂μ = −r d/a,   ∂r/∂σ² = ½ r (d²/a² − 1/a)

constexpr real kHalfLog2e = real(-0.72134752044448170368);  // −½ log₂ e: exp(−½ x) = 2^(kHalfLog2e x)

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
    for (int64_t i = 0; i < n; i += kLanes) {
      const Vector d = load(mu + i) - m;
      store(r + i, load(factor + i) * exp2_negative(kHalfLog2e * d * d * load(inverse + i)));
    }
  }
}

/// Makes r again, and dmu = Σ_j dr_j ∂r_j/∂μ, dsigma2 = Σ_j dr_j ∂r_j/∂σ².
void gaussian_backward(Tile& tile, BasisView basis, const Widths& widths) {
  prepare(tile, widths);
  const int64_t n = tile.n;
  const real* mu = tile.mu;                       // (n)
  real *dmu = tile.dmu, *dsigma2 = tile.dsigma2;  // (n) each
  std::fill_n(dmu, n, real(0)), std::fill_n(dsigma2, n, real(0));
  for (int64_t j = 0; j < basis.N; ++j) {
    const real m = basis.a[j];
    const real *inverse = &tile.inverse[widths.of[j] * n], *factor = &tile.factor[widths.of[j] * n];  // (n) each
    const real* dr = &tile.drt[j * n];                                                                // (n)
    real* r = &tile.rt[j * n];                                                                        // (n)
    for (int64_t i = 0; i < n; i += kLanes) {
      const Vector a = load(inverse + i), d = load(mu + i) - m, d_a = d * a;
      const Vector value = load(factor + i) * exp2_negative(kHalfLog2e * d * d_a), g = load(dr + i) * value;
      store(r + i, value);
      store(dmu + i, load(dmu + i) - g * d_a);
      store(dsigma2 + i, load(dsigma2 + i) + real(0.5) * g * (d_a * d_a - a));
    }
  }
}

// ---- every other pair: closed forms of expectation.h, query by query --------------------------------------------

void general_forward(Tile& tile, BasisView basis, DensityKind kind) {
  std::vector<Expectation> row(basis.N);
  for (int64_t i = 0; i < tile.count; ++i) {
    expectation_row(row.data(), basis, kind, tile.mu[i], tile.sigma2[i]);
    for (int64_t j = 0; j < basis.N; ++j) tile.rt[j * tile.n + i] = real(row[j].value);
  }
}

void general_backward(Tile& tile, BasisView basis, DensityKind kind) {
  std::vector<Expectation> row(basis.N);
  for (int64_t i = 0; i < tile.count; ++i) {
    expectation_row(row.data(), basis, kind, tile.mu[i], tile.sigma2[i]);
    double sum_mu = 0, sum_sigma2 = 0;
    for (int64_t j = 0; j < basis.N; ++j) {
      const double dr = tile.drt[j * tile.n + i];
      tile.rt[j * tile.n + i] = real(row[j].value);
      sum_mu += dr * row[j].dmu;
      sum_sigma2 += dr * row[j].dsigma2;
    }
    tile.dmu[i] = real(sum_mu), tile.dsigma2[i] = real(sum_sigma2);
  }
}

bool all_gaussian(BasisView basis, const ContinuousAttention& s) {
  return basis.kind == BasisKind::gaussian && s.density == DensityKind::gaussian;
}

}  // namespace

// zᵀ (D, n) = values_hᵀ rᵀ. One thread makes one tile of one head; no two write the same z.
void continuous_attention_forward(real* z, const real* density, const real* values, BasisView basis,
                                  const ContinuousAttention& s) {
  const int64_t N = basis.N, C = s.H * s.D, tiles = (s.T + kTile - 1) / kTile;
  const Widths widths(basis);
  parallel_for(s.B * s.H * tiles, kTile * N, [&](int64_t begin, int64_t end) {
    Tile tile;
    tile.rt.resize(size_t(N * kTile));
    std::vector<real> zt(size_t(s.D * kTile));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / tiles / s.H, h = item / tiles % s.H, t = item % tiles * kTile;
      const int64_t query = (b * s.H + h) * s.T + t, count = std::min(kTile, s.T - t);
      const real* values_h = values + b * N * C + h * s.D;  // (N, D), rows C apart
      real* z_h = z + (b * s.T + t) * C + h * s.D;          // (count, D), rows C apart
      tile.load(density + query, density + s.B * s.H * s.T + query, count);
      if (all_gaussian(basis, s)) {
        gaussian_forward(tile, basis, widths);
      } else {
        general_forward(tile, basis, s.density);
      }
      lane_product(zt.data(), tile.n, {values_h, 1, C}, tile.rt.data(), tile.n, s.D, tile.n, N, false);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t d = 0; d < s.D; ++d) z_h[i * C + d] = zt[size_t(d * tile.n + i)];
    }
  });
}

// drᵀ (N, n) = values_h dzᵀ;   dμ = Σ_j dr ∂r/∂μ, dσ² likewise;   dvalues_h (N, D) = Σ over tiles of rᵀ dz.
// One thread has all tiles of a (b, h), in order: dvalues is summed in one order whatever the number of threads.
void continuous_attention_backward(real* ddensity, real* dvalues, const real* dz, const real* density,
                                   const real* values, BasisView basis, const ContinuousAttention& s) {
  const int64_t N = basis.N, C = s.H * s.D, Dp = round_up(s.D), queries = s.B * s.H * s.T;
  const Widths widths(basis);
  parallel_for(s.B * s.H, s.T * N, [&](int64_t begin, int64_t end) {
    Tile tile;
    tile.rt.resize(size_t(N * kTile)), tile.drt.resize(size_t(N * kTile));
    // dz (n, Dp), dzᵀ (D, n), dvalues_h (N, Dp)
    std::vector<real> rows(size_t(kTile * Dp)), columns(size_t(s.D * kTile)), sum(size_t(N * Dp));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / s.H, h = item % s.H;
      const real* values_h = values + b * N * C + h * s.D;  // (N, D), rows C apart
      real* dvalues_h = dvalues + b * N * C + h * s.D;      // (N, D), rows C apart
      for (int64_t t = 0; t < s.T; t += kTile) {
        const int64_t query = (b * s.H + h) * s.T + t, count = std::min(kTile, s.T - t);
        tile.load(density + query, density + queries + query, count);
        const int64_t n = tile.n;
        const real* dz_h = dz + (b * s.T + t) * C + h * s.D;  // (count, D), rows C apart
        for (int64_t i = 0; i < n; ++i)
          for (int64_t d = 0; d < s.D; ++d)
            rows[size_t(i * Dp + d)] = columns[size_t(d * n + i)] = i < count ? dz_h[i * C + d] : real(0);
        lane_product(tile.drt.data(), n, {values_h, C, 1}, columns.data(), n, N, n, s.D, false);
        if (all_gaussian(basis, s)) {
          gaussian_backward(tile, basis, widths);
        } else {
          general_backward(tile, basis, s.density);
        }
        std::copy_n(tile.dmu, count, ddensity + query), std::copy_n(tile.dsigma2, count, ddensity + queries + query);
        lane_product(sum.data(), Dp, {tile.rt.data(), n, 1}, rows.data(), Dp, N, Dp, count, t > 0);
      }
      for (int64_t j = 0; j < N; ++j)
        for (int64_t d = 0; d < s.D; ++d) dvalues_h[j * C + d] = s.T > 0 ? sum[size_t(j * Dp + d)] : real(0);
    }
  });
}

}  // namespace lem::cpu
