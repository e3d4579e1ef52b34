// What the layers of Transformer-XL and of its descendants are made of: attention to the recent past, a feed-forward
// sublayer, and the residual sums around both.
#pragma once

#include <string>

#include "nn/layers.h"
#include "nn/options.h"
#include "nn/short_term_memory.h"

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
/// All but the vocabulary, which a task's data decide.
OptionTable option_table(TransformerOptions& options);
/// Errors: width not heads · D, odd width, ….
void check_options(const TransformerOptions& options);

/// A residual sum, with LayerNorm behind it (Vaswani et al., arXiv 1706.03762) or before the sublayer.
///   after:   y = LayerNorm(x + dropout(z + bias)),  z = sublayer(x)
///   before:  y = x + dropout(z + bias),             z = sublayer(LayerNorm(x))
struct Residual {
  LayerNorm norm;
  bool before = false;
  /// What the sublayer is to read.
  Variable enter(const Variable& x) const { return before ? norm(x) : x; }
  Variable add(const Variable& x, const Variable& z, const Variable& bias, Dropout dropout) const;
};

/// Sinusoids of distances, one table for the largest so far.
class DistanceTable {
 public:
  DistanceTable() = default;
  DistanceTable(int64_t width, int64_t clamp, Device device) : width_(width), clamp_(clamp), device_(device) {}
  /// (K, C): those of the distances K − 1 … 0.
  Tensor operator()(int64_t K) const;

 private:
  int64_t width_ = 0, clamp_ = 0;
  Device device_ = Device::cpu;
  mutable Tensor table_;
};

struct TransformerLayer {
  RelativeAttentionLayer attention;
  Variable u, w;  // (H, D): content and position biases, of the layer or of all
  Residual residual1, residual2;
  FeedForward ff;

  /// u and w undefined: parameters of the layer's own.
  TransformerLayer(Parameters& p, const std::string& name, const TransformerOptions& o, const Variable& u,
                   const Variable& w);

  /// The heads' outputs (B, n, C) before W_o, for queries q (B, n, C) of the last n steps of h (B, T, C), which has
  /// entered the first residual. What the state keeps of keys and values is renewed.
  ///   k = [stm, h] W_k,  v = [stm, h] W_v,  r = P W_r,  a = softmax( ((q + u)·k + (q + w)·r) / √D ) v
  Variable attend(const Variable& q, const Variable& h, const Recent& past, ShortTermState& state,
                  const DistanceTable& distances, const TransformerOptions& o, const Pass& pass) const;
  /// y = residual1(x, z), then residual2(y, FF(y)), for the last steps x (B, n, C) and what attention makes of them.
  Variable finish(const Variable& x, const Variable& z, const TransformerOptions& o, const Pass& pass) const;
};

/// u and w (H, D) that all layers share; undefined ones if each layer has its own.
struct SharedBiases {
  Variable u, w;
  SharedBiases(Parameters& p, const TransformerOptions& o);
};

}  // namespace lem
