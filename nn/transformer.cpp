#include "nn/transformer.h"

#include <algorithm>

namespace lem {

OptionTable option_table(TransformerOptions& o) {
  const char* group = "Transformer";
  return {
      {"layers", group, Scope::weights, &o.layers, "layers", between(1, 1000)},
      {"width", group, Scope::weights, &o.width, "width C of the model: heads times an integer, even",
       between(2, 1 << 20)},
      {"heads", group, Scope::weights, &o.heads, "attention heads H", between(1, 1 << 16)},
      {"ff", group, Scope::weights, &o.ff, "width F of the feed-forward layers", between(1, 1 << 24)},
      {"stm", group, Scope::function, &o.stm, "tokens S of the short-term memory; 0: none", between(0, 1 << 24)},
      {"clamp-len", group, Scope::function, &o.clamp_len, "distances above it count as it; 0: no clamp", at_least(0)},
      {"same-length", group, Scope::function, &o.same_length, "every query sees exactly S keys", anything()},
      {"pre-norm", group, Scope::weights, &o.pre_norm, "normalise before each sublayer, not after", anything()},
      {"untie-uw", group, Scope::weights, &o.untie_uw, "u and w of their own in each layer", anything()},
      {"tie-embedding", group, Scope::weights, &o.tie_embedding, "logits from the embedding's table", anything()},
      {"dropout", group, Scope::training, &o.dropout, "dropout rate", between(0, 1, Ends::closed, Ends::open)},
      {"attention-dropout", group, Scope::training, &o.attention_dropout, "dropout rate of attention's probabilities",
       between(0, 1, Ends::closed, Ends::open)},
      {"init-std", group, Scope::weights, &o.init_std, "weights start from N(0, this²)", above(0)},
  };
}

void check_options(const TransformerOptions& options) {
  TransformerOptions o = options;
  check_allowed(option_table(o));
  check(o.vocab > 0, "[options] the vocabulary must not be empty: got {} words", o.vocab);
  check(o.width % o.heads == 0,
        "[options] width must be heads times an integer: got width {} and {} heads; try width {}", o.width, o.heads,
        std::max<int64_t>(o.width / o.heads, 1) * o.heads);
  check(o.width % 2 == 0, "[options] width must be even, half sines and half cosines of the distance: got {}", o.width);
  check(!o.same_length || o.stm > 0,
        "[options] same-length: every query sees S keys, but stm is 0; give --stm or --no-same-length");
}

Variable Residual::add(const Variable& x, const Variable& z, const Variable& bias, Dropout dropout) const {
  return before ? lem::add(x, bias_act(z, bias, Activation::identity, dropout)) : norm(x, z, bias, dropout);
}

// The last K rows of one table: they are the distances K − 1 … 0. It grows by half at least, so that reading on and on
// makes it a few times and not at every step.
Tensor DistanceTable::operator()(int64_t K) const {
  int64_t held = table_.numel() ? table_.dim(0) : 0;
  if (held < K) {
    held = std::max(K, held + held / 2);
    table_ = distance_sinusoids(held, width_, clamp_, device_);
  }
  return table_.slice(held - K, held);
}

SharedBiases::SharedBiases(Parameters& p, const TransformerOptions& o) {
  if (o.untie_uw) return;
  const Shape shape{o.heads, o.width / o.heads};
  u = p.add("attention.u", shape, {.init = Init::normal(o.init_std), .decay = false});
  w = p.add("attention.w", shape, {.init = Init::normal(o.init_std), .decay = false});
}

TransformerLayer::TransformerLayer(Parameters& p, const std::string& name, const TransformerOptions& o,
                                   const Variable& shared_u, const Variable& shared_w)
    : attention(p, name + ".attention", o.width, o.init_std),
      u(shared_u),
      w(shared_w),
      residual1{LayerNorm(p, name + ".norm1", o.width), o.pre_norm},
      residual2{LayerNorm(p, name + ".norm2", o.width), o.pre_norm},
      ff(p, name + ".ff", o.width, o.ff, o.init_std) {
  if (u.defined()) return;
  const Shape shape{o.heads, o.width / o.heads};
  u = p.add(name + ".attention.u", shape, {.init = Init::normal(o.init_std), .decay = false});
  w = p.add(name + ".attention.w", shape, {.init = Init::normal(o.init_std), .decay = false});
}

Variable TransformerLayer::attend(const Variable& q, const Variable& h, const Recent& past, ShortTermState& state,
                                  const DistanceTable& distances, const TransformerOptions& o, const Pass& pass) const {
  const int64_t n = q.dim(1), K = past.steps() + h.dim(1);
  const RelativeAttentionOptions options{.window = o.same_length ? o.stm : 0,
                                         .first_key = past.first_key,
                                         .dropout = pass.dropout(o.attention_dropout, o.heads * n * K)};
  const Variable h_past = past.steps() > 0 ? residual1.enter(past.stm) : Variable(past.stm);
  KeysAndValues kept = past.kept;
  const Variable a = attention.attend(q, h_past, h, distances(K), u, w, options, kept);
  if (pass.weights != 0) state.kept = kept;
  return a;
}

Variable TransformerLayer::finish(const Variable& x, const Variable& z, const TransformerOptions& o,
                                  const Pass& pass) const {
  const int64_t n = x.dim(1);
  // Named, because streams of random numbers are handed out in the order of these lines.
  const Dropout drop_z = pass.dropout(o.dropout, n * o.width);
  const Dropout drop_inner = pass.dropout(o.dropout, n * o.ff);
  const Dropout drop_f = pass.dropout(o.dropout, n * o.width);
  const Variable y = residual1.add(x, z, {}, drop_z);
  return residual2.add(y, ff(residual2.enter(y), drop_inner), ff.b2, drop_f);
}

}  // namespace lem
