#include "tasks/sort/options.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/sorting.h"
#include "tensor/error.h"
#include "tensor/io/files.h"

namespace lem {
namespace {

const std::vector<std::string> kPresets = {"demo", "paper-4000", "paper-8000", "paper-16000"};

OptionTable task_table(SortOptions& o) {
  const char* group = "Task";
  return {
      {"model", group, Scope::weights, &o.model, "model", one_of({"infinity", "transformer-xl"})},
      {"preset", group, Scope::weights, &o.preset, "settings to start from", one_of(kPresets)},
      {"symbols", group, Scope::weights, &o.symbols, "different symbols", between(2, 10000)},
      {"length", group, Scope::function, &o.length, "tokens in a sequence; a data file's own length wins",
       between(1, 1e9)},
      {"segment", group, Scope::function, &o.segment, "tokens T that are read at a time", between(1, 1 << 24)},
      {"data", group, Scope::training, &o.data, "train on the sequences of this file; without it they are drawn",
       anything()},
      {"valid-data", group, Scope::run, &o.valid_data, "validate on the sequences of this file", anything()},
      {"test-data", group, Scope::run, &o.test_data, "test on the sequences of this file", anything()},
  };
}

std::string preset_value(const std::string& name, const std::string& preset, const std::string& model) {
  SortOptions options = preset_options(preset, model);
  for (const Option& option : option_table(options))
    if (option.name == name) return to_text(option);
  return {};
}

/// What --help shows as an option's default: the demo's value, and the paper presets' where theirs differ, each with
/// Transformer-XL's where it has another.
std::string shown_default(const std::string& name) {
  if (name == "out") return "runs/PRESET/MODEL";
  std::vector<std::string> values;
  for (const std::string& preset : kPresets) {
    const std::string infinity = preset_value(name, preset, "infinity"),
                      xl = preset_value(name, preset, "transformer-xl");
    const bool same = name == "model" || infinity == xl;
    values.push_back(same ? infinity : fmt::format("{} (transformer-xl: {})", infinity, xl));
  }
  if (name == "preset" || std::count(values.begin(), values.end(), values[0]) == 4) return values[0];
  if (std::count(values.begin(), values.end(), values[1]) == 3) values.resize(2);
  return fmt::format("{}; paper: {}", values[0], fmt::join(values.begin() + 1, values.end(), ", "));
}

}  // namespace

OptionTable option_table(SortOptions& o) {
  OptionTable table = task_table(o);
  for (const OptionTable& part :
       {option_table(o.transformer), option_table(o.memory), option_table(o.training), option_table(o.run)})
    table.insert(table.end(), part.begin(), part.end());
  return table;
}

// The paper's sizes (section 4.1). Its 2e-4 was applied once per segment, mostly to vanished gradients that moved the
// weights by momentum alone; one step per batch does the same at 2e-4 · √segments: 4, 8 and 16 segments of 1,024
// tokens.
SortOptions preset_options(const std::string& preset, const std::string& model) {
  SortOptions o;
  o.model = model, o.preset = preset;
  o.run.out = fmt::format("runs/{}/{}", preset, model);
  if (preset == "demo") return o;
  check(std::find(kPresets.begin(), kPresets.end(), preset) != kPresets.end(),
        "[options] preset: got {}, expected one of {}", preset, fmt::join(kPresets, ", "));
  o.symbols = 20, o.length = preset == "paper-4000" ? 4000 : preset == "paper-8000" ? 8000 : 16000;
  o.segment = 1024;
  o.transformer = {.layers = 3,
                   .width = 300,
                   .heads = 6,
                   .ff = 300,
                   .stm = model == "transformer-xl" ? 2048 : 1024,
                   .dropout = .1,
                   .tie_embedding = false};
  o.memory.N = 512, o.memory.R = 512;
  o.training.steps = 20000, o.training.batch = 8;
  o.training.lr = preset == "paper-4000" ? 4e-4 : preset == "paper-8000" ? 5.66e-4 : 8e-4;
  o.run.validate_every = 1000, o.run.validation_samples = 160, o.run.save_every = 500;
  return o;
}

void validate(const SortOptions& options) {
  SortOptions o = options;
  check_allowed(task_table(o));
  o.transformer.vocab = sorting_vocabulary(int32_t(o.symbols));
  check_options(o.transformer);
  if (o.model == "infinity")
    check_options(o.memory);
  else
    check_allowed(option_table(o.memory));
  check_options(o.training);
  check_options(o.run);
}

void SortFlags::add_to(CLI::App& app) {
  SortOptions shown;
  flags_.add_to(app, option_table(shown), [](const Option& option) { return shown_default(option.name); });
}

namespace {

/// What the command line or a config file got wrong is a UsageError, whoever found it.
template <class Resolve>
SortOptions as_usage(Resolve resolve) {
  try {
    return resolve();
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

}  // namespace

SortOptions SortFlags::resolve() const {
  return as_usage([&] {
    SortOptions asked;
    flags_.apply_to(option_table(asked));
    SortOptions options = preset_options(asked.preset, asked.model);
    flags_.apply_to(option_table(options));
    validate(options);
    return options;
  });
}

SortOptions SortFlags::resolve_over(const SortOptions& saved, Scope fixed, const std::string& advice) const {
  return as_usage([&] {
    SortOptions before = saved, options = saved;
    flags_.apply_to(option_table(options));
    const auto lines = differences(option_table(before), option_table(options), fixed);
    check(lines.empty(), "[options] the checkpoint was made with other settings:\n    {}\n{}",
          fmt::join(lines, "\n    "), advice);
    validate(options);
    return options;
  });
}

SortOptions options_from_json(const nlohmann::json& config, const std::string& source) {
  SortOptions options;
  set_from_json(option_table(options), config, source);
  validate(options);
  return options;
}

}  // namespace lem
