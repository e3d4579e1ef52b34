// Attention to the continuous memory (Martins et al., arXiv 2109.00301, section 3.1). The kernels hold the closed forms
// and their derivatives; here stands what flows where.
#include <cmath>

#include "autograd/matrix.h"
#include "autograd/ops.h"

namespace lem {

// ---- scores against a few directions: s[p,b,h,t] = q_{b,t,h}·k_{b,p,h} / √D -----------------------------------------

Variable head_scores(const Variable& q, const Variable& k, int64_t heads) {
  check(q.shape().rank() == 3 && k.shape().rank() == 3 && q.dim(0) == k.dim(0) && q.dim(2) == k.dim(2) &&
            q.dim(2) % heads == 0,
        "[head_scores] q (B, T, H·D) and k (B, P, H·D) do not fit, H = {}: got {} and {}", heads, q.shape(), k.shape());
  const int64_t B = q.dim(0), T = q.dim(1), P = k.dim(1), D = q.dim(2) / heads;
  const real scale = real(1 / std::sqrt(double(D)));
  Variable s = result("head_scores", {P, B, heads, T}, {&q, &k});
  on(s.device()).head_scores_forward(s.data(), q.data(), k.data(), scale, P, B, T, heads, D);
  return tape().record(
      "head_scores", s, [=, q = q.value(), gq = q.slot(), k = k.value(), gk = k.slot()](const Tensor& ds) {
        Tensor dq(q.shape(), q.device()), dk(k.shape(), k.device());
        on(q.device())
            .head_scores_backward(dq.data(), dk.data(), ds.data(), q.data(), k.data(), scale, P, B, T, heads, D);
        if (gq) gq->add(dq);
        if (gk) gk->add(dk);
      });
}

// ---- (μ, σ²) --------------------------------------------------------------------------------------------------------

Variable density(const Variable& s, real sigma2_min) {
  check(s.dim(0) == 2, "[density] scores must be (2, …), of μ and of σ²: got {}", s.shape());
  const int64_t n = s.numel() / 2;
  Variable y = result("density", s.shape(), {&s});
  on(y.device()).density_forward(y.data(), s.data(), sigma2_min, n);
  return tape().record("density", y, [=, s = s.value(), gs = s.slot()](const Tensor& dy) {
    Tensor ds(s.shape(), s.device());
    on(s.device()).density_backward(ds.data(), dy.data(), s.data(), sigma2_min, n);
    gs->add(ds);
  });
}

namespace {

/// Batch row b of x (B, T, H·D), head by head: H matrices (T, D).
MatrixView heads_of(const Tensor& x, int64_t b, int64_t H) { return as_matrices(x)[b].split(H); }

Scales by_root_of_width(const MatrixView& q) { return {.alpha = real(1 / std::sqrt(double(q.cols)))}; }

/// Attention of H heads to G keys, the plain way: p_h = softmax(q_h k_hᵀ / √D + bias). p: (H, T, G); q_h: (T, D), k_h:
/// (G, D), bias: (G) or null.
void head_softmax_forward(const Tensor& p, const MatrixView& q, const MatrixView& k, const real* bias) {
  multiply(as_matrices(p), q, k.T(), by_root_of_width(q));
  on(p.device()).softmax_forward(p.data(), p.data(), bias, p.dim(0) * p.dim(1), p.dim(2));
}
/// ds, the gradient of the scores, takes the place of dp.
void head_softmax_backward(const MatrixView& dq, const MatrixView& dk, const Tensor& dp, const Tensor& p,
                           const MatrixView& q, const MatrixView& k) {
  on(p.device()).softmax_backward(dp.data(), dp.data(), p.data(), p.dim(0) * p.dim(1), p.dim(2));
  const MatrixView ds = as_matrices(dp);
  multiply(dq, ds, k, by_root_of_width(q));      // dq_h = ds_h k_h / √D
  multiply(dk, ds.T(), q, by_root_of_width(q));  // dk_h = ds_hᵀ q_h / √D
}

}  // namespace

// p = softmax(keys q / √D), μ = Σ p_j m_j, σ² = Σ p_j (m_j² + s_j²) − μ². One batch row at a time; p is computed again
// for the backward.
Variable moment_density(const Variable& q, const Variable& keys, int64_t heads, const DeviceBasis& basis,
                        real sigma2_min) {
  check(q.shape().rank() == 3 && keys.shape().rank() == 3 && q.dim(0) == keys.dim(0) && q.dim(2) == keys.dim(2) &&
            keys.dim(1) == basis.N(),
        "[moment_density] q (B, T, C) and keys (B, N, C) do not fit, N = {}: got {} and {}", basis.N(), q.shape(),
        keys.shape());
  check(basis.kind == BasisKind::gaussian,
        "[moment_density] moments are those of Gaussians: use the gaussian basis or affine parameters");
  const int64_t B = q.dim(0), T = q.dim(1), N = keys.dim(1);
  const int64_t n = heads * T;
  const Variable centres(basis.a);
  Variable y = result("moment_density", {2, B, heads, T}, {&q, &keys, &centres});
  const Tensor p({heads, T, N}, y.device()), row({2, n}, y.device());
  const Backend& device = backend(y.device());
  const size_t half = size_t(n) * sizeof(real);  // of a row: all μ, or all σ²
  for (int64_t b = 0; b < B; ++b) {
    head_softmax_forward(p, heads_of(q.value(), b, heads), heads_of(keys.value(), b, heads), nullptr);
    device.kernels.moments_forward(row.data(), p.data(), basis.view(), sigma2_min, n);
    device.copy(y.data() + b * n, size_t(B) * half, row.data(), half, half, 2);
  }
  return tape().record("moment_density", y, [=, y = y.value()](const Tensor& dy) {
    const Backend& device = backend(dy.device());
    Tensor dq(q.shape(), dy.device()), dk(keys.shape(), dy.device());
    const Tensor p({heads, T, N}, dy.device()), dp({heads, T, N}, dy.device());
    const Tensor row({2, n}, dy.device()), drow({2, n}, dy.device());
    for (int64_t b = 0; b < B; ++b) {
      const MatrixView q_b = heads_of(q.value(), b, heads), k_b = heads_of(keys.value(), b, heads);
      head_softmax_forward(p, q_b, k_b, nullptr);
      device.copy(row.data(), half, y.data() + b * n, size_t(B) * half, half, 2);
      device.copy(drow.data(), half, dy.data() + b * n, size_t(B) * half, half, 2);
      device.kernels.moments_backward(dp.data(), drow.data(), row.data(), p.data(), basis.view(), sigma2_min, n);
      head_softmax_backward(heads_of(dq, b, heads), heads_of(dk, b, heads), dp, p, q_b, k_b);
    }
    if (q.slot()) q.slot()->add(dq);
    if (keys.slot()) keys.slot()->add(dk);
  });
}

// ---- z = E_p[valuesᵀ ψ(t)] ------------------------------------------------------------------------------------------

Variable continuous_attention(const Variable& density, const Variable& values, const DeviceBasis& basis,
                              DensityKind kind) {
  check(density.shape().rank() == 4 && density.dim(0) == 2 && values.shape().rank() == 3 &&
            values.dim(0) == density.dim(1) && values.dim(1) == basis.N() && values.dim(2) % density.dim(2) == 0,
        "[continuous_attention] density (2, B, H, T) and values (B, N, H·D) do not fit, N = {}: got {} and {}",
        basis.N(), density.shape(), values.shape());
  const int64_t B = density.dim(1), H = density.dim(2), T = density.dim(3), C = values.dim(2);
  const ContinuousAttention s{.B = B, .T = T, .H = H, .D = C / H, .density = kind};
  const Variable centres(basis.a);
  Variable z = result("continuous_attention", {B, T, C}, {&density, &values, &centres});
  on(z.device()).continuous_attention_forward(z.data(), density.data(), values.data(), basis.view(), s);
  return tape().record("continuous_attention", z, [=](const Tensor& dz) {
    Tensor dd(density.shape(), dz.device()), dv(values.shape(), dz.device());
    on(dz.device())
        .continuous_attention_backward(dd.data(), dv.data(), dz.data(), density.data(), values.data(), basis.view(), s);
    if (density.slot()) density.slot()->add(dd);
    if (values.slot()) values.slot()->add(dv);
  });
}

// ---- Gibbs: p(t) ∝ exp(q·K̄(t)/√D) on a grid t_g with trapezoid weights c_g -----------------------------------------
//
//   z = Σ_g c_g exp(s_g) V̄(t_g) / Σ_g c_g exp(s_g) = softmax(s + log c) V̄

Variable gibbs_attention(const Variable& q, const Variable& keys, const Variable& values, const Tensor& log_weights,
                         int64_t heads) {
  check(q.shape().rank() == 3 && keys.shape() == values.shape() && keys.dim(0) == q.dim(0) && keys.dim(2) == q.dim(2) &&
            keys.dim(1) == log_weights.numel(),
        "[gibbs_attention] q (B, T, C), keys and values (B, G, C) do not fit, G = {}: got {}, {}, {}",
        log_weights.numel(), q.shape(), keys.shape(), values.shape());
  const int64_t B = q.dim(0), T = q.dim(1), G = keys.dim(1);
  const Variable constant(log_weights);
  Variable z = result("gibbs_attention", q.shape(), {&q, &keys, &values, &constant});
  const Tensor p({heads, T, G}, z.device());
  for (int64_t b = 0; b < B; ++b) {
    head_softmax_forward(p, heads_of(q.value(), b, heads), heads_of(keys.value(), b, heads), log_weights.data());
    multiply(heads_of(z.value(), b, heads), as_matrices(p), heads_of(values.value(), b, heads));  // z_h = p_h V̄_h
  }
  return tape().record("gibbs_attention", z, [=](const Tensor& dz) {
    Tensor dq(q.shape(), dz.device()), dk(keys.shape(), dz.device()), dv(values.shape(), dz.device());
    const Tensor p({heads, T, G}, dz.device()), dp({heads, T, G}, dz.device());
    for (int64_t b = 0; b < B; ++b) {
      const MatrixView q_b = heads_of(q.value(), b, heads), k_b = heads_of(keys.value(), b, heads),
                       dz_b = heads_of(dz, b, heads);
      head_softmax_forward(p, q_b, k_b, log_weights.data());
      multiply(heads_of(dv, b, heads), as_matrices(p).T(), dz_b);               // dV̄_h = p_hᵀ dz_h
      multiply(as_matrices(dp), dz_b, heads_of(values.value(), b, heads).T());  // dp_h = dz_h V̄_hᵀ
      head_softmax_backward(heads_of(dq, b, heads), heads_of(dk, b, heads), dp, p, q_b, k_b);
    }
    if (q.slot()) q.slot()->add(dq);
    if (keys.slot()) keys.slot()->add(dk);
    if (values.slot()) values.slot()->add(dv);
  });
}

// ---- KL(N(μ,σ²) ‖ N(μ₀,σ₀²)) = ½ ( σ²/σ₀² − ln(σ²/σ₀²) − 1 [+ (μ−μ₀)²/σ₀²] ) ----------------------------------------

Variable kl_to_prior(const Variable& density, real sigma0, real mu0, const Tokens& steps) {
  check(density.shape().rank() == 4 && density.dim(0) == 2, "[kl] density must be (2, B, H, T): got {}",
        density.shape());
  const int64_t B = density.dim(1), H = density.dim(2), T = density.dim(3);
  check(!steps.defined() || (steps.shape() == Shape({B}) && steps.device() == density.device()),
        "[kl] steps must be ({}) on {}: got {}", B, name(density.device()), steps.shape());
  if (steps.defined()) check_tokens("kl", "count of steps", steps, T + 1, true);
  const bool has_mu0 = !std::isnan(mu0);
  Variable kl = result("kl", {B}, {&density});
  on(kl.device()).kl_forward(kl.data(), density.data(), steps.data(), sigma0, mu0, has_mu0, B, H, T);
  return tape().record("kl", kl, [=, density = density.value(), gd = density.slot()](const Tensor& dkl) {
    Tensor dd(density.shape(), density.device());
    on(density.device())
        .kl_backward(dd.data(), dkl.data(), density.data(), steps.data(), sigma0, mu0, has_mu0, B, H, T);
    gd->add(dd);
  });
}

}  // namespace lem
