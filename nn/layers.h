// Layers: parameters plus the operation that uses them. Each is a small value; calling it records on the tape.
#pragma once

#include <string>

#include "autograd/ops.h"
#include "nn/parameters.h"

namespace lem {

/// What a forward pass needs beside its inputs: whether this is training, and where dropout draws from.
struct Pass {
  bool training = false;
  Random* random = nullptr;
  /// A number for the weights as they are (new_weights_number). Keys and values that a state keeps of its last segment
  /// serve again in a pass of the same number; 0: none are kept.
  uint64_t weights = 0;
  /// The number of the batch's first row among all that the run reads; the others follow. Rows drop by their numbers,
  /// in whatever batches they come.
  uint64_t first = 0;

  /// Dropout of rate p: none in evaluation. `size`: elements a row.
  Dropout dropout(double p, int64_t size) const;
};

/// For Pass::weights: a number that no other weights have had.
uint64_t new_weights_number();

/// y = x W (+ b); W: (in, out)
struct Linear {
  Variable W, b;
  Linear() = default;
  Linear(Parameters& p, const std::string& weight_name, int64_t in, int64_t out, double init_std,
         const std::string& bias_name = "");
  Variable operator()(const Variable& x) const;
};

/// Token vectors, times √C as in Transformer-XL. With `tied`, the same table gives the logits.
struct Embedding {
  Variable table;  // (V, C)
  Embedding() = default;
  Embedding(Parameters& p, const std::string& name, int64_t vocab, int64_t width, double init_std);
  Variable operator()(const Tokens& tokens) const;
};

/// LayerNorm(x + dropout(z + z_bias))
struct LayerNorm {
  Variable gamma, beta;  // (C)
  LayerNorm() = default;
  LayerNorm(Parameters& p, const std::string& name, int64_t width);
  Variable operator()(const Variable& x, const Variable& z = {}, const Variable& z_bias = {},
                      Dropout dropout = {}) const;
};

/// Linear(C, F) → ReLU → dropout → Linear(F, C). The last bias and dropout belong to the residual sum that follows: see
/// LayerNorm, which fuses them; b2 is public for it.
struct FeedForward {
  Variable w1, b1, w2, b2;
  FeedForward() = default;
  FeedForward(Parameters& p, const std::string& name, int64_t width, int64_t inner, double init_std);
  Variable operator()(const Variable& x, Dropout inner_dropout) const;
};

/// X ⊙ sigmoid(Conv1d(X)): kernel 3 over time, C → C; smooths what enters the memory (docs/continuous-memory.md, "What
/// enters")
struct TimeGate {
  Variable weight, bias;  // (3, C, C), (C)
  TimeGate() = default;
  TimeGate(Parameters& p, const std::string& name, int64_t width, double init_std);
  Variable operator()(const Variable& x) const;
};

/// Keys and values, (B, K, C) each, and projected distances, (K, C) with the largest first, made by weights of the
/// number `weights` (see Pass).
struct KeysAndValues {
  Tensor k, v, r;
  uint64_t weights = 0;
};

/// The projections of relative attention, with u and w given by the model: they may be shared by all layers.
struct RelativeAttentionLayer {
  Variable w_q, w_k, w_v, w_r, w_o;  // (C, C)
  RelativeAttentionLayer() = default;
  RelativeAttentionLayer(Parameters& p, const std::string& name, int64_t width, double init_std);

  /// Queries: (B, T, C) → (B, T, C)
  Variable queries(const Variable& x) const { return linear(x, w_q); }
  /// softmax(scores) v, heads concatenated, before W_o. q: (B, Tq, C), the last Tq of x's T steps; past: (B, S', C) or
  /// undefined; positions: (S' + T, C), sinusoids of the distances, largest first. kept: in, keys and values that end
  /// with those of `past`, or undefined ones; out, those of past and x.
  Variable attend(const Variable& q, const Variable& past, const Variable& x, const Tensor& positions,
                  const Variable& u, const Variable& w, const RelativeAttentionOptions& options,
                  KeysAndValues& kept) const;
};

/// Sinusoids of the distances K − 1 … 0, each at most `clamp` (0: no clamp): (K, C). Dai et al., section 3.3.
Tensor distance_sinusoids(int64_t K, int64_t width, int64_t clamp, Device device);

}  // namespace lem
