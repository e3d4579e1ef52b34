// Every differentiable operation, one declaration each. Shapes are checked; an Error names the operation, what it got
// and what it expected. The definitions stand in the file named in each heading: derivation, forward, backward.
#pragma once

#include <vector>

#include "autograd/variable.h"

namespace lem {

// ---- linear.cpp -----------------------------------------------------------------------------------------------------

/// y = x W. x: (…, in), W: (in, out). With `transposed`, y = x Wᵀ and W: (out, in) (tied embeddings).
Variable linear(const Variable& x, const Variable& W, bool transposed = false);
/// y = Σ_i x_i W_i, summed inside the matrix products: all x_i (…, in_i) share their leading sizes, W_i: (in_i, out).
struct LinearTerm {
  const Variable &x, &W;
};
Variable linear_sum(const std::vector<LinearTerm>& terms);
/// y = concat(past, x) W along time, without the copy. past: (B, S, in) or undefined, x: (B, T, in), y: (B, S + T,
/// out). known, if defined: (B, n ≥ S, out), whose last S steps are past W already; only the gradient of that part is
/// then computed.
Variable concat_linear(const Variable& past, const Variable& x, const Variable& W, const Tensor& known = {});
/// y_b = M x_b, or Mᵀ x_b, for every batch row. M: (n, m), shared, or (B, n, m); x: (B, m, C), y: (B, n, C)
/// (transposed: x (B, n, C), y (B, m, C)).
Variable mix(const Variable& M, const Variable& x, bool transposed = false);
/// Head by head: y[b,p,h·D…] = x[b,p·H+h,:] W[:, h·D…]. x: (B, P·H, C), W: (C, H·D), y: (B, P, H·D).
Variable head_linear(const Variable& x, const Variable& W, int64_t heads);
/// Convolution over time, 3 taps, zero padding: y_t = bias + Σ_k x_{t+k−1} W_k. x: (B, T, C), W: (3, C, C), bias: (C).
Variable time_conv(const Variable& x, const Variable& W, const Variable& bias);

// ---- elementwise.cpp ------------------------------------------------------------------------------------------------

Variable add(const Variable& a, const Variable& b);
Variable scale(const Variable& x, real a);
/// x ⊙ sigmoid(g), equal shapes.
Variable sigmoid_gate(const Variable& x, const Variable& g);
/// dropout(act(x + bias)); bias (cols) may be undefined.
Variable bias_act(const Variable& x, const Variable& bias, Activation act, Dropout dropout = {});
inline Variable dropout(const Variable& x, Dropout d) { return d.p > 0 ? bias_act(x, {}, Activation::identity, d) : x; }
/// Σ_i weights_i x_i, of one element. weights: a constant as large as x.
Variable weighted_sum(const Variable& x, const Tensor& weights);
/// The same numbers under another shape.
Variable reshape(const Variable& x, const Shape& shape);
/// The last n steps of axis 1: (B, T, C) → (B, n, C).
Variable last_steps(const Variable& x, int64_t n);

// ---- softmax.cpp ----------------------------------------------------------------------------------------------------

/// Along the last axis.
Variable softmax(const Variable& x);
/// scale · Σ over rows with target ≥ 0 of −log softmax(logits)[target]. logits: (…, V), targets: as many as rows.
/// `losses` (rows), if given, receives each row's loss.
Variable cross_entropy(const Variable& logits, const Tokens& targets, real scale, Tensor* losses = nullptr);

// ---- layer_norm.cpp -------------------------------------------------------------------------------------------------

/// LayerNorm(x + dropout(z + z_bias)) over the last axis; z and z_bias may be undefined. gamma, beta: (cols).
Variable layer_norm(const Variable& x, const Variable& z, const Variable& z_bias, const Variable& gamma,
                    const Variable& beta, Dropout dropout = {});

// ---- embedding.cpp --------------------------------------------------------------------------------------------------

/// y = scale · table[tokens]. tokens: (B, T) in [0, V), table: (V, C), y: (B, T, C).
Variable embedding(const Tokens& tokens, const Variable& table, real scale);

// ---- relative_attention.cpp -----------------------------------------------------------------------------------------

struct RelativeAttentionOptions {
  int64_t window = 0;  // same_length: how many keys a query sees; 0: all
  Tokens first_key;    // (B) or undefined: keys before it belong to another document
  Dropout dropout{};   // of the probabilities
};
/// docs/relative-attention.md. q: (B, T, C), k, v: (B, K, C), r: (K, C), u, w: (H, D), C = H·D → (B, T, C)
Variable relative_attention(const Variable& q, const Variable& k, const Variable& v, const Variable& r,
                            const Variable& u, const Variable& w, const RelativeAttentionOptions& options = {});

// ---- continuous.cpp -------------------------------------------------------------------------------------------------

/// A basis with its parameters on a device.
struct DeviceBasis {
  BasisKind kind = BasisKind::gaussian;
  Tensor a, b;  // (N), see BasisView
  BasisView view() const { return {kind, a.numel(), a.data(), b.data()}; }
  int64_t N() const { return a.numel(); }
};

/// s[p,b,h,t] = q_{b,t,h}·k_{b,p,h} / √D. q: (B, T, H·D), k: (B, P, H·D) → (P, B, H, T)
Variable head_scores(const Variable& q, const Variable& k, int64_t heads);
/// (μ, σ²) from their scores: μ = sigmoid(s₀), σ² = max(softplus(s₁), sigma2_min). s: (2, B, H, T) → the same.
Variable density(const Variable& s, real sigma2_min);
/// (μ, σ²) as the moments of softmax(keys q / √D) over a Gaussian basis. q: (B, T, H·D), keys: (B, N, H·D) → (2, B, H,
/// T)
Variable moment_density(const Variable& q, const Variable& keys, int64_t heads, const DeviceBasis& basis,
                        real sigma2_min);
/// z = E_p[valuesᵀ ψ(t)] per query and head. density: (2, B, H, T), values: (B, N, H·D) → (B, T, H·D)
Variable continuous_attention(const Variable& density, const Variable& values, const DeviceBasis& basis,
                              DensityKind kind);
/// Attention with a Gibbs density p(t) ∝ exp(q·K̄(t)/√D) by the trapezoid rule: a softmax over G grid points. q: (B, T,
/// H·D); keys, values: the signals at the grid, (B, G, H·D); log_weights (G) of the rule. → (B, T, H·D)
Variable gibbs_attention(const Variable& q, const Variable& keys, const Variable& values, const Tensor& log_weights,
                         int64_t heads);
/// KL(N(μ,σ²) ‖ N(μ₀,σ₀²)) summed over heads and queries, of row b the first steps[b] (B), or all T: density (2, B, H,
/// T) → (B). μ₀ NaN: its term is left out.
Variable kl_to_prior(const Variable& density, real sigma0, real mu0, const Tokens& steps = {});

}  // namespace lem
