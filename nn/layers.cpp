#include "nn/layers.h"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace lem {

uint64_t new_weights_number() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

Dropout Pass::dropout(double p, int64_t size) const {
  if (!training || p == 0) return {};
  check(random != nullptr,
        "[dropout] a training pass of rate {} needs random numbers: got none; set Pass::random, or training = false",
        p);
  return {real(p), random->stream(), first * uint64_t(size)};
}

Linear::Linear(Parameters& p, const std::string& weight_name, int64_t in, int64_t out, double init_std,
               const std::string& bias_name)
    : W(p.add(weight_name, {in, out}, {.init = Init::normal(init_std)})) {
  if (!bias_name.empty()) b = p.add(bias_name, {out}, {.init = Init::constant(0), .decay = false});
}

Variable Linear::operator()(const Variable& x) const {
  const Variable y = linear(x, W);
  return b.defined() ? bias_act(y, b, Activation::identity) : y;
}

Embedding::Embedding(Parameters& p, const std::string& name, int64_t vocab, int64_t width, double init_std)
    : table(p.add(name + ".weight", {vocab, width}, {.init = Init::normal(init_std), .decay = false})) {}

Variable Embedding::operator()(const Tokens& tokens) const {
  return embedding(tokens, table, real(std::sqrt(double(table.dim(1)))));
}

LayerNorm::LayerNorm(Parameters& p, const std::string& name, int64_t width)
    : gamma(p.add(name + ".gamma", {width}, {.init = Init::constant(1), .decay = false})),
      beta(p.add(name + ".beta", {width}, {.init = Init::constant(0), .decay = false})) {}

Variable LayerNorm::operator()(const Variable& x, const Variable& z, const Variable& z_bias, Dropout dropout) const {
  return layer_norm(x, z, z_bias, gamma, beta, dropout);
}

FeedForward::FeedForward(Parameters& p, const std::string& name, int64_t width, int64_t inner, double init_std)
    : w1(p.add(name + ".w1", {width, inner}, {.init = Init::normal(init_std)})),
      b1(p.add(name + ".b1", {inner}, {.init = Init::constant(0), .decay = false})),
      w2(p.add(name + ".w2", {inner, width}, {.init = Init::normal(init_std)})),
      b2(p.add(name + ".b2", {width}, {.init = Init::constant(0), .decay = false})) {}

Variable FeedForward::operator()(const Variable& x, Dropout inner_dropout) const {
  return linear(bias_act(linear(x, w1), b1, Activation::relu, inner_dropout), w2);
}

TimeGate::TimeGate(Parameters& p, const std::string& name, int64_t width, double init_std)
    : weight(p.add(name + ".weight", {3, width, width}, {.init = Init::normal(init_std)})),
      bias(p.add(name + ".bias", {width}, {.init = Init::constant(0), .decay = false})) {}

Variable TimeGate::operator()(const Variable& x) const { return sigmoid_gate(x, time_conv(x, weight, bias)); }

RelativeAttentionLayer::RelativeAttentionLayer(Parameters& p, const std::string& name, int64_t width, double init_std) {
  const auto matrix = [&](const char* part) {
    return p.add(name + part, {width, width}, {.init = Init::normal(init_std)});
  };
  w_q = matrix(".w_q"), w_k = matrix(".w_k"), w_v = matrix(".w_v"), w_r = matrix(".w_r"), w_o = matrix(".w_o");
}

Variable RelativeAttentionLayer::attend(const Variable& q, const Variable& past, const Variable& x,
                                        const Tensor& positions, const Variable& u, const Variable& w,
                                        const RelativeAttentionOptions& options, KeysAndValues& kept) const {
  const Variable k = concat_linear(past, x, w_k, kept.k), v = concat_linear(past, x, w_v, kept.v);
  kept.k = k.value(), kept.v = v.value();
  // Where no gradient is wanted, the rows of an earlier segment serve: those of the K smallest distances are the last.
  const int64_t K = positions.dim(0), known = kept.r.defined() ? kept.r.dim(0) : 0;
  const bool known_r = known >= K && !(tape().recording && w_r.needs_grad());
  const Variable r = known_r ? Variable(kept.r.slice(known - K, known)) : linear(positions, w_r);
  if (known < K) kept.r = r.value();
  return relative_attention(q, k, v, r, u, w, options);
}

// [sin(p f_0) … sin(p f_{C/2−1}), cos(p f_0) …], f_k = 10000^(−2k/C); row m is the distance p = K − 1 − m.
Tensor distance_sinusoids(int64_t K, int64_t width, int64_t clamp, Device device) {
  const int64_t half = width / 2;
  std::vector<real> P(static_cast<size_t>(K * width));
  for (int64_t k = 0; k < half; ++k) {
    const double f = std::pow(10000.0, -2.0 * double(k) / double(width));
    for (int64_t m = 0; m < K; ++m) {
      const int64_t distance = clamp > 0 ? std::min(clamp, K - 1 - m) : K - 1 - m;
      P[size_t(m * width + k)] = real(std::sin(double(distance) * f));
      P[size_t(m * width + half + k)] = real(std::cos(double(distance) * f));
    }
  }
  return Tensor::from(P, {K, width}, device);
}

}  // namespace lem
