// Training on the sorting task: the loop, and everything that keeps a run from being lost.
#pragma once

#include <optional>
#include <string>

#include "nn/checkpoint.h"
#include "tasks/sort/model.h"

namespace lem {

/// How a run ended.
struct TrainResult {
  SortScore test;            // of the weights at the end
  int64_t step = 0;          // steps done
  double seconds = 0;        // spent in training, over all resumptions
  bool interrupted = false;  // by a signal: saved, not finished
};

/// What a training begins with.
enum class Start {
  fresh,    // a new run; an Error if the folder holds one
  resumed,  // from last.safetensors on, bit for bit
  changed,  // from last.safetensors on, with settings of the training that may differ: from which step, the run records
};

/// Trains into the folder o.out: config.json, metrics.jsonl, last.safetensors and best.safetensors (by validation
/// accuracy), and at the end result.json. Errors: a folder that another program is at work in; data that is not what
/// the run has seen so far; a loss or gradient that is not finite, with the step, the tensor and the operation that
/// made it.
TrainResult train_sort(const SortOptions& o, Start start);

/// An Error unless `data` is what the run of a checkpoint has seen so far.
void check_same_data(const char* program, const Checkpoint& checkpoint, const SortingData& data);

/// What a finished run's folder holds of its result; nothing if it is not finished with these options' steps and
/// test.
std::optional<TrainResult> finished_result(const SortOptions& o);

/// The checkpoint that a run's folder, or the path of a file, stands for.
std::string checkpoint_path(const std::string& folder_or_file);
/// The folder of the run to resume: `folder_or_last` names it, or last.safetensors in it.
std::string resumed_folder(const std::string& folder_or_last);

}  // namespace lem
