// Every kernel of the library, declared once. tensor/backend.h includes this file several times with KERNEL defined
// differently: as declarations in the namespaces of the backends, and as the table of pointers that picks one.
//
// Grammar: outputs first, then inputs, then sizes. Each pointer's shape stands in the comment; all arrays are row-major
// and contiguous. `dx` is the gradient of x. Gradients of activations are written (=): the tape adds them up where a
// value is used twice. Gradients of parameters are added (+=) to the arena. A null output pointer is skipped, where the
// comment allows it. Every kernel gives the same bits for the same inputs on the same device and number of threads.

// clang-format off

// ---- elementwise (tensor/cpu/elementwise.cpp) --------------------------------------------------------------------------
KERNEL(fill, real* y, real value, int64_t n)                                       // y = value
KERNEL(scale, real* y, real a, const real* x, int64_t n)                           // y = a x
KERNEL(axpy, real* y, real a, const real* x, int64_t n)                            // y += a x
KERNEL(add, real* y, const real* a, const real* b, int64_t n)                      // y = a + b
// y = x ⊙ sigmoid(g): the smoothing gate. dx may be null.
KERNEL(sigmoid_gate_forward, real* y, const real* x, const real* g, int64_t n)
KERNEL(sigmoid_gate_backward, real* dx, real* dg, const real* dy, const real* x, const real* g, int64_t n)
// y = dropout(act(x + bias)). y, x: (rows, cols), bias: (cols) or null. dx =, dbias += (null allowed).
KERNEL(bias_act_forward, real* y, const real* x, const real* bias, Activation act, Dropout dropout, int64_t rows, int64_t cols)
KERNEL(bias_act_backward, real* dx, real* dbias, const real* dy, const real* x, const real* bias, Activation act, Dropout dropout, int64_t rows, int64_t cols)

// ---- reductions (tensor/cpu/reduce.cpp) --------------------------------------------------------------------------------
KERNEL(sum, real* y, const real* x, int64_t n)                                     // y[0] = Σ x
KERNEL(sum_squares, real* y, const real* x, int64_t n)                             // y[0] = Σ x²
KERNEL(count_nonfinite, int32_t* y, const real* x, int64_t n)                      // y[0] = how many of x are NaN or infinite
KERNEL(column_sums, real* y, const real* x, int64_t rows, int64_t cols)            // y (cols) += Σ over rows of x (rows, cols)
KERNEL(argmax, int32_t* y, const real* x, int64_t rows, int64_t cols)              // y (rows): first largest column of x (rows, cols)

// ---- matrix products (tensor/cpu/gemm.cpp) -----------------------------------------------------------------------------
KERNEL(gemm, real* c, const real* a, const real* b, const Gemm& g)

// ---- softmax (tensor/cpu/softmax.cpp) ----------------------------------------------------------------------------------
// y, x: (rows, cols); y = softmax(x + bias) along the row, bias (cols) or null (Gibbs densities: logarithms of the trapezoid weights).
KERNEL(softmax_forward, real* y, const real* x, const real* bias, int64_t rows, int64_t cols)
KERNEL(softmax_backward, real* dx, const real* dy, const real* y, int64_t rows, int64_t cols)
// loss (rows) = −log softmax(logits)[target], 0 where target < 0; lse (rows): the logarithm of Σ exp.
KERNEL(cross_entropy_forward, real* loss, real* lse, const real* logits, const int32_t* targets, int64_t rows, int64_t cols)
// dlogits = dloss[0] · scale · (softmax(logits) − onehot(target)), 0 in rows where target < 0. dloss: (1)
KERNEL(cross_entropy_backward, real* dlogits, const real* dloss, real scale, const real* logits, const real* lse, const int32_t* targets, int64_t rows, int64_t cols)

// ---- layer normalisation (tensor/cpu/layer_norm.cpp) -------------------------------------------------------------------
// s = x + dropout(z + z_bias), y = (s − mean) · rstd · gamma + beta over the last axis. z null: s = x; z_bias (cols) may be null.
// y, s, x, z: (rows, cols); mean, rstd: (rows); gamma, beta: (cols). s may be the same memory as x where z is null. Where cols is a multiple of
// 4, dropout.first must be one, too.
KERNEL(layer_norm_forward, real* y, real* s, real* mean, real* rstd, const real* x, const real* z, const real* z_bias, const real* gamma, const real* beta, real eps, Dropout dropout, int64_t rows, int64_t cols)
// dx =, dz = (null where z was), dz_bias +=, dgamma +=, dbeta += (null allowed).
KERNEL(layer_norm_backward, real* dx, real* dz, real* dz_bias, real* dgamma, real* dbeta, const real* dy, const real* s, const real* mean, const real* rstd, const real* gamma, Dropout dropout, int64_t rows, int64_t cols)

// ---- embedding (tensor/cpu/embedding.cpp) ------------------------------------------------------------------------------
// y (n, C) = scale · table[token]; tokens (n) in [0, V), table (V, C).
KERNEL(embedding_forward, real* y, const int32_t* tokens, const real* table, real scale, int64_t n, int64_t C)
KERNEL(embedding_backward, real* dtable, const real* dy, const int32_t* tokens, real scale, int64_t n, int64_t V, int64_t C)   // dtable +=

// ---- relative attention (tensor/cpu/relative_attention.cpp), Dai et al., section 3.3 --------------------------------------
// out, q: (B, T, H·D); k, v: (B, K, H·D); r: (K, H·D); u, w: (H, D); lse: (B, H, T).
// first_key (B) or null: keys before it are not seen by that batch row (its document begins there).
KERNEL(relative_attention_forward, real* out, real* lse, const real* q, const real* k, const real* v, const real* r, const real* u, const real* w, const int32_t* first_key, const RelativeAttention& s)
// dq, dk, dv, dr =; du, dw +=.
KERNEL(relative_attention_backward, real* dq, real* dk, real* dv, real* dr, real* du, real* dw, const real* dout, const real* out, const real* lse, const real* q, const real* k, const real* v, const real* r, const real* u, const real* w, const int32_t* first_key, const RelativeAttention& s)

// ---- continuous memory (tensor/cpu/continuous_*.cpp), Martins et al., sections 3.1 to 3.3 ------------------------------
// psi (n, N) = ψ_j(t_i); t (n)
KERNEL(basis_evaluate, real* psi, const real* t, BasisView basis, int64_t n)
// Scores against P directions per head: s[p,b,h,t] = scale · q[b,t,h,:]·k[b,p,h,:]. s: (P, B, H, T), q: (B, T, H·D), k: (B, P, H·D).
KERNEL(head_scores_forward, real* s, const real* q, const real* k, real scale, int64_t P, int64_t B, int64_t T, int64_t H, int64_t D)
KERNEL(head_scores_backward, real* dq, real* dk, const real* ds, const real* q, const real* k, real scale, int64_t P, int64_t B, int64_t T, int64_t H, int64_t D)
// density, s: (2, n): μ = sigmoid(s₀), σ² = max(softplus(s₁), sigma2_min).
KERNEL(density_forward, real* density, const real* s, real sigma2_min, int64_t n)
KERNEL(density_backward, real* ds, const real* ddensity, const real* s, real sigma2_min, int64_t n)
// Moments of p (n, N) over the Gaussian basis: μ = Σ p_j m_j, σ² = max(Σ p_j (m_j² + s_j²) − μ², sigma2_min). density: (2, n)
KERNEL(moments_forward, real* density, const real* p, BasisView basis, real sigma2_min, int64_t n)
KERNEL(moments_backward, real* dp, const real* ddensity, const real* density, const real* p, BasisView basis, real sigma2_min, int64_t n)
// r (n, N) = E_p[ψ_j] for density (2, n): the expectation alone, for figures and tests.
KERNEL(basis_expectation, real* r, const real* density, BasisView basis, DensityKind kind, int64_t n)
// z[b,t,h,:] = Σ_j E_p[ψ_j] values[b,j,h,:], p by density[:,b,h,t]. z: (B, T, H·D), density: (2, B, H, T), values: (B, N, H·D).
KERNEL(continuous_attention_forward, real* z, const real* density, const real* values, BasisView basis, const ContinuousAttention& s)
KERNEL(continuous_attention_backward, real* ddensity, real* dvalues, const real* dz, const real* density, const real* values, BasisView basis, const ContinuousAttention& s)
// kl (B): Σ over a batch row's densities of KL(N(μ,σ²) ‖ N(μ₀,σ₀²)), the term of μ₀ only where has_mu0: over the first steps[b] of T, or
// all where steps (B) is null. density: (2, B, H, T).
KERNEL(kl_forward, real* kl, const real* density, const int32_t* steps, real sigma0, real mu0, bool has_mu0, int64_t B, int64_t H, int64_t T)
// ddensity = dkl[b] · …, 0 behind a row's steps; dkl: (B)
KERNEL(kl_backward, real* ddensity, const real* dkl, const real* density, const int32_t* steps, real sigma0, real mu0, bool has_mu0, int64_t B, int64_t H, int64_t T)
// mass (B, bins) = Σ over the n densities of a row of the mass that N(μ,σ²) puts in each of `bins` equal bins of [0, 1]. density: (2, B, n).
KERNEL(sticky_histogram, real* mass, const real* density, int64_t B, int64_t n, int64_t bins)
// points (B, R), ascending, in [0, 1], drawn from mass (B, bins), each row by its own stream (B); fallbacks (B) = 1 where mass was unusable and
// the points are i/R.
KERNEL(sticky_points, real* points, int32_t* fallbacks, const real* mass, StickyDraw draw, StickyPlace place, const Stream* streams, int64_t B, int64_t bins, int64_t R)

// ---- optimiser (tensor/cpu/adam.cpp) -----------------------------------------------------------------------------------
// p, m, v updated in place; g the gradient; all (n). grad_squares (1) = Σ g² over all gradients, for clipping; if it is not finite,
// nothing is changed.
KERNEL(adam, real* p, real* m, real* v, const real* g, const real* grad_squares, const AdamStep& s, int64_t n)

// clang-format on
