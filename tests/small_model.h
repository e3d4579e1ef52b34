// Models so small that a test may make many of them, and what is read with them.
#pragma once

#include <memory>

#include "models/infinity_former.h"
#include "models/transformer_xl.h"

namespace lem::test {

/// Draws of a test's own.
struct Dice {
  Stream stream;
  uint64_t next = 0;
  int64_t below(int64_t n) { return int64_t(stream.bits(next++) % uint64_t(n)); }
};

constexpr int64_t kVocab = 7;

inline TransformerOptions small_transformer() {
  return {.vocab = kVocab, .layers = 2, .width = 8, .heads = 2, .ff = 12, .stm = 4, .dropout = 0, .init_std = .4};
}
inline MemoryOptions small_memory() {
  MemoryOptions m;
  m.N = 6, m.widths = {.1, .3}, m.R = 9, m.sigma2_min = 1e-4, m.lambda_kl = .01;
  return m;
}

/// A model and its parameters: an ∞-former, or without `m` a Transformer-XL. `frozen`: prefixes of parameters.
struct Net {
  explicit Net(const TransformerOptions& t, const MemoryOptions* m = nullptr,
               const std::vector<std::string>& frozen = {})
      : parameters(Device::cpu, 5) {
    for (const std::string& prefix : frozen) parameters.freeze(prefix);
    if (m)
      model = std::make_unique<InfinityFormer>(t, *m, parameters);
    else
      model = std::make_unique<TransformerXL>(t, parameters);
    parameters.pack();
  }
  Parameters parameters;
  std::unique_ptr<Model> model;
};

struct Answer {
  Variable logits;  // (B, outputs, V); undefined without outputs
  Variable kl;      // (1); undefined if the model has none
};

inline Answer read(const Model& model, const Segment& segment, State& state, const Pass& pass, int64_t outputs) {
  Losses auxiliary;
  const Variable hidden = model.forward(segment, state, pass, outputs, auxiliary);
  return {outputs > 0 ? model.head.logits(hidden) : Variable(),
          auxiliary.terms.empty() ? Variable() : auxiliary.terms[0].value};
}

/// Layers of an ∞-former's state.
inline std::vector<InfinityLayerState>& infinity_layers(State& state) {
  return dynamic_cast<InfinityFormer::States&>(state).layers;
}
/// Short-term memories of any state.
inline std::vector<ShortTermState*> short_term(State& state) {
  std::vector<ShortTermState*> all;
  if (auto* infinity = dynamic_cast<InfinityFormer::States*>(&state))
    for (InfinityLayerState& layer : infinity->layers) all.push_back(&layer.stm);
  else
    for (ShortTermState& layer : dynamic_cast<TransformerXL::States&>(state).layers) all.push_back(&layer);
  return all;
}

}  // namespace lem::test
