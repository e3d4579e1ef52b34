// From queries to densities (docs/continuous-memory.md): scores, (μ, σ²), and the regulariser that keeps σ² near σ₀².
#include <cmath>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/simd.h"
#include "tensor/special.h"

namespace lem::cpu {

// ---- head scores ------------------------------------------------------------------------------------------------
//
// The model's μ = sigmoid(w_μ · s) and σ² = softplus(w_σ · s) read the N scores s_i = keys_h q_i / √D only through two
// directions, and w_μ · s_i = q_i · (keys_hᵀ w_μ) / √D. So each head needs P = 2 vectors k_p = keys_hᵀ w_p of D
// numbers, and the (T, N) scores never exist:   s[p,b,h,t] = scale · q[b,t,h,:] · k[b,p,h,:].

/// The scores of all heads of a row's queries [first, last).
static void query_scores(real* s, const real* q, const real* k, real scale, int64_t P, int64_t B, int64_t T, int64_t H,
                         int64_t D, int64_t b, int64_t first, int64_t last) {
  for (int64_t t = first; t < last; ++t)
    for (int64_t h = 0; h < H; ++h) {
      const real* q_bth = q + ((b * T + t) * H + h) * D;  // (D)
      for (int64_t p = 0; p < P; ++p) {
        const real* k_bph = k + ((b * P + p) * H + h) * D;  // (D)
        real dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t d = 0; d < D; ++d) dot += q_bth[d] * k_bph[d];
        s[((p * B + b) * H + h) * T + t] = scale * dot;
      }
    }
}

void head_scores_forward(real* s, const real* q, const real* k, real scale, int64_t P, int64_t B, int64_t T, int64_t H,
                         int64_t D) {
  parallel_for(B * T, P * H * D, [=](int64_t begin, int64_t end) {
    for_items(begin, end, T, [=](int64_t b, int64_t first, int64_t last) {
      query_scores(s, q, k, scale, P, B, T, H, D, b, first, last);
    });
  });
}

// dq[b,t,h,:] = scale Σ_p ds[p,b,h,t] k[b,p,h,:],   dk[b,p,h,:] = scale Σ_t ds[p,b,h,t] q[b,t,h,:].
// One thread has all of a (b, h), so that the sums over t run in one order.
static void head_gradients(real* dq, real* dk, const real* ds, const real* q, const real* k, real scale, int64_t P,
                           int64_t B, int64_t T, int64_t H, int64_t D, int64_t b, int64_t h) {
  for (int64_t p = 0; p < P; ++p) {
    real* dk_bph = dk + ((b * P + p) * H + h) * D;  // (D)
    for (int64_t d = 0; d < D; ++d) dk_bph[d] = 0;
  }
  for (int64_t t = 0; t < T; ++t) {
    const real* q_bth = q + ((b * T + t) * H + h) * D;  // (D)
    real* dq_bth = dq + ((b * T + t) * H + h) * D;      // (D)
    for (int64_t d = 0; d < D; ++d) dq_bth[d] = 0;
    for (int64_t p = 0; p < P; ++p) {
      const real* k_bph = k + ((b * P + p) * H + h) * D;  // (D)
      real* dk_bph = dk + ((b * P + p) * H + h) * D;      // (D)
      const real g = scale * ds[((p * B + b) * H + h) * T + t];
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) {
        dq_bth[d] += g * k_bph[d];
        dk_bph[d] += g * q_bth[d];
      }
    }
  }
}

void head_scores_backward(real* dq, real* dk, const real* ds, const real* q, const real* k, real scale, int64_t P,
                          int64_t B, int64_t T, int64_t H, int64_t D) {
  parallel_for(B * H, P * T * D, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) head_gradients(dq, dk, ds, q, k, scale, P, B, T, H, D, i / H, i % H);
  });
}

// ---- (μ, σ²) from two scores ------------------------------------------------------------------------------------

// μ = sigmoid(s₀), σ² = max(softplus(s₁), σ²_min). A NaN score stays NaN.
void density_forward(real* density, const real* s, real sigma2_min, int64_t n) {
  parallel_for(n, 16, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const real sigma2 = softplus(s[n + i]);
      density[i] = sigmoid(s[i]);
      density[n + i] = sigma2 < sigma2_min ? sigma2_min : sigma2;
    }
  });
}

// dμ/ds₀ = μ (1 − μ);  dσ²/ds₁ = sigmoid(s₁), and 0 below the floor. 1 − μ = sigmoid(−s₀) keeps its digits near μ = 1.
void density_backward(real* ds, const real* ddensity, const real* s, real sigma2_min, int64_t n) {
  parallel_for(n, 16, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      ds[i] = ddensity[i] * sigmoid(s[i]) * sigmoid(-s[i]);
      ds[n + i] = softplus(s[n + i]) < sigma2_min ? 0 : ddensity[n + i] * sigmoid(s[n + i]);
    }
  });
}

// ---- (μ, σ²) from the moments of a discrete p -------------------------------------------------------------------
//
// p (N) weighs the basis functions N(m_j, s_j²); the mixture Σ p_j N(m_j, s_j²) has
//   μ = Σ p_j m_j,   σ² = Σ p_j (m_j² + s_j²) − μ².
// The difference cancels where the mixture is narrow, hence the sums in double.

static void row_moments(real& mu, real& sigma2, const real* p, BasisView basis, real sigma2_min) {
  double first = 0, second = 0;
#pragma omp simd reduction(+ : first, second)
  for (int64_t j = 0; j < basis.N; ++j) {
    const double m = basis.a[j], width = basis.b[j];
    first += p[j] * m;
    second += p[j] * (m * m + width * width);
  }
  mu = real(first);
  second -= first * first;
  sigma2 = second < sigma2_min ? sigma2_min : real(second);
}

void moments_forward(real* density, const real* p, BasisView basis, real sigma2_min, int64_t n) {
  parallel_for(n, basis.N, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) row_moments(density[i], density[n + i], p + i * basis.N, basis, sigma2_min);
  });
}

// ∂μ/∂p_j = m_j;   ∂σ²/∂p_j = m_j² + s_j² − 2 μ m_j, and 0 where σ² sits on its floor.
static void row_gradients(real* dp, real dmu, real dsigma2, real mu, BasisView basis) {
#pragma omp simd
  for (int64_t j = 0; j < basis.N; ++j) {
    const real m = basis.a[j], width = basis.b[j];
    dp[j] = dmu * m + dsigma2 * (m * (m - 2 * mu) + width * width);
  }
}

void moments_backward(real* dp, const real* ddensity, const real* density, const real* p, BasisView basis,
                      real sigma2_min, int64_t n) {
  (void)p;  // both moments are linear in p but for μ², and μ is saved
  parallel_for(n, basis.N, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      row_gradients(dp + i * basis.N, ddensity[i], density[n + i] > sigma2_min ? ddensity[n + i] : 0, density[i],
                    basis);
  });
}

// ---- regulariser ------------------------------------------------------------------------------------------------
//
// KL(N(μ, σ²) ‖ N(μ₀, σ₀²)) = ½ ( σ²/σ₀² − ln(σ²/σ₀²) − 1 [ + (μ − μ₀)²/σ₀² ] ), the bracket only where μ₀ is given.
// The sum over a batch row is taken in double, in order of the densities.

void kl_forward(real* kl, const real* density, const int32_t* steps, real sigma0, real mu0, bool has_mu0, int64_t B,
                int64_t H, int64_t T) {
  const real inverse = 1 / (sigma0 * sigma0);
  parallel_for(B, 16 * H * T, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const real *mu = density + b * H * T, *sigma2 = density + (B + b) * H * T;  // (H, T) each
      const int64_t counted = steps ? steps[b] : T;
      double sum = 0;
      for (int64_t h = 0; h < H; ++h)
        for (int64_t i = h * T; i < h * T + counted; ++i) {
          const real ratio = sigma2[i] * inverse, d = mu[i] - mu0;
          sum += ratio - std::log(ratio) - 1;
          if (has_mu0) sum += d * d * inverse;
        }
      kl[b] = real(sum / 2);
    }
  });
}

// ∂/∂μ = (μ − μ₀)/σ₀²  (0 without μ₀);   ∂/∂σ² = ½ (1/σ₀² − 1/σ²).
void kl_backward(real* ddensity, const real* dkl, const real* density, const int32_t* steps, real sigma0, real mu0,
                 bool has_mu0, int64_t B, int64_t H, int64_t T) {
  const real inverse = 1 / (sigma0 * sigma0);
  parallel_for(B * H, 4 * T, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / H, counted = steps ? steps[b] : T;
      const real *mu = density + i * T, *sigma2 = density + (B * H + i) * T;  // (T) each
      real *dmu = ddensity + i * T, *dsigma2 = ddensity + (B * H + i) * T;
      for (int64_t t = 0; t < counted; ++t) {
        dmu[t] = has_mu0 ? dkl[b] * (mu[t] - mu0) * inverse : 0;
        dsigma2[t] = dkl[b] * (inverse - 1 / sigma2[t]) / 2;
      }
      std::fill(dmu + counted, dmu + T, real(0)), std::fill(dsigma2 + counted, dsigma2 + T, real(0));
    }
  });
}

}  // namespace lem::cpu
