#include "models/transformer_xl.h"

#include <algorithm>
#include <utility>

namespace lem {
namespace {

std::string layer_name(int l) { return "layers." + std::to_string(l); }

void check_options(const TransformerOptions& o) {
  check(o.vocab > 0 && o.layers > 0 && o.width > 0 && o.heads > 0 && o.ff > 0 && o.stm >= 0,
        "[model] vocabulary, layers, width, heads and ff must be positive, stm not negative");
  check(o.width % o.heads == 0, "[model] width {} is not a multiple of {} heads: use e.g. width {}", o.width, o.heads,
        (o.width / o.heads + 1) * o.heads);
  check(o.width % 2 == 0, "[model] the sinusoids of the positions need an even width: got {}", o.width);
  check(o.dropout >= 0 && o.dropout < 1 && o.attention_dropout >= 0 && o.attention_dropout < 1,
        "[model] dropout rates must lie in [0, 1): got {} and {}", o.dropout, o.attention_dropout);
  check(!o.same_length || o.stm > 0, "[model] same_length lets each query see stm keys, so stm must be positive");
}

}  // namespace

// ---- state ----------------------------------------------------------------------------------------------------------

State State::clone() const {
  State s = *this;
  for (LayerState& layer : s.layers) {
    if (layer.recent.defined()) layer.recent = layer.recent.clone();
    layer.memory = layer.memory.clone();
  }
  return s;
}

void State::draw_from(const std::vector<Random>& documents) {
  check(documents.size() == valid.size(), "[state] got random numbers for {} documents, expected {}, one a row",
        documents.size(), valid.size());
  for (size_t l = 0; l < layers.size(); ++l) {
    if (layers[l].memory.filled.empty()) continue;  // nothing in this layer draws
    std::vector<Random>& rows = layers[l].memory.random;
    rows.clear();
    for (const Random& document : documents) rows.push_back(document.child(l));
  }
}

void State::clear_row(int64_t b) {
  check(b >= 0 && b < int64_t(valid.size()), "[state] there is no batch row {}: the state has {}", b, valid.size());
  for (LayerState& layer : layers) {
    for (Tensor* x : {&layer.recent, &layer.kept.k, &layer.kept.v}) {
      if (!x->defined()) continue;
      *x = x->clone();  // somebody may hold a copy of this state
      const Tensor row = x->slice(b, b + 1);
      on(row.device()).fill(row.data(), 0, row.numel());
    }
    if (!layer.memory.filled.empty()) layer.memory.clear_row(b);
  }
  valid[size_t(b)] = 0;
}

size_t State::bytes() const {
  size_t n = 0;
  for (const LayerState& layer : layers) {
    n += layer.memory.bytes();
    for (const Tensor& t : {layer.recent, layer.kept.k, layer.kept.v, layer.kept.r})
      n += t.defined() ? size_t(t.numel()) * sizeof(real) : 0;
  }
  return n;
}

// ---- the model ------------------------------------------------------------------------------------------------------

TransformerXL::TransformerXL(const TransformerOptions& o, Parameters& p) : options_(o), device_(p.device()) {
  check_options(o);
  embedding_ = Embedding(p, "embedding", o.vocab, o.width, o.init_std);
  const Shape uw{o.heads, o.width / o.heads};
  Variable u, w;
  if (!o.untie_uw) {
    u = p.add("attention.u", uw, Init::normal(o.init_std));
    w = p.add("attention.w", uw, Init::normal(o.init_std));
  }
  for (int l = 0; l < o.layers; ++l) {
    const std::string name = layer_name(l);
    Layer layer;
    layer.attention = RelativeAttentionLayer(p, name + ".attention", o.width, o.init_std);
    layer.norm1 = LayerNorm(p, name + ".norm1", o.width);
    layer.norm2 = LayerNorm(p, name + ".norm2", o.width);
    layer.ff = FeedForward(p, name + ".ff", o.width, o.ff, o.init_std);
    layer.u = o.untie_uw ? p.add(name + ".attention.u", uw, Init::normal(o.init_std)) : u;
    layer.w = o.untie_uw ? p.add(name + ".attention.w", uw, Init::normal(o.init_std)) : w;
    layers_.push_back(layer);
  }
  if (o.pre_norm) final_norm_ = LayerNorm(p, "final_norm", o.width);
  head_weight_ =
      o.tie_embedding ? embedding_.table : p.add("head.weight", {o.width, o.vocab}, Init::normal(o.init_std));
  head_bias_ = p.add("head.bias", {o.vocab}, Init::constant(0));
}

State TransformerXL::new_state(int64_t B) const {
  State state;
  state.layers.resize(size_t(options_.layers));
  state.valid.assign(size_t(B), 0);
  return state;
}

TransformerXL::Output TransformerXL::forward(const Tokens& tokens, State& state, const Pass& pass, int64_t outputs) {
  check(tokens.shape().rank() == 2 && tokens.dim(0) == int64_t(state.valid.size()) && tokens.dim(1) > 0,
        "[model] tokens must be ({}, T > 0): got {}", state.valid.size(), tokens.shape());
  check(int64_t(state.layers.size()) == options_.layers,
        "[model] the state is another model's: got {} layers, expected {}; take one of new_state()",
        state.layers.size(), options_.layers);
  const int64_t T = tokens.dim(1), last = options_.layers - 1;
  check(outputs >= 0 && outputs <= T, "[model] {} outputs asked of a segment of {}", outputs, T);
  Output output;
  State next = state;  // shares its tensors, none of which is written to: an Error midway leaves the caller's as it was
  Variable x = dropout(embedding_(tokens), pass.dropout(options_.dropout, T * options_.width));
  for (int l = 0; l <= last; ++l) {
    const NameScope scope(layer_name(l));
    x = layer(l, x, next, pass, l == last ? outputs : T, output);
  }
  for (int64_t& n : next.valid) n += T;
  if (outputs > 0) {
    if (options_.pre_norm) x = final_norm_(x);
    x = dropout(x, pass.dropout(options_.dropout, outputs * options_.width));
    output.logits = bias_act(linear(x, head_weight_, options_.tie_embedding), head_bias_, Activation::identity);
  }
  state = std::move(next);
  return output;
}

//   c = concat(stm, x),  q = x W_q,  k = c W_k,  v = c W_v,  r = P W_r
//   z = concat_heads( softmax( ((q + u)·k + (q + w)·r) / √D ) v ) W_o  [+ what the long-term memory adds]
//   y = LayerNorm(x + dropout(z)),  y = LayerNorm(y + FF(y))                                (pre-norm: y = x +
//   z(LayerNorm(x)) …)
Variable TransformerXL::layer(int l, const Variable& x, State& state, const Pass& pass, int64_t Tq, Output& output) {
  const Layer& layer = layers_[size_t(l)];
  LayerState& memory = state.layers[size_t(l)];

  // All but the last S of the recent states leave the short-term memory.
  Tensor stm;
  Variable left;
  if (memory.recent.defined()) {
    const int64_t n = memory.recent.dim(1), kept = std::min(n, options_.stm);
    stm = slice_time(memory.recent, n - kept, kept);
    if (n > kept) {
      std::vector<int64_t> newcomers;
      for (int64_t valid : state.valid) newcomers.push_back(std::clamp<int64_t>(valid - kept, 0, n - kept));
      left = leave(l, memory, slice_time(memory.recent, 0, n - kept), newcomers);
    }
  }
  const int64_t S = stm.defined() ? stm.dim(1) : 0, K = S + x.dim(1);
  memory.recent = concat_time(stm, x.value());
  KeysAndValues kept = std::exchange(memory.kept, {});
  if (kept.weights != pass.weights) kept = {.k = {}, .v = {}, .r = {}, .weights = pass.weights};
  if (Tq == 0 && !needs_queries(l)) return {};

  const Variable h = options_.pre_norm ? layer.norm1(x) : x;
  const Variable h_stm = options_.pre_norm && S > 0 ? layer.norm1(stm) : Variable(stm);
  const Variable q = layer.attention.queries(h);
  Variable a;
  if (Tq > 0) {
    const RelativeAttentionOptions options{
        .window = options_.same_length ? options_.stm : 0,
        .first_key = first_keys(state, S),
        .dropout = pass.dropout(options_.attention_dropout, options_.heads * Tq * K)};
    a = layer.attention.attend(last_steps(q, Tq), h_stm, h, positions(K), layer.u, layer.w, options, kept);
    if (pass.weights != 0) memory.kept = kept;
  }
  const Variable z = attention_output(l, memory, left, a, q, output);
  if (Tq == 0) return {};

  const Variable x_q = last_steps(x, Tq);
  // Named, because streams of random numbers are handed out in the order of these lines.
  const Dropout drop_z = pass.dropout(options_.dropout, Tq * options_.width);
  const Dropout drop_inner = pass.dropout(options_.dropout, Tq * options_.ff);
  const Dropout drop_f = pass.dropout(options_.dropout, Tq * options_.width);
  if (!options_.pre_norm) {
    const Variable y = layer.norm1(x_q, z, {}, drop_z);
    return layer.norm2(y, layer.ff(y, drop_inner), layer.ff.b2, drop_f);
  }
  const Variable y = add(x_q, dropout(z, drop_z));
  return add(y, bias_act(layer.ff(layer.norm2(y), drop_inner), layer.ff.b2, Activation::identity, drop_f));
}

// The last K rows of one table: they are the distances K − 1 … 0. It grows by half at least, so that reading on and on
// makes it a few times and not at every step.
Tensor TransformerXL::positions(int64_t K) {
  const int64_t held = sinusoids_.defined() ? sinusoids_.dim(0) : 0;
  if (held >= K) return sinusoids_.slice(held - K, held);
  const int64_t most = std::max(K, held + held / 2);
  sinusoids_ = distance_sinusoids(most, options_.width, options_.clamp_len, device_);
  return sinusoids_.slice(most - K, most);
}

// Where a row's document is younger than the short-term memory, the keys before it are another document's.
Tokens TransformerXL::first_keys(const State& state, int64_t stm) const {
  std::vector<int32_t> first;
  for (int64_t valid : state.valid) first.push_back(int32_t(std::max<int64_t>(0, stm - valid)));
  if (std::all_of(first.begin(), first.end(), [](int32_t f) { return f == 0; })) return {};
  return Tokens::from(first, {int64_t(first.size())}, device_);
}

}  // namespace lem
