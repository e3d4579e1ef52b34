// Transformer-XL's attention (Dai et al., arXiv 1901.02860, section 3.3): content and relative position in one softmax.
//
//   score[i,j] = ( (q_i + u)·k_j + (q_i + w)·r_{i−j} ) / √D      a = softmax(score) v
//
// The kernel works in tiles of queries and keeps one number per query (lse) for the backward, which computes the
// probabilities again.
#include <cmath>

#include "autograd/ops.h"

namespace lem {

Variable relative_attention(const Variable& q, const Variable& k, const Variable& v, const Variable& r,
                            const Variable& u, const Variable& w, const RelativeAttentionOptions& options) {
  check(q.shape().rank() == 3 && k.shape().rank() == 3 && k.shape() == v.shape() && k.dim(0) == q.dim(0) &&
            k.dim(2) == q.dim(2),
        "[relative_attention] q (B, T, C), k and v (B, K, C) do not fit: got {}, {}, {}", q.shape(), k.shape(),
        v.shape());
  const int64_t B = q.dim(0), T = q.dim(1), K = k.dim(1), C = q.dim(2), H = u.dim(0), D = u.dim(1);
  check(H * D == C && w.shape() == u.shape(),
        "[relative_attention] u and w must be (H, D) with H·D = {}: got {} and {}", C, u.shape(), w.shape());
  check(r.shape() == Shape({K, C}), "[relative_attention] r must be ({}, {}), one row per distance: got {}", K, C,
        r.shape());
  check(T * K == 0 || options.dropout.first % uint64_t(T * K) == 0,
        "[relative_attention] dropout's first draw must begin a head, a multiple of {} × {}: got {}", T, K,
        options.dropout.first);
  check(T <= K, "[relative_attention] {} queries need at least as many keys: got {}", T, K);

  const RelativeAttention s{.B = B,
                            .T = T,
                            .K = K,
                            .H = H,
                            .D = D,
                            .window = options.window,
                            .scale = real(1 / std::sqrt(double(D))),
                            .dropout = options.dropout};
  Variable y = result("relative_attention", q.shape(), {&q, &k, &v, &r, &u, &w});
  const Tensor lse({B, H, T}, y.device());
  const Tokens first_key = options.first_key;
  check(!first_key.defined() || (first_key.shape() == Shape({B}) && first_key.device() == y.device()),
        "[relative_attention] first_key must be ({}) on {}: got {} on {}", B, name(y.device()), first_key.shape(),
        first_key.defined() ? name(first_key.device()) : "");
  on(y.device())
      .relative_attention_forward(y.data(), lse.data(), q.data(), k.data(), v.data(), r.data(), u.data(), w.data(),
                                  first_key.data(), s);

  return tape().record("relative_attention", y, [=, y = y.value()](const Tensor& dy) {
    const auto like = [&](const Variable& x) { return Tensor(x.shape(), dy.device()); };
    Tensor dq = like(q), dk = like(k), dv = like(v), dr = like(r);
    Tensor du = zeros(u.shape(), dy.device()), dw = zeros(w.shape(), dy.device());
    on(dy.device())
        .relative_attention_backward(dq.data(), dk.data(), dv.data(), dr.data(), du.data(), dw.data(), dy.data(),
                                     y.data(), lse.data(), q.data(), k.data(), v.data(), r.data(), u.data(), w.data(),
                                     first_key.data(), s);
    const auto give = [](const Variable& x, const Tensor& dx) {
      if (x.slot()) x.slot()->add(dx);
    };
    give(q, dq), give(k, dk), give(v, dv), give(r, dr), give(u, du), give(w, dw);
  });
}

}  // namespace lem
