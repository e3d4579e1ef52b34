// Every setting of the sorting task's training and evaluation, with presets: the demo and the paper's three sizes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tasks/common/options.h"

namespace lem {

/// The defaults are the demo preset of the ∞-former.
struct SortOptions {
  std::string model = "infinity", preset = "demo";

  // The task.
  int64_t symbols = 8, length = 500;
  std::string data, valid_data, test_data;  // files of sequences; "": drawn

  // Transformer-XL.
  int64_t layers = 2, width = 64, heads = 4, ff = 128;  // –, C, H, F
  int64_t segment = 64, stm = 64;                       // T, S
  int64_t clamp_len = 0;
  bool same_length = false, pre_norm = false, untie_uw = false, tie_embedding = false;
  double dropout = 0, attention_dropout = 0, init_std = .02;

  // The continuous memory.
  std::string basis = "gaussian";
  std::vector<double> widths = {.01, .05};  // Σ
  int64_t N = 64, R = 512;
  double tau = .75, lambda = 1;
  bool padding = true, gate = true;
  std::string density = "gaussian", parameters = "affine";
  int64_t grid = 1001;
  double sigma2_min = 1e-6, sigma0 = .05, lambda_kl = 1e-6;
  std::optional<double> mu0;
  bool sticky = false;
  std::string sticky_draw = "stratified", sticky_place = "left";
  int64_t bins = 128;  // K
  int64_t grad_updates = 1;
  bool learned_gate = false;

  // Training.
  int64_t steps = 1000, batch = 16;
  double lr = 2.8e-3;
  std::string schedule = "cosine";
  int64_t warmup = 0;
  std::string optimiser = "adam";
  double weight_decay = 0, beta1 = .9, beta2 = .999, adam_eps = 1e-8, clip = .25;
  int64_t seed = 1;

  // The run.
  std::string out = "runs/demo/infinity";
  int64_t validate_every = 100, validation_samples = 160, test_samples = 800, save_every = 200;
  std::string device = "cpu";
  int64_t threads = 0;
  int64_t read_every = 0;
  bool detect_anomaly = false, allow_tf32 = false;
};

/// The table of `options`: it points into them.
OptionTable option_table(SortOptions& options);

/// The settings of a preset ("demo", "paper-4000", …) for a model ("infinity" or "transformer-xl").
SortOptions preset_options(const std::string& preset, const std::string& model);

/// Throws an Error for a value out of its range, or for values that cannot go together (width not a multiple of heads,
/// N not one of the basis's widths, …).
void validate(SortOptions options);

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

/// The configuration saved with a run; --config reads it back.
void save_options(const std::string& path, SortOptions options);
/// From a checkpoint's JSON. `source` names it in errors.
SortOptions options_from_json(const nlohmann::json& config, const std::string& source);

}  // namespace lem
