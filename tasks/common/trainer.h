// Training, as every task does it: the loop, and everything that keeps a run from being lost.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/split.h"
#include "models/documents.h"
#include "nn/checkpoint.h"
#include "tasks/common/training_options.h"

namespace lem {

/// One of the parts that a step reads one after the other.
struct StepPart {
  BatchSize size;
  /// Adds to the parameters' gradients what the part has in the mean over `whole`, the sizes of all parts together. Can
  /// be called again, to the same end: a step in which something was not finite is taken again under watch.
  std::function<BatchResult(const BatchSize& whole)> read;
};

/// What held-out data say of a model.
struct Measured {
  double merit = 0;                // the more the better: best.safetensors is of the validation with most
  nlohmann::ordered_json figures;  // loss, accuracy, …, by their names in metrics.jsonl and result.json
};

/// What a task brings to its training: a model, data to learn from, and a measure of success.
class Trainee {
 public:
  virtual ~Trainee() = default;

  /// All settings, by option name; "model" among them.
  virtual nlohmann::ordered_json settings() const = 0;
  virtual Parameters& parameters() = 0;
  virtual const Model& model() const = 0;
  /// The next step's data, in parts; moves on in the data. What is drawn follows from the place in the data: a run that
  /// was interrupted draws the same.
  virtual std::vector<StepPart> next_step() = 0;
  /// Throws Interrupted when the program is asked to stop.
  virtual Measured measure(Split split) const = 0;
  /// What the data to learn from are: a resumed run must meet the same.
  virtual std::string data_identity() const = 0;
  /// The place in the data, as fields of a checkpoint's progress; go_to() goes there. Fields that cannot be are an
  /// Error or nlohmann's exception.
  virtual nlohmann::ordered_json place() const = 0;
  virtual void go_to(const nlohmann::json& progress) = 0;
};

/// What a training begins with.
enum class Start {
  fresh,    // a new run; an Error if the folder holds one
  resumed,  // from last.safetensors on, bit for bit
  changed,  // from last.safetensors on, with settings of the training that may differ: from which step, the run records
};

/// How a run ended.
struct TrainResult {
  nlohmann::ordered_json test;  // the figures of the weights at the end
  int64_t step = 0;             // steps done
  double seconds = 0;           // spent in training, over all resumptions
  bool interrupted = false;     // by a signal: saved, not finished
};

/// Trains by the program build/`program` into the folder run.out: config.json, metrics.jsonl, last.safetensors and
/// best.safetensors (of the validations), and at the end result.json. Errors: a folder that another program is at work
/// in; data that is not what the run has seen so far; a loss or gradient that is not finite, with the step, the tensor
/// and the operation that made it.
TrainResult train(Trainee& trainee, const std::string& program, const TrainingOptions& training, const RunOptions& run,
                  Start start);

/// What a finished run's folder holds of its result; nothing if it was not finished after `steps` steps, or is damaged.
std::optional<TrainResult> finished_result(const std::string& folder, int64_t steps);

/// The model's warning, if it has one, to standard error.
void print_warning(const Model& model);
/// An Error by the name `who` unless `identity` is that of the data that a checkpoint's run has seen.
void check_same_data(const std::string& who, const std::string& program, const Checkpoint& checkpoint,
                     const std::string& identity);
/// The checkpoint that a run's folder, or the path of a file, stands for.
std::string checkpoint_path(const std::string& folder_or_file);
/// The folder of the run to resume: `folder_or_last` names it, or last.safetensors in it.
std::string resumed_folder(const std::string& folder_or_last);

}  // namespace lem
