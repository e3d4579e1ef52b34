// The short-term memory of one layer (Dai et al., arXiv 1901.02860, section 3.2): its last S inputs, of earlier
// segments, to which its queries attend beside the segment's own.
#pragma once

#include <string>
#include <vector>

#include "nn/layers.h"
#include "nn/state.h"

namespace lem {

/// What a layer has at hand of the past, and what it has to let go of.
struct Recent {
  Tensor stm;                      // (B, S', C): the last S' ≤ S inputs; undefined if there are none
  Tensor leaving;                  // (B, L, C): those before, that leave now; undefined if none do
  std::vector<int64_t> newcomers;  // (B): how many of `leaving` are the row's current document's: the last ones
  Tokens first_key;  // (B): the first of S' + T keys that is the current document's; undefined: 0 for all rows
  KeysAndValues kept;

  int64_t steps() const { return stm.defined() ? stm.dim(1) : 0; }
};

struct ShortTermState {
  int64_t width;       // C
  Tensor recent;       // (B, n, C): inputs that have not left yet, the last segment's among them
  KeysAndValues kept;  // of those steps, where the same weights read the next segment too

  void visit(Fields& fields);
  void check(const StateCheck& check, const std::string& name, const std::vector<int64_t>& ages) const;

  /// x (B, T, C), the segment's inputs, enter; all but the last S of the earlier ones leave. `ages`: as before the
  /// segment. What is kept by other weights than the pass's is dropped.
  Recent advance(const Variable& x, int64_t S, const std::vector<int64_t>& ages, const Pass& pass);
};

}  // namespace lem
