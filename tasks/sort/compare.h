// The ∞-former against a Transformer-XL with the same short-term memory, trained the same way: what `make sort` runs.
#pragma once

#include <string>

#include "tasks/sort/options.h"

namespace lem {

/// Trains both models with these options (options.model and options.out are ignored) into root/infinity and
/// root/transformer-xl, prints a table, and writes curves.svg and summary.json beside them. What is in these folders
/// already is gone on with: a finished run is kept, an unfinished one resumed. An Error, before anything is touched, if
/// one was made with other settings. Returns the exit code.
int compare_sort(const SortOptions& options, const std::string& root);

}  // namespace lem
