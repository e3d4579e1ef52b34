// The ∞-former against a Transformer-XL with the same short-term memory, trained the same way: what `make sort` runs.
#pragma once

#include "tasks/sort_options.h"

namespace lem {

/// Trains both models with these options (options.model is ignored) into options.out's parent/infinity and
/// …/transformer-xl, prints a table, and writes curves.svg and summary.json beside them. What an earlier run left in
/// these folders is replaced. Returns the exit code.
int compare_sort(const SortOptions& options);

}  // namespace lem
