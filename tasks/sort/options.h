// Every setting of the sorting task's training and evaluation, with presets: the demo and the paper's three sizes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nn/continuous_memory.h"
#include "nn/transformer.h"
#include "tasks/common/option_flags.h"
#include "tasks/common/training_options.h"

namespace lem {

/// Of the parts' settings, those of a task side by side. The defaults are the demo preset of the ∞-former.
struct SortOptions {
  std::string model = "infinity", preset = "demo";
  int64_t symbols = 8, length = 500;
  int64_t segment = 64;                     // T
  std::string data, valid_data, test_data;  // files of sequences; "": drawn
  TransformerOptions transformer = {
      .layers = 2, .width = 64, .heads = 4, .ff = 128, .stm = 64, .dropout = 0, .tie_embedding = false};
  MemoryOptions memory = {.N = 64};
  TrainingOptions training;
  RunOptions run = {.out = "runs/demo/infinity"};
};

/// The table of `options`: it points into them.
OptionTable option_table(SortOptions& options);

/// The settings of a preset ("demo", "paper-4000", …) for a model ("infinity" or "transformer-xl").
SortOptions preset_options(const std::string& preset, const std::string& model);

/// Throws an Error for a value out of its range, or for values that cannot go together (width not a multiple of heads,
/// N not one of the basis's widths, …).
void validate(const SortOptions& options);

/// The sorting task's flags: what was given on the command line, then the config file, then a base.
class SortFlags {
 public:
  void add_to(CLI::App& app);
  /// On top of the preset that flags or file ask for.
  SortOptions resolve() const;
  /// On top of a checkpoint's options. An Error names every given option of scopes up to `fixed` that disagrees with
  /// it, and says `advice`.
  SortOptions resolve_over(const SortOptions& saved, Scope fixed,
                           const std::string& advice = "leave these out, or start anew") const;

 private:
  OptionFlags flags_;
};

/// From a checkpoint's JSON. `source` names it in errors.
SortOptions options_from_json(const nlohmann::json& config, const std::string& source);

}  // namespace lem
