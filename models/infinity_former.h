// The ∞-former (Martins et al., arXiv 2109.00301; model.md §2–3): a Transformer-XL whose every layer also attends to a
// continuous long-term memory. What leaves the short-term memory enters it; reading it costs the same however long the
// past is.
#pragma once

#include <functional>

#include "models/transformer_xl.h"
#include "nn/continuous_memory.h"

namespace lem {

class InfinityFormer : public TransformerXL {
 public:
  InfinityFormer(const TransformerOptions& options, const MemoryOptions& memory, Parameters& p);

  State new_state(int64_t B) const override;
  /// Counts how often sticky memories found no usable histogram, over all layers.
  std::string warning() const override;
  const MemoryOptions* memory_options() const override { return &memories_[0].options(); }
  /// If set, says where layer l's next update reads the old signal, (B, R), or nothing for the model's own choice: so
  /// that two implementations can be compared on the same sticky samples.
  std::function<Tensor(int l)> points_for_update;

 protected:
  Variable leave(int l, LayerState& state, const Tensor& leaving, const std::vector<int64_t>& newcomers) override;
  Variable attention_output(int l, LayerState& state, const Variable& left, const Variable& a, const Variable& q,
                            Output& output) override;
  bool needs_queries(int l) const override { return memories_[size_t(l)].options().sticky; }

 private:
  std::vector<ContinuousMemory> memories_;
};

}  // namespace lem
