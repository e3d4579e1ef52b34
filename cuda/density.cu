// From queries to densities (docs/continuous-memory.md): scores against two directions per head, (μ, σ²) from them or
// from moments, and the regulariser. All are bound by memory; what one costs is the bytes it moves, given with each.
// Blocks have 256 threads, which fill an SM whatever the number of its block slots is.
#include "cuda/device.h"
#include "tensor/special.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

// ---- head scores: s[p,b,h,t] = scale · q[b,t,h,:] · k[b,p,h,:] ----
//
// A warp has 32 neighbouring t of one (b, h). Its lanes share the D products of one row of q, a coalesced read, and add
// them up by shuffles; lane i keeps the score of row i, so that all 32 scores are written at once. q is read once for
// each p, from the cache but the first time: 4 D + 4 P bytes of memory a row.

__global__ void __launch_bounds__(kThreads)
    scores_forward_kernel(float* s, const float* q, const float* k, float scale, int64_t P, int64_t B, int64_t T,
                          int64_t H, int64_t D) {
  const int lane = threadIdx.x % kWarp;
  const int64_t parts = ceil_div(T, kWarp);
  for (int64_t w = thread_in_grid() / kWarp; w < B * H * parts; w += threads_in_grid() / kWarp) {
    const int64_t h = w / parts % H, b = w / (parts * H), t0 = w % parts * kWarp;
    const int rows = int(min(T - t0, int64_t(kWarp)));
    const float* q_bh = q + ((b * T + t0) * H + h) * D;  // (rows, D), rows H·D apart
    for (int64_t p = 0; p < P; ++p) {
      const float* k_bph = k + ((b * P + p) * H + h) * D;  // (D)
      float mine = 0;
      for (int i = 0; i < rows; ++i) {
        float dot = 0;
        for (int64_t d = lane; d < D; d += kWarp) dot += q_bh[i * H * D + d] * k_bph[d];
        dot = warp_sum(dot);
        if (lane == i) mine = dot;
      }
      if (lane < rows) s[((p * B + b) * H + h) * T + t0 + lane] = scale * mine;
    }
  }
}

/// dq[b,t,h,d] = scale Σ_p ds[p,b,h,t] k[b,p,h,d]: a thread has one element, neighbours are neighbours in d. It writes
/// 4 bytes; ds and k come from the cache, their neighbours in the warp read the same.
__global__ void __launch_bounds__(kThreads) scores_dq_kernel(float* dq, const float* ds, const float* k, float scale,
                                                             int64_t P, int64_t B, int64_t T, int64_t H, int64_t D) {
  for (int64_t i = thread_in_grid(); i < B * T * H * D; i += threads_in_grid()) {
    const int64_t hd = i % (H * D), h = hd / D, t = i / (H * D) % T, b = i / (H * D * T);
    float sum = 0;
    for (int64_t p = 0; p < P; ++p) sum += ds[((p * B + b) * H + h) * T + t] * k[(b * P + p) * H * D + hd];
    dq[i] = scale * sum;
  }
}

/// dk[b,p,h,d] = scale Σ_t ds[p,b,h,t] q[b,t,h,d]: a block has 32 neighbouring d of one (b, h), a lane each; warp w
/// adds up t = w, w + 8, …, and the first warp the eight sums, in order. Directions are taken two at a time (a head has
/// two), so that q is read once for each pair: 4 bytes an element of q. Shared memory: one sum a thread and direction,
/// 2 KiB.
__global__ void __launch_bounds__(kThreads) scores_dk_kernel(float* dk, const float* ds, const float* q, float scale,
                                                             int64_t P, int64_t B, int64_t T, int64_t H, int64_t D) {
  SHARED(float, sums, [2][kWarps][kWarp]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t parts = ceil_div(D, kWarp);
  const int64_t d = blockIdx.x % parts * kWarp + lane, h = blockIdx.x / parts % H, b = blockIdx.x / (parts * H);
  for (int64_t p = 0; p < P; p += 2) {
    const bool pair = p + 1 < P;
    const float* ds_p = ds + ((p * B + b) * H + h) * T;  // (T); the next direction's is B·H·T further
    float first = 0, second = 0;
    if (d < D)
      for (int64_t t = warp; t < T; t += kWarps) {
        const float x = q[((b * T + t) * H + h) * D + d];
        first += ds_p[t] * x;
        if (pair) second += ds_p[B * H * T + t] * x;
      }
    sums[0][warp][lane] = first, sums[1][warp][lane] = second;
    __syncthreads();
    if (warp < 2 && p + warp < P && d < D) {
      float sum = 0;
      for (int w = 0; w < kWarps; ++w) sum += sums[warp][w][lane];
      dk[((b * P + p + warp) * H + h) * D + d] = scale * sum;
    }
    __syncthreads();  // before the sums are written again
  }
}

// ---- (μ, σ²) from two scores: 16 bytes a density forward, 24 backward; a thread has one ----

__device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

__global__ void __launch_bounds__(kThreads)
    density_forward_kernel(float* density, const float* s, float sigma2_min, int64_t n) {
  for (int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) {
    const float sigma2 = softplus(s[n + i]);
    density[i] = sigmoid(s[i]);
    density[n + i] = sigma2 < sigma2_min ? sigma2_min : sigma2;
  }
}
/// dμ/ds₀ = μ (1 − μ), where 1 − μ = sigmoid(−s₀) keeps its digits; dσ²/ds₁ = sigmoid(s₁), and 0 below the floor.
__global__ void __launch_bounds__(kThreads)
    density_backward_kernel(float* ds, const float* ddensity, const float* s, float sigma2_min, int64_t n) {
  for (int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) {
    ds[i] = ddensity[i] * sigmoid(s[i]) * sigmoid(-s[i]);
    ds[n + i] = softplus(s[n + i]) < sigma2_min ? 0 : ddensity[n + i] * sigmoid(s[n + i]);
  }
}

// ---- (μ, σ²) from the moments of p (n, N): μ = Σ p_j m_j, σ² = Σ p_j (m_j² + s_j²) − μ² ----

/// A warp has one row, lanes stride over j, and shuffles add them up: 4 N bytes a row, as the basis stays in the cache.
/// Both sums are in double: their difference cancels where the mixture is narrow.
__global__ void __launch_bounds__(kThreads)
    moments_forward_kernel(float* density, const float* p, BasisView basis, float sigma2_min, int64_t n) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t i = thread_in_grid() / kWarp; i < n; i += threads_in_grid() / kWarp) {
    double first = 0, second = 0;
    for (int64_t j = lane; j < basis.N; j += kWarp) {
      const double m = basis.a[j], width = basis.b[j], p_ij = p[i * basis.N + j];
      first += p_ij * m;
      second += p_ij * (m * m + width * width);
    }
    for (int step = kWarp / 2; step > 0; step /= 2) {
      first += __shfl_xor_sync(kAllLanes, first, step);
      second += __shfl_xor_sync(kAllLanes, second, step);
    }
    if (lane == 0) {
      const double sigma2 = second - first * first;
      density[i] = float(first);
      density[n + i] = sigma2 < double(sigma2_min) ? sigma2_min : float(sigma2);
    }
  }
}

/// ∂μ/∂p_j = m_j, ∂σ²/∂p_j = m_j² + s_j² − 2 μ m_j, and 0 where σ² sits on its floor. A thread has one element: 4
/// bytes.
__global__ void __launch_bounds__(kThreads)
    moments_backward_kernel(float* dp, const float* ddensity, const float* density, BasisView basis, float sigma2_min,
                            int64_t n) {
  for (int64_t e = thread_in_grid(); e < n * basis.N; e += threads_in_grid()) {
    const int64_t i = e / basis.N, j = e % basis.N;
    const float m = basis.a[j], width = basis.b[j], mu = density[i];
    const float dsigma2 = density[n + i] > sigma2_min ? ddensity[n + i] : 0.0f;
    dp[e] = ddensity[i] * m + dsigma2 * (m * (m - 2 * mu) + width * width);
  }
}

// ---- KL(N(μ, σ²) ‖ N(μ₀, σ₀²)) = ½ (σ²/σ₀² − ln(σ²/σ₀²) − 1 [+ (μ − μ₀)²/σ₀²]) ----

/// A block has one batch row; thread t adds up densities t, t + 256, … of those that count: 8 bytes each. The first
/// steps[b] of each head's T count; all where steps is null.
__global__ void __launch_bounds__(kThreads)
    kl_forward_kernel(float* kl, const float* density, const int32_t* steps, float inverse, float mu0, bool has_mu0,
                      int64_t B, int H, int T) {
  SHARED(float, partial, [kWarps]);
  const int64_t b = blockIdx.x, n = int64_t(H) * T;
  const float *mu = density + b * n, *sigma2 = density + (B + b) * n;  // (H, T) each
  const int counted = steps ? steps[b] : T;
  float sum = 0;
  for (int e = int(threadIdx.x); e < H * counted; e += kThreads) {
    const int64_t i = int64_t(e / counted) * T + e % counted;
    const float ratio = sigma2[i] * inverse, d = mu[i] - mu0;
    sum += ratio - logf(ratio) - 1;
    if (has_mu0) sum += d * d * inverse;
  }
  sum = block_sum<kThreads>(sum, partial);
  if (threadIdx.x == 0) kl[b] = sum / 2;
}

/// ∂/∂μ = (μ − μ₀)/σ₀² (0 without μ₀), ∂/∂σ² = ½ (1/σ₀² − 1/σ²). A thread has one density: 16 bytes, 12 without μ₀.
__global__ void __launch_bounds__(kThreads)
    kl_backward_kernel(float* ddensity, const float* dkl, const float* density, const int32_t* steps, float inverse,
                       float mu0, bool has_mu0, int64_t B, int64_t n, int T) {
  for (int64_t i = thread_in_grid(); i < B * n; i += threads_in_grid()) {
    const bool counts = steps == nullptr || i % T < steps[i / n];
    const float g = dkl[i / n];
    ddensity[i] = counts && has_mu0 ? g * (density[i] - mu0) * inverse : 0.0f;
    ddensity[B * n + i] = counts ? g * (inverse - 1 / density[B * n + i]) / 2 : 0.0f;
  }
}

}  // namespace

void head_scores_forward(real* s, const real* q, const real* k, real scale, int64_t P, int64_t B, int64_t T, int64_t H,
                         int64_t D) {
  if (P * B * T * H == 0) return;
  LAUNCH(scores_forward_kernel, blocks_for(B * H * ceil_div(T, kWarp), kWarps), kThreads, 0, stream())
  (s, q, k, scale, P, B, T, H, D);
  CUDA_LAUNCHED();
}
void head_scores_backward(real* dq, real* dk, const real* ds, const real* q, const real* k, real scale, int64_t P,
                          int64_t B, int64_t T, int64_t H, int64_t D) {
  if (B * T * H * D > 0) {
    LAUNCH(scores_dq_kernel, blocks_for(B * T * H * D, kThreads), kThreads, 0, stream())
    (dq, ds, k, scale, P, B, T, H, D);
    CUDA_LAUNCHED();
  }
  if (P * B * H * D > 0) {
    LAUNCH(scores_dk_kernel, unsigned(B * H * ceil_div(D, kWarp)), kThreads, 0, stream())
    (dk, ds, q, scale, P, B, T, H, D);
    CUDA_LAUNCHED();
  }
}

void density_forward(real* density, const real* s, real sigma2_min, int64_t n) {
  if (n == 0) return;
  LAUNCH(density_forward_kernel, blocks_for(n, kThreads), kThreads, 0, stream())(density, s, sigma2_min, n);
  CUDA_LAUNCHED();
}
void density_backward(real* ds, const real* ddensity, const real* s, real sigma2_min, int64_t n) {
  if (n == 0) return;
  LAUNCH(density_backward_kernel, blocks_for(n, kThreads), kThreads, 0, stream())(ds, ddensity, s, sigma2_min, n);
  CUDA_LAUNCHED();
}

void moments_forward(real* density, const real* p, BasisView basis, real sigma2_min, int64_t n) {
  if (n == 0) return;
  LAUNCH(moments_forward_kernel, blocks_for(n, kWarps), kThreads, 0, stream())(density, p, basis, sigma2_min, n);
  CUDA_LAUNCHED();
}
void moments_backward(real* dp, const real* ddensity, const real* density, const real*, BasisView basis,
                      real sigma2_min, int64_t n) {  // p is not needed: both moments are linear in it but for μ²
  if (n * basis.N == 0) return;
  LAUNCH(moments_backward_kernel, blocks_for(n * basis.N, kThreads), kThreads, 0, stream())
  (dp, ddensity, density, basis, sigma2_min, n);
  CUDA_LAUNCHED();
}

void kl_forward(real* kl, const real* density, const int32_t* steps, real sigma0, real mu0, bool has_mu0, int64_t B,
                int64_t H, int64_t T) {
  if (B == 0) return;
  LAUNCH(kl_forward_kernel, unsigned(B), kThreads, 0, stream())
  (kl, density, steps, 1 / (sigma0 * sigma0), mu0, has_mu0, B, int(H), int(T));
  CUDA_LAUNCHED();
}
void kl_backward(real* ddensity, const real* dkl, const real* density, const int32_t* steps, real sigma0, real mu0,
                 bool has_mu0, int64_t B, int64_t H, int64_t T) {
  if (B * H * T == 0) return;
  LAUNCH(kl_backward_kernel, blocks_for(B * H * T, kThreads), kThreads, 0, stream())
  (ddensity, dkl, density, steps, 1 / (sigma0 * sigma0), mu0, has_mu0, B, H * T, int(T));
  CUDA_LAUNCHED();
}

}  // namespace lem::LEM_DEVICE
