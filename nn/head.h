// From hidden states to words: logits over the vocabulary, and what is made of them.
#pragma once

#include <string>

#include "nn/layers.h"

namespace lem {

struct Head {
  Variable weight, bias;  // (C, V), or the embedding's table (V, C) if tied; (V)
  bool tied = false;

  Head() = default;
  /// Without `table`, weights of its own.
  Head(Parameters& p, int64_t vocab, int64_t width, double init_std, const Variable& table = {});

  /// hidden (B, n, C) → (B, n, V)
  Variable logits(const Variable& hidden) const;

  struct Score {
    Variable loss;     // (1): scale · Σ cross entropy over the targets that count
    Tensor each;       // (B·n): every target's, 0 where it does not count
    Tokens predicted;  // (B, n): the likeliest word
  };
  /// targets (B·n); negative ones do not count.
  Score score(const Variable& hidden, const Tokens& targets, double scale) const;
};

}  // namespace lem
