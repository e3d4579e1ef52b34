// From the sorting task's settings to a model and its data.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "data/sorting_file.h"
#include "models/documents.h"
#include "models/infinity_former.h"
#include "models/transformer_xl.h"
#include "nn/optimizer.h"
#include "tasks/sort/options.h"

namespace lem {

/// With the vocabulary of the task's symbols.
TransformerOptions transformer_options(const SortOptions& o);

/// The model that the options name, its parameters packed.
struct SortModel {
  explicit SortModel(const SortOptions& o);

  Parameters parameters;
  std::unique_ptr<Model> model;
};

/// The samples of a split: from the file that the options name for it, or drawn.
SortingData sorting_data(const SortOptions& o, Split split);
/// Samples first … first + count − 1 as one batch.
DocumentBatch sorting_batch(const SortingData& data, int64_t first, int64_t count);

struct SortScore {
  double loss = 0;      // nats per symbol
  double accuracy = 0;  // share of the symbols that are named right
  double ceiling_all = 0, ceiling_visible = 0;
  int64_t samples = 0;
};
/// As fields of result.json; from them, where one that is missing or no number is nlohmann's exception.
nlohmann::ordered_json to_json(const SortScore& score);
SortScore sort_score(const nlohmann::ordered_json& result);
/// What a model reaches on the first `samples` samples of a split, whose progress is shown by the name `label`. Throws
/// Interrupted when the program is asked to stop.
SortScore evaluate(const Model& model, const SortOptions& o, const SortingData& data, int64_t samples,
                   const char* label);

/// An Error, before anything long begins, if what these options need for certain is more than there is: what it is, and
/// which options make it so. With `training` also what gradients need.
void check_memory(const SortOptions& o, bool training);

}  // namespace lem
