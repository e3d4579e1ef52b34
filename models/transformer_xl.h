// Transformer-XL (Dai et al., arXiv 1901.02860; model.md §1): a transformer whose layers also attend to the last S of
// their own earlier inputs, the short-term memory. The ∞-former derives from it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/continuous_memory.h"
#include "nn/layers.h"

namespace lem {

struct TransformerOptions {
  int64_t vocab = 22, layers = 3, width = 300, heads = 6, ff = 300;  // V, –, C, H, F
  int64_t stm = 1024;                                                // S, in tokens
  double dropout = .1, attention_dropout = 0;
  int64_t clamp_len = 0;      // distances above it count as it; 0: no clamp
  bool same_length = false;   // every query sees S keys
  bool pre_norm = false;      // LayerNorm before each sublayer instead of after
  bool untie_uw = false;      // u and w per layer
  bool tie_embedding = true;  // logits from the embedding's table
  double init_std = .02;
};

/// What a model carries from segment to segment: a plain value, one entry a layer. Copy it with clone().
struct LayerState {
  Tensor recent;  // (B, n, C): this layer's inputs that have not left the short-term memory, and the last segment's
  KeysAndValues kept;  // of those steps, where the same weights read the next segment too: not part of saved states
  MemoryState memory;  // the ∞-former's
};
struct State {
  std::vector<LayerState> layers;
  std::vector<int64_t> valid;  // (B): steps read of the row's current document; older ones in `recent` are another's

  State clone() const;
  /// Row b's document draws what it needs (sticky points) from documents[b], so that it depends neither on its place in
  /// the batch nor on its neighbours.
  void draw_from(const std::vector<Random>& documents);
  /// A new document starts in row b: nothing of the old one will be seen there.
  void clear_row(int64_t b);
  /// Bytes held beyond the parameters.
  size_t bytes() const;
};

class TransformerXL {
 public:
  /// Adds its parameters to p; call p.pack() afterwards. Errors: width not heads · D, odd width, ….
  TransformerXL(const TransformerOptions& options, Parameters& p);
  virtual ~TransformerXL() = default;

  virtual State new_state(int64_t B) const;

  struct Output {
    Variable logits;  // (B, n, V): of the last n steps that were asked for; undefined for n = 0
    Variable kl;      // (1): sum over layers of the memory's regulariser; undefined if there is none
  };
  /// Reads one segment, tokens (B, T), and moves the state on; after an Error the state is what it was. Only the last
  /// `outputs` steps get logits: with 0 the segment merely fills the memories, and the last layer, of which they keep
  /// the input alone, is not computed. [=]
  Output forward(const Tokens& tokens, State& state, const Pass& pass, int64_t outputs);

  /// What went wrong since the model was made and was made good, in words for the user; empty if nothing did. Waits for
  /// the device.
  virtual std::string warning() const { return {}; }

  const TransformerOptions& options() const { return options_; }
  /// Those of its long-term memories; null if it has none.
  virtual const MemoryOptions* memory_options() const { return nullptr; }
  Device device() const { return device_; }

 protected:
  struct Layer {
    RelativeAttentionLayer attention;
    LayerNorm norm1, norm2;
    FeedForward ff;
    Variable u, w;  // (H, D)
  };
  /// Hook: `leaving` (B, n, C) have left the short-term memory; of row b's only the last newcomers[b] are its current
  /// document's. Returns what attention_output is to have of it, with its gradient.
  virtual Variable leave(int, LayerState&, const Tensor& /*leaving*/, const std::vector<int64_t>& /*newcomers*/) {
    return {};
  }
  /// Hook: z (B, Tq, C), what the attention sublayer adds to the residual. left: what this segment's leave() returned,
  /// undefined if nothing has left; a (B, Tq, C): the heads' outputs; q (B, T, C): all queries.
  virtual Variable attention_output(int l, LayerState&, const Variable& /*left*/, const Variable& a,
                                    const Variable& /*q*/, Output&) {
    return linear(a, layers_[size_t(l)].attention.w_o);
  }
  /// Hook: does this layer need its queries even when nobody wants its output?
  virtual bool needs_queries(int) const { return false; }

  std::vector<Layer> layers_;

 private:
  Variable layer(int l, const Variable& x, State& state, const Pass& pass, int64_t Tq, Output& output);
  Tensor positions(int64_t K);
  Tokens first_keys(const State& state, int64_t stm) const;

  TransformerOptions options_;
  Embedding embedding_;
  LayerNorm final_norm_;  // pre-norm models only
  Variable head_weight_, head_bias_;
  Tensor sinusoids_;  // of the distances Kmax − 1 … 0, for the largest K so far
  Device device_;
};

}  // namespace lem
