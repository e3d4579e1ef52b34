// One segment read by a model, to its logits.
#pragma once

#include "models/infinity_former.h"
#include "models/transformer_xl.h"

namespace lem::test {

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
