// The sorting task's side of a training (tasks/common/trainer.h).
#pragma once

#include <optional>

#include "tasks/common/trainer.h"
#include "tasks/sort/model.h"

namespace lem {

/// Trains a model of these options into the folder o.run.out.
TrainResult train_sort(const SortOptions& o, Start start);

/// What the folder o.run.out holds of a finished run; nothing if it is not finished, or not with these steps and this
/// test.
std::optional<TrainResult> finished_sort(const SortOptions& o);

}  // namespace lem
