#include "models/infinity_former.h"

#include <algorithm>

namespace lem {

void InfinityLayerState::check(const StateCheck& check, const std::string& name,
                               const std::vector<int64_t>& ages) const {
  stm.check(check, name, ages);
  std::vector<int64_t> left;  // what is no longer recent has been stored
  for (int64_t age : ages) left.push_back(std::max<int64_t>(0, age - (stm.recent.defined() ? stm.recent.dim(1) : 0)));
  ltm.check(check, name, left);
}

InfinityFormer::InfinityFormer(const TransformerOptions& o, const MemoryOptions& memory, Parameters& p)
    : Model(p.device()), options_(o), distances_(o.width, o.clamp_len, p.device()) {
  check_options(o);
  embedding_ = Embedding(p, "embedding", o.vocab, o.width, o.init_std);
  const SharedBiases shared(p, o);
  for (int l = 0; l < o.layers; ++l) layers_.emplace_back(p, fmt::format("layers.{}", l), o, shared.u, shared.w);
  if (o.pre_norm) final_norm_ = LayerNorm(p, "final_norm", o.width);
  head = Head(p, o.vocab, o.width, o.init_std, o.tie_embedding ? embedding_.table : Variable());
  for (int l = 0; l < o.layers; ++l)
    memories_.emplace_back(p, fmt::format("layers.{}.memory", l), o.width, o.heads, memory, o.init_std);
  for (ContinuousMemory& m : memories_) m.share_operators(memories_.front());
}

std::unique_ptr<State> InfinityFormer::new_state(int64_t B) const {
  std::vector<InfinityLayerState> layers;
  for (const ContinuousMemory& memory : memories_) layers.push_back({{options_.width, {}, {}}, memory.new_state(B)});
  return std::make_unique<States>(B, std::move(layers));
}

Variable InfinityFormer::forward(const Segment& segment, State& state, const Pass& pass, int64_t outputs,
                                 Losses& auxiliary) const {
  States next = own_state<States>(state, layers_.size());  // shares its tensors: an Error midway leaves `state` alone
  const std::vector<int64_t> lengths = begin_segment(segment, next, outputs);
  const int64_t T = segment.tokens.dim(1);
  Variable x = dropout(embedding_(segment.tokens), pass.dropout(options_.dropout, T * options_.width));
  for (size_t l = 0; l < layers_.size(); ++l) {
    const NameScope scope(fmt::format("layers.{}", l));
    const int64_t n = l + 1 < layers_.size() ? T : outputs;
    x = layer(l, x, next.layers[l], next.age, lengths, pass, n, auxiliary);
  }
  end_segment(segment, lengths, next);
  if (outputs > 0) {
    if (options_.pre_norm) x = final_norm_(x);
    x = dropout(x, pass.dropout(options_.dropout, outputs * options_.width));
  }
  own_state<States>(state, layers_.size()) = std::move(next);
  return x;
}

// Section 3, one layer. The short-term memory is Transformer-XL's:
//   c = [stm, x],  q = x W_q,  z = concat_heads( softmax( ((q + u)·k + (q + w)·r) / √D ) v ) W_o
// 3.1, 3.2: what leaves it, X, is fitted as a signal behind the contracted old one,
//   coeffs ← G_oldᵀ Ψ(u) coeffs + G_newᵀ X
// 3.1: every query reads the signal through a density of its own, p = N(μ, σ²) with (μ, σ²) from its scores,
//   Z_LTM = concat_heads( E_p[V̄(t)] ) W_out,  and the layer goes on with z + Z_LTM.
// 3.3: sticky memories read the old signal (Ψ(u)) where the last segment's densities p have looked.
Variable InfinityFormer::layer(size_t l, const Variable& x, InfinityLayerState& s, const std::vector<int64_t>& ages,
                               const std::vector<int64_t>& lengths, const Pass& pass, int64_t n,
                               Losses& auxiliary) const {
  const TransformerLayer& layer = layers_[l];
  const ContinuousMemory& memory = memories_[l];
  const Recent past = s.stm.advance(x, options_.stm, ages, pass);
  const bool own_points = points_for_update && past.leaving.defined();
  const Variable coeffs =
      memory.update(s.ltm, past.leaving, past.newcomers, own_points ? points_for_update(int(l)) : Tensor());
  if (n == 0 && !memory.options().sticky) return {};

  const Variable h = layer.residual1.enter(x);
  const Variable q = layer.attention.queries(h), q_n = last_steps(q, n);
  const Variable a = n > 0 ? layer.attend(q_n, h, past, s.stm, distances_, options_, pass) : Variable();
  ContinuousMemory::Read read;
  if (coeffs.defined()) read = memory.attend(s.ltm, coeffs, q, lengths, n);
  if (read.kl.defined()) auxiliary.add("kl", read.kl, memory.options().lambda_kl);
  if (n == 0) return {};

  const Variable& w_o = layer.attention.w_o;
  const Variable z = !read.z.defined()               ? linear(a, w_o)  // nothing has been stored yet
                     : memory.options().learned_gate ? add(linear(a, w_o), memory.gate_output(read.z, q_n))
                                                     : linear_sum({{a, w_o}, {read.z, memory.w_out()}});
  return layer.finish(last_steps(x, n), z, options_, pass);
}

std::string InfinityFormer::warning() const {
  int64_t n = 0;
  for (const ContinuousMemory& memory : memories_) n += memory.sticky_fallbacks();
  if (n == 0) return {};
  return fmt::format(
      "sticky memories found no usable mass where the last segment attended, and were read at uniform points: {} "
      "time{}",
      n, n == 1 ? "" : "s");
}

}  // namespace lem
