// Training on the sorting task: the loop, and everything that keeps a run from being lost.
#pragma once

#include <string>

#include "tasks/sort_model.h"

namespace lem {

/// How a run ended.
struct TrainResult {
  SortScore test;            // of the weights at the end
  int64_t step = 0;          // steps done
  double seconds = 0;        // spent in training, over all resumptions
  bool interrupted = false;  // by Ctrl-C: saved, not finished
};

/// Trains into the folder o.out: config.json, metrics.jsonl, last.safetensors and best.safetensors (by validation
/// accuracy), and at the end result.json. With `resume`, goes on from last.safetensors, bit for bit. Errors: a folder
/// that holds a run already (unless resuming); a loss or gradient that is not finite, with the step, the tensor and the
/// operation that made it.
TrainResult train_sort(const SortOptions& o, bool resume);

/// The checkpoint that a run's folder, or the path of a file, stands for.
std::string checkpoint_path(const std::string& folder_or_file, const char* name = "last.safetensors");

/// From the first Ctrl-C (or SIGTERM) on, true: finish the step, save, stop. A second one kills.
bool interrupted();
void catch_interrupts();

}  // namespace lem
