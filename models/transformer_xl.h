// Transformer-XL (Dai et al., arXiv 1901.02860): a transformer whose layers also attend to the last S of their own
// earlier inputs, the short-term memory.
#pragma once

#include <memory>
#include <vector>

#include "models/model.h"
#include "nn/transformer.h"

namespace lem {

class TransformerXL : public Model {
 public:
  /// Adds its parameters to p; call p.pack() afterwards. Errors: width not heads · D, odd width, ….
  TransformerXL(const TransformerOptions& options, Parameters& p);

  using States = LayerStates<ShortTermState>;
  std::unique_ptr<State> new_state(int64_t B) const override;
  Variable forward(const Segment& segment, State& state, const Pass& pass, int64_t outputs,
                   Losses& auxiliary) const override;

 private:
  Variable layer(const TransformerLayer& layer, const Variable& x, ShortTermState& s, const std::vector<int64_t>& ages,
                 const Pass& pass, int64_t n) const;

  TransformerOptions options_;
  Embedding embedding_;
  std::vector<TransformerLayer> layers_;
  LayerNorm final_norm_;  // pre-norm models only
  DistanceTable distances_;
};

}  // namespace lem
