#include "tests/naive_relative_attention.h"

#include <cmath>
#include <limits>

namespace lem::naive {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// One head of one batch row: the arrays read by (row, d).
struct Head {
  const RelativeAttentionInputs& x;
  int64_t b, h;

  int64_t query(int64_t i, int64_t d) const { return ((b * x.s.T + i) * x.s.H + h) * x.s.D + d; }
  int64_t key(int64_t j, int64_t d) const { return ((b * x.s.K + j) * x.s.H + h) * x.s.D + d; }
  int64_t distance(int64_t n, int64_t d) const { return (n * x.s.H + h) * x.s.D + d; }
  int64_t bias(int64_t d) const { return h * x.s.D + d; }
  /// r's row for query i and key j
  int64_t row(int64_t i, int64_t j) const { return x.s.T - 1 - i + j; }

  /// Whether query i sees key j: not later than itself, nor `window` or more before it, nor before the document's
  /// start.
  bool sees(int64_t i, int64_t j) const {
    const int64_t position = i + x.s.K - x.s.T;
    if (j > position) return false;
    if (x.s.window > 0 && j <= position - x.s.window) return false;
    return x.first_key.empty() || j >= x.first_key[size_t(b)];
  }

  // score[i,j] = ( (q_i + u)·k_j + (q_i + w)·r_{T−1−i+j} ) · scale
  double score(int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t d = 0; d < x.s.D; ++d) {
      const double q = x.q[query(i, d)];
      sum += (q + x.u[bias(d)]) * x.k[key(j, d)] + (q + x.w[bias(d)]) * x.r[distance(row(i, j), d)];
    }
    return sum * double(x.s.scale);
  }

  /// 1 / (1 − p) where dropout keeps the probability, else 0
  double mask(int64_t i, int64_t j) const {
    const double p = x.s.dropout.p;
    if (p == 0) return 1;
    const uint64_t draw = x.s.dropout.first + uint64_t(((b * x.s.H + h) * x.s.T + i) * x.s.K + j);
    return x.s.dropout.stream.uniform(draw) >= p ? 1 / (1 - p) : 0;
  }

  /// p (K): the softmax of query i's scores, 0 for keys that it does not see; returns log Σ exp(score).
  double softmax(Array& p, int64_t i) const {
    const int64_t K = x.s.K;
    p.assign(size_t(K), 0);
    double largest = -kInfinity, total = 0;
    for (int64_t j = 0; j < K; ++j)
      if (sees(i, j)) largest = std::fmax(largest, score(i, j));
    for (int64_t j = 0; j < K; ++j)
      if (sees(i, j)) total += p[j] = std::exp(score(i, j) - largest);
    for (int64_t j = 0; j < K; ++j)
      if (sees(i, j)) p[j] /= total;
    return largest + std::log(total);
  }
};

template <class Body>
void for_heads(const RelativeAttentionInputs& x, Body body) {
  for (int64_t b = 0; b < x.s.B; ++b)
    for (int64_t h = 0; h < x.s.H; ++h) body(Head{x, b, h});
}

}  // namespace

// out_i = Σ_j mask p[i,j] v_j
RelativeAttentionOutputs relative_attention_forward(const RelativeAttentionInputs& x) {
  const RelativeAttention& s = x.s;
  RelativeAttentionOutputs y{Array(x.q.size()), Array(size_t(s.B * s.H * s.T))};
  Array p;
  for_heads(x, [&](const Head& head) {
    for (int64_t i = 0; i < s.T; ++i) {
      y.lse[(head.b * s.H + head.h) * s.T + i] = head.softmax(p, i);
      for (int64_t j = 0; j < s.K; ++j) {
        if (!head.sees(i, j)) continue;
        const double weight = head.mask(i, j) * p[j];
        for (int64_t d = 0; d < s.D; ++d) y.out[head.query(i, d)] += weight * x.v[head.key(j, d)];
      }
    }
  });
  return y;
}

// dp[i,j]     = mask dout_i·v_j                       dv_j = Σ_i mask p[i,j] dout_i
// dscore[i,j] = p[i,j] (dp[i,j] − Σ_n p[i,n] dp[i,n])
// dq_i = scale Σ_j dscore[i,j] (k_j + r_{T−1−i+j})     du = scale Σ_ij dscore[i,j] k_j
// dk_j = scale Σ_i dscore[i,j] (q_i + u)               dw = scale Σ_ij dscore[i,j] r_{T−1−i+j}
// dr_{T−1−i+j} = scale Σ dscore[i,j] (q_i + w)
RelativeAttentionGradients relative_attention_backward(const Array& dout, const RelativeAttentionInputs& x) {
  const RelativeAttention& s = x.s;
  RelativeAttentionGradients g{Array(x.q.size()), Array(x.k.size()), Array(x.v.size()),
                               Array(x.r.size()), Array(x.u.size()), Array(x.w.size())};
  Array p, dp(size_t(s.K));
  for_heads(x, [&](const Head& head) {
    for (int64_t i = 0; i < s.T; ++i) {
      head.softmax(p, i);
      double p_dp = 0;
      for (int64_t j = 0; j < s.K; ++j) {
        if (!head.sees(i, j)) continue;
        const double mask = head.mask(i, j);
        dp[j] = 0;
        for (int64_t d = 0; d < s.D; ++d) {
          dp[j] += mask * dout[head.query(i, d)] * x.v[head.key(j, d)];
          g.dv[head.key(j, d)] += mask * p[j] * dout[head.query(i, d)];
        }
        p_dp += p[j] * dp[j];
      }
      for (int64_t j = 0; j < s.K; ++j) {
        if (!head.sees(i, j)) continue;
        const double dscore = p[j] * (dp[j] - p_dp) * double(s.scale);
        for (int64_t d = 0; d < s.D; ++d) {
          const int64_t query = head.query(i, d), key = head.key(j, d), bias = head.bias(d);
          const int64_t distance = head.distance(head.row(i, j), d);
          g.dq[query] += dscore * (x.k[key] + x.r[distance]);
          g.du[bias] += dscore * x.k[key];
          g.dw[bias] += dscore * x.r[distance];
          g.dk[key] += dscore * (x.q[query] + x.u[bias]);
          g.dr[distance] += dscore * (x.q[query] + x.w[bias]);
        }
      }
    }
  });
  return g;
}

}  // namespace lem::naive
