// The ∞-former (Martins, Marinho & Martins, arXiv 2109.00301): a Transformer-XL whose every layer also attends to a
// continuous long-term memory. What leaves the short-term memory enters it; reading it costs the same however long the
// past is.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/model.h"
#include "nn/continuous_memory.h"
#include "nn/transformer.h"

namespace lem {

/// What one layer remembers.
struct InfinityLayerState {
  ShortTermState stm;
  MemoryState ltm;
  void visit(Fields& fields) { stm.visit(fields), ltm.visit(fields); }
  void check(const StateCheck& check, const std::string& name, const std::vector<int64_t>& ages) const;
};

class InfinityFormer : public Model {
 public:
  InfinityFormer(const TransformerOptions& options, const MemoryOptions& memory, Parameters& p);

  using States = LayerStates<InfinityLayerState>;
  std::unique_ptr<State> new_state(int64_t B) const override;
  /// Auxiliary losses: "kl", the sum over layers of the densities' divergence from their prior.
  Variable forward(const Segment& segment, State& state, const Pass& pass, int64_t outputs,
                   Losses& auxiliary) const override;
  /// Counts how often sticky memories found no usable histogram, over all layers.
  std::string warning() const override;
  /// If set, says where layer l's next update reads the old signal, (B, R), or nothing for the model's own choice: so
  /// that two implementations can be compared on the same sticky samples.
  std::function<Tensor(int l)> points_for_update;

 private:
  Variable layer(size_t l, const Variable& x, InfinityLayerState& s, const std::vector<int64_t>& ages,
                 const std::vector<int64_t>& lengths, const Pass& pass, int64_t n, Losses& auxiliary) const;

  TransformerOptions options_;
  Embedding embedding_;
  std::vector<TransformerLayer> layers_;
  std::vector<ContinuousMemory> memories_;
  LayerNorm final_norm_;  // pre-norm models only
  DistanceTable distances_;
};

}  // namespace lem
