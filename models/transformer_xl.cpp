#include "models/transformer_xl.h"

namespace lem {

TransformerXL::TransformerXL(const TransformerOptions& o, Parameters& p)
    : Model(p.device()), options_(o), distances_(o.width, o.clamp_len, p.device()) {
  check_options(o);
  embedding_ = Embedding(p, "embedding", o.vocab, o.width, o.init_std);
  const SharedBiases shared(p, o);
  for (int l = 0; l < o.layers; ++l) layers_.emplace_back(p, fmt::format("layers.{}", l), o, shared.u, shared.w);
  if (o.pre_norm) final_norm_ = LayerNorm(p, "final_norm", o.width);
  head = Head(p, o.vocab, o.width, o.init_std, o.tie_embedding ? embedding_.table : Variable());
}

std::unique_ptr<State> TransformerXL::new_state(int64_t B) const {
  return std::make_unique<States>(B, std::vector<ShortTermState>(layers_.size(), {options_.width, {}, {}}));
}

Variable TransformerXL::forward(const Segment& segment, State& state, const Pass& pass, int64_t outputs,
                                Losses&) const {
  States next = own_state<States>(state, layers_.size());  // shares its tensors: an Error midway leaves `state` alone
  const std::vector<int64_t> lengths = begin_segment(segment, next, outputs);
  const int64_t T = segment.tokens.dim(1);
  Variable x = dropout(embedding_(segment.tokens), pass.dropout(options_.dropout, T * options_.width));
  for (size_t l = 0; l < layers_.size(); ++l) {
    const NameScope scope(fmt::format("layers.{}", l));
    x = layer(layers_[l], x, next.layers[l], next.age, pass, l + 1 < layers_.size() ? T : outputs);
  }
  end_segment(segment, lengths, next);
  if (outputs > 0) {
    if (options_.pre_norm) x = final_norm_(x);
    x = dropout(x, pass.dropout(options_.dropout, outputs * options_.width));
  }
  own_state<States>(state, layers_.size()) = std::move(next);
  return x;
}

//   c = [stm, x],  q = x W_q,  k = c W_k,  v = c W_v,  r = P W_r
//   z = concat_heads( softmax( ((q + u)·k + (q + w)·r) / √D ) v ) W_o
//   y = LayerNorm(x + dropout(z)),  y = LayerNorm(y + FF(y))               (pre-norm: y = x + z(LayerNorm(x)) …)
// for the last n of x's T steps.
Variable TransformerXL::layer(const TransformerLayer& layer, const Variable& x, ShortTermState& s,
                              const std::vector<int64_t>& ages, const Pass& pass, int64_t n) const {
  const Recent past = s.advance(x, options_.stm, ages, pass);
  if (n == 0) return {};
  const Variable h = layer.residual1.enter(x);
  const Variable q = layer.attention.queries(last_steps(h, n));
  const Variable a = layer.attend(q, h, past, s, distances_, options_, pass);
  return layer.finish(last_steps(x, n), linear(a, layer.attention.w_o), options_, pass);
}

}  // namespace lem
