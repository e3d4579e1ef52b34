// How many operations a training step on the sorting task must do: the products that the model's equations ask for (2 m
// n k each), and no more. Not counted: what a mask hides, what is computed again for want of memory, elementwise work.
#pragma once

#include "tasks/sort/options.h"

namespace lem {

/// Pairs (query, key) that a causal mask leaves to T queries at the end of K keys.
inline double causal_pairs(double T, double K) { return T * (K - T) + T * (T + 1) / 2; }

/// Of one optimiser step as models/documents.h takes it: segments without targets only fill the memories, without the
/// last layer; in the last segment the last layer is computed for the scored suffix; backward there alone.
double useful_flops(const SortOptions& o);

}  // namespace lem
