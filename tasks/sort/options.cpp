#include "tasks/sort/options.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

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
      {"data", group, Scope::training, &o.data, "train on the sequences of this file; without it they are drawn",
       anything()},
      {"valid-data", group, Scope::run, &o.valid_data, "validate on the sequences of this file", anything()},
      {"test-data", group, Scope::run, &o.test_data, "test on the sequences of this file", anything()},
  };
}

OptionTable transformer_table(SortOptions& o) {
  const char* group = "Transformer";
  return {
      {"layers", group, Scope::weights, &o.layers, "layers", between(1, 1000)},
      {"width", group, Scope::weights, &o.width, "width C of the model: heads times an integer, even",
       between(2, 1 << 20)},
      {"heads", group, Scope::weights, &o.heads, "attention heads H", between(1, 1 << 16)},
      {"ff", group, Scope::weights, &o.ff, "width F of the feed-forward layers", between(1, 1 << 24)},
      {"segment", group, Scope::function, &o.segment, "tokens T of a segment", between(1, 1 << 24)},
      {"stm", group, Scope::function, &o.stm,
       "tokens S of the short-term memory; 0: none (paper's transformer-xl: 2048)", between(0, 1 << 24)},
      {"clamp-len", group, Scope::function, &o.clamp_len, "distances above it count as it; 0: no clamp", at_least(0)},
      {"same-length", group, Scope::function, &o.same_length, "every query sees exactly S keys", anything()},
      {"pre-norm", group, Scope::weights, &o.pre_norm, "normalise before each sublayer, not after", anything()},
      {"untie-uw", group, Scope::weights, &o.untie_uw, "u and w of their own in each layer", anything()},
      {"tie-embedding", group, Scope::weights, &o.tie_embedding, "logits from the embedding's table", anything()},
      {"dropout", group, Scope::training, &o.dropout, "dropout rate", between(0, 1, Ends::closed, Ends::open)},
      {"attention-dropout", group, Scope::training, &o.attention_dropout, "dropout rate of attention's probabilities",
       between(0, 1, Ends::closed, Ends::open)},
      {"init-std", group, Scope::weights, &o.init_std, "weights start from N(0, this²)", above(0)},
  };
}

OptionTable memory_table(SortOptions& o) {
  const char* group = "Continuous memory (infinity)";
  return {
      {"basis", group, Scope::weights, &o.basis, "basis functions",
       one_of({"gaussian", "power", "sine", "cosine", "rectangle"})},
      {"widths", group, Scope::weights, &o.widths, "widths of the Gaussians", at_least(1e-6)},
      {"N", group, Scope::weights, &o.N, "basis functions: a multiple of the number of widths", between(1, 1 << 20)},
      {"R", group, Scope::function, &o.R, "points at which the old signal is read", between(1, 1 << 20)},
      {"tau", group, Scope::function, &o.tau, "share of [0, 1] that the old signal keeps",
       between(0, 1, Ends::open, Ends::open)},
      {"lambda", group, Scope::function, &o.lambda, "ridge penalty", above(0)},
      {"padding", group, Scope::function, &o.padding, "fit zeros beside [0, 1] too", anything()},
      {"gate", group, Scope::weights, &o.gate, "smooth what enters the memory", anything()},
      {"density", group, Scope::function, &o.density, "attention's density",
       one_of({"gaussian", "truncated-gaussian", "parabola", "gibbs"})},
      {"parameters", group, Scope::weights, &o.parameters, "how its mean and variance come from the scores",
       one_of({"affine", "affine-per-head", "moments"})},
      {"grid", group, Scope::function, &o.grid, "points of the trapezoid rule (gibbs)", between(2, 1 << 20)},
      {"sigma2-min", group, Scope::function, &o.sigma2_min, "least variance", above(0)},
      {"lambda-kl", group, Scope::training, &o.lambda_kl, "weight of the regulariser", at_least(0)},
      {"sigma0", group, Scope::training, &o.sigma0, "the regulariser's standard deviation", at_least(1e-6)},
      {"mu0", group, Scope::training, &o.mu0, "the regulariser's mean", between(0, 1)},
      {"sticky", group, Scope::function, &o.sticky, "read the old signal more densely where attention went",
       anything()},
      {"sticky-draw", group, Scope::function, &o.sticky_draw, "how sticky points are drawn",
       one_of({"stratified", "multinomial"})},
      {"sticky-place", group, Scope::function, &o.sticky_place, "where in its bin a sticky point lies",
       one_of({"left", "centre", "uniform"})},
      {"bins", group, Scope::function, &o.bins, "bins K of the sticky histogram", between(2, 1 << 20)},
      {"grad-updates", group, Scope::training, &o.grad_updates, "gradient flows back through this many last updates",
       between(1, 1 << 20)},
      {"learned-gate", group, Scope::weights, &o.learned_gate, "weigh the memory's output by a learned gate",
       anything()},
  };
}

OptionTable training_table(SortOptions& o) {
  const char* group = "Training";
  return {
      {"steps", group, Scope::training, &o.steps, "steps", between(1, 1e12)},
      {"batch", group, Scope::training, &o.batch, "sequences a step", between(1, 1 << 20)},
      {"lr", group, Scope::training, &o.lr, "learning rate", above(0)},
      {"schedule", group, Scope::training, &o.schedule, "its course",
       one_of({"constant", "linear", "cosine", "inverse-sqrt"})},
      {"warmup", group, Scope::training, &o.warmup, "steps over which it rises from 0", at_least(0)},
      {"optimiser", group, Scope::training, &o.optimiser, "optimiser", one_of({"adam", "adamw"})},
      {"weight-decay", group, Scope::training, &o.weight_decay, "weight decay (adamw)", at_least(0)},
      {"beta1", group, Scope::training, &o.beta1, "Adam's β₁", between(0, 1, Ends::closed, Ends::open)},
      {"beta2", group, Scope::training, &o.beta2, "Adam's β₂", between(0, 1, Ends::closed, Ends::open)},
      {"adam-eps", group, Scope::training, &o.adam_eps, "Adam's ε", above(0)},
      {"clip", group, Scope::training, &o.clip, "largest gradient norm; 0: no clipping", at_least(0)},
      {"seed", group, Scope::training, &o.seed, "seed of weights, data and dropout", at_least(0)},
  };
}

OptionTable run_table(SortOptions& o) {
  const char* group = "Run";
  return {
      {"out", group, Scope::run, &o.out, "folder of the run", anything()},
      {"validate-every", group, Scope::run, &o.validate_every, "steps between validations; 0: none", at_least(0)},
      {"validation-samples", group, Scope::run, &o.validation_samples, "sequences of a validation", between(1, 1e12)},
      {"test-samples", group, Scope::run, &o.test_samples, "sequences of the test", between(1, 1e12)},
      {"save-every", group, Scope::run, &o.save_every, "steps between checkpoints; 0: only at the end", at_least(0)},
      {"device", group, Scope::run, &o.device, "device", one_of({"cpu", "simt", "cuda"})},
      {"threads", group, Scope::run, &o.threads, "threads; 0: one a core", between(0, 4096)},
      {"read-every", group, Scope::run, &o.read_every,
       "steps between looks at the loss, for which a GPU must be waited for; 0: 10 on a GPU, else 1",
       between(0, 10000)},
      {"detect-anomaly", group, Scope::run, &o.detect_anomaly, "find the first operation that makes a NaN (slow)",
       anything()},
      {"allow-tf32", group, Scope::run, &o.allow_tf32,
       "faster matrix products with relative errors of about 1e-3; only --device cuda has them, others compute as ever",
       anything()},
  };
}

/// What --help shows as an option's default: the demo's value, and the paper presets' where theirs differ.
std::string shown_default(const std::string& name) {
  if (name == "out") return "runs/PRESET/MODEL";
  std::vector<std::string> values;
  for (const std::string& preset : kPresets) {
    SortOptions options = preset_options(preset, "infinity");
    for (const Option& option : option_table(options))
      if (option.name == name) values.push_back(to_text(option));
  }
  if (name == "preset" || std::count(values.begin(), values.end(), values[0]) == 4) return values[0];
  if (std::count(values.begin(), values.end(), values[1]) == 3) values.resize(2);
  return fmt::format("{}; paper: {}", values[0], fmt::join(values.begin() + 1, values.end(), ", "));
}

void validate_memory(const SortOptions& o) {
  const int64_t widths = int64_t(o.widths.size());
  check(o.basis != "gaussian" || o.N % widths == 0,
        "[options] N must be a multiple of the number of widths, each width having its own row of centres: got N = {} "
        "and "
        "{} widths; try N = {}",
        o.N, widths, (o.N / widths + 1) * widths);
  check(o.parameters != "moments" || o.basis == "gaussian",
        "[options] parameters moments: got basis {}, expected gaussian: only its functions have centres and widths",
        o.basis);
  check(
      o.density != "gibbs" || !o.sticky,
      "[options] sticky: got density gibbs, which has no mean and variance to say where attention went; choose another "
      "density or --no-sticky");
}

}  // namespace

OptionTable option_table(SortOptions& options) {
  OptionTable table = task_table(options);
  for (const auto& part :
       {transformer_table(options), memory_table(options), training_table(options), run_table(options)})
    table.insert(table.end(), part.begin(), part.end());
  return table;
}

// The paper's sizes (section 4.1). Its 2e-4 was applied once per segment, mostly to vanished gradients that moved the
// weights by momentum alone; one step per batch does the same at 2e-4 · √segments: 4, 8 and 16 segments of 1,024
// tokens.
SortOptions preset_options(const std::string& preset, const std::string& model) {
  SortOptions o;
  o.model = model, o.preset = preset;
  o.out = fmt::format("runs/{}/{}", preset, model);
  if (preset == "demo") return o;
  check(std::find(kPresets.begin(), kPresets.end(), preset) != kPresets.end(),
        "[options] preset: got {}, expected one of {}", preset, fmt::join(kPresets, ", "));
  o.symbols = 20, o.length = preset == "paper-4000" ? 4000 : preset == "paper-8000" ? 8000 : 16000;
  o.layers = 3, o.heads = 6, o.width = 300, o.ff = 300;
  o.segment = 1024, o.stm = model == "transformer-xl" ? 2048 : 1024;
  o.N = 512, o.R = 512;
  o.dropout = .1;
  o.steps = 20000, o.batch = 8;
  o.lr = preset == "paper-4000" ? 4e-4 : preset == "paper-8000" ? 5.66e-4 : 8e-4;
  o.validate_every = 1000, o.validation_samples = 160, o.save_every = 500;
  return o;
}

void validate(SortOptions o) {
  for (const Option& option : option_table(o)) check_allowed(option, option.name);
  check(o.width % o.heads == 0,
        "[options] width must be heads times an integer: got width {} and {} heads; try width {}", o.width, o.heads,
        std::max<int64_t>(o.width / o.heads, 1) * o.heads);
  check(o.width % 2 == 0, "[options] width must be even, half sines and half cosines of the distance: got {}", o.width);
  check(!o.same_length || o.stm > 0,
        "[options] same-length: every query sees S keys, but stm is 0; give --stm or --no-same-length");
  if (o.model == "infinity") validate_memory(o);
  check(o.optimiser == "adamw" || o.weight_decay == 0,
        "[options] weight-decay: got {} with optimiser adam, whose second moments would undo it; choose adamw",
        o.weight_decay);
  check(o.warmup <= o.steps, "[options] warmup: got {}, expected at most the {} steps of the training", o.warmup,
        o.steps);
  check(o.schedule != "inverse-sqrt" || o.warmup > 0,
        "[options] schedule inverse-sqrt falls from the end of the warm-up: got warmup 0, expected at least 1");
  check(!o.out.empty(), "[options] out: got nothing, expected a folder for the run");
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

void save_options(const std::string& path, SortOptions options) {
  write_text(path, to_json(option_table(options)).dump(2) + "\n");
}

SortOptions options_from_json(const nlohmann::json& config, const std::string& source) {
  SortOptions options;
  set_from_json(option_table(options), config, source);
  validate(options);
  return options;
}

}  // namespace lem
