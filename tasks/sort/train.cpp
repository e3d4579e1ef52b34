#include "tasks/sort/train.h"

#include <sys/stat.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "nn/checkpoint.h"
#include "tasks/common/metrics.h"
#include "tasks/common/program.h"
#include "tasks/common/progress.h"
#include "tasks/common/run_folder.h"
#include "tensor/io/files.h"

namespace lem {
namespace {

using nlohmann::ordered_json;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool exists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

/// A training in progress: all that a checkpoint must hold.
class Trainer {
 public:
  explicit Trainer(const SortOptions& o)
      : o_(o),
        net_(o),
        adam_(net_.parameters, adam_options(o.training)),
        schedule_(schedule(o.training)),
        data_(sorting_data(o, Split::train)) {
    tape().detect_anomaly = o.run.detect_anomaly;
  }

  struct Step {
    int64_t number;  // 1 for the first
    double loss, accuracy, grad_norm, kl;
    int64_t tokens;
  };
  /// Takes a step; does not wait for the device.
  void step();
  /// Hands the figures of each step since the last call to `visit`, in order: waits for the device. An Error at the
  /// first that is not finite.
  template <class Visit>
  void read(Visit visit);
  int64_t unread() const { return int64_t(unread_.size()); }
  void save(const std::string& name) const;
  void restore(const Checkpoint& checkpoint, Start start);

  const Model& model() const { return *net_.model; }
  int64_t steps_done = 0;
  int64_t validated = 0;  // the last step after which there was a validation
  double best_accuracy = -1, seconds = 0;
  ordered_json changes = ordered_json::array();  // {"step", "settings"}: what was changed in the middle of the run

 private:
  /// A step whose figures are still on the device, and what it takes to take it again.
  struct Unread {
    int64_t steps_before, first_sample;
    BatchResult result;
    Tensor grad_squares;
  };
  BatchResult gradients(const DocumentBatch& batch);
  [[noreturn]] void explain_nonfinite(const Unread& step, double loss);

  SortOptions o_;
  SortModel net_;
  Adam adam_;
  Schedule schedule_;
  SortingData data_;
  int64_t next_sample_ = 0;
  std::vector<Unread> unread_;
};

BatchResult Trainer::gradients(const DocumentBatch& batch) {
  net_.parameters.zero_grad();
  // Behind the streams that the initial weights were drawn from; the same in each step, as no two read the same sample.
  Random random{uint64_t(o_.training.seed), uint64_t(1) << 32};
  return read_documents(*net_.model, batch, o_.segment, {.training = true, .random = &random}, true);
}

void Trainer::step() {
  BatchResult result = gradients(sorting_batch(data_, next_sample_, o_.training.batch));
  adam_.step(schedule_.at(steps_done));  // does nothing if a gradient is not finite
  unread_.push_back({steps_done++, next_sample_, std::move(result), adam_.grad_squares()});
  next_sample_ += o_.training.batch;
}

template <class Visit>
void Trainer::read(Visit visit) {
  for (const Unread& u : std::exchange(unread_, {})) {
    const Step step{.number = u.steps_before + 1,
                    .loss = u.result.loss(),
                    .accuracy = double(u.result.correct()) / double(u.result.scored()),
                    .grad_norm = std::sqrt(item(u.grad_squares)),
                    .kl = u.result.auxiliary("kl"),
                    .tokens = u.result.tokens()};
    if (!std::isfinite(step.loss) || !std::isfinite(step.grad_norm)) explain_nonfinite(u, step.loss);
    visit(step);
  }
}

// The optimiser has left the weights alone since, so the step can be taken again: for its gradients, and then with
// every operation under watch.
void Trainer::explain_nonfinite(const Unread& step, double loss) {
  const DocumentBatch batch = sorting_batch(data_, step.first_sample, o_.training.batch);
  std::string what = "the gradients are too large for their norm to be finite";
  std::string origin = "no operation made it when the step was repeated";
  for (const bool watched : {false, true}) {
    tape().clear();
    tape().detect_anomaly = watched;
    try {
      gradients(batch);
    } catch (const Error& anomaly) {
      origin = anomaly.what();
    }
    if (watched) break;
    for (const Parameters::Named& p : net_.parameters.named())
      if (p.grad.defined() && count_nonfinite(p.grad) > 0) {
        what = fmt::format("the gradient of {} is not finite", p.name);
        break;
      }
  }
  if (!std::isfinite(loss)) what = fmt::format("the loss is {}", std::isnan(loss) ? "NaN" : "infinite");
  const std::string failed = fmt::format("[train] step {}: {}. {}.", step.steps_before + 1, what, origin);
  if (step.steps_before == 0)
    fail(
        "{} It is the first step, so that no learning rate mends it: look at what the operation is given (--init-std, "
        "--lambda-kl and --sigma0, --lambda), and start anew in another folder (--out)",
        failed);
  fail(
      "{} The weights are unchanged since step {}; the last checkpoint in {} is good. Go on from it with a smaller "
      "learning rate, or clip gradients harder (--clip):\n"
      "    build/sort train --resume {} --change-training --lr {:.3g}",
      failed, step.steps_before, o_.run.out, shell_word(o_.run.out), o_.training.lr / 10);
}

void Trainer::save(const std::string& name) const {
  SortOptions options = o_;
  save_checkpoint(o_.run.out + "/" + name, net_.parameters, &adam_, to_json(option_table(options)),
                  ordered_json{{"step", steps_done},
                               {"validated", validated},
                               {"next_sample", next_sample_},
                               {"data", data_.identity()},
                               {"best_accuracy", best_accuracy},
                               {"seconds", seconds},
                               {"changes", changes}});
}

/// Settings that differ from those of a checkpoint, as {"lr": {"from": 1, "to": 2}, …}.
ordered_json changed_settings(const nlohmann::json& before, SortOptions o) {
  ordered_json changed = ordered_json::object();
  const ordered_json after = to_json(option_table(o));
  for (const auto& [name, value] : after.items())
    if (name != "out" && before.contains(name) && before[name] != nlohmann::json(value))
      changed[name] = {{"from", before[name]}, {"to", value}};
  return changed;
}

/// What the data was that a checkpoint's run has seen.
std::string seen_data(const Checkpoint& checkpoint) {
  try {
    return checkpoint.progress.at("data");
  } catch (const nlohmann::json::exception& e) {
    fail("[checkpoint] the progress in its metadata is damaged, or another version's: {}", e.what());
  }
}

void Trainer::restore(const Checkpoint& checkpoint, Start start) {
  checkpoint.load(net_.parameters);
  checkpoint.load(adam_, net_.parameters);
  const std::string data = seen_data(checkpoint);
  try {
    const nlohmann::json& p = checkpoint.progress;
    steps_done = p.at("step"), validated = p.at("validated"), next_sample_ = p.at("next_sample");
    best_accuracy = p.at("best_accuracy"), seconds = p.at("seconds");
    changes = p.at("changes");
  } catch (const nlohmann::json::exception& e) {
    fail("[checkpoint] the progress in its metadata is damaged, or another version's: {}", e.what());
  }
  check(steps_done >= 0 && next_sample_ >= 0 && next_sample_ <= std::numeric_limits<int64_t>::max() - o_.training.batch,
        "[checkpoint] the progress in its metadata is damaged: step {}, next sample {}", steps_done, next_sample_);
  if (start != Start::changed) return check_same_data("train", checkpoint, data_);
  if (o_.training.steps < steps_done)
    throw UsageError(
        fmt::format("[train] this run has taken {} steps already: got --steps {}; give more, or leave it out",
                    steps_done, o_.training.steps));
  ordered_json change = {{"step", steps_done}, {"settings", changed_settings(checkpoint.config, o_)}};
  if (data != data_.identity()) change["data"] = {{"from", data}, {"to", data_.identity()}};
  changes.push_back(change);
}

void write_result(const SortOptions& o, const TrainResult& result) {
  const ordered_json json = {{"model", o.model},
                             {"steps", result.step},
                             {"accuracy", result.test.accuracy},
                             {"loss", result.test.loss},
                             {"seconds", result.seconds},
                             {"test_samples", result.test.samples},
                             {"test_data", sorting_data(o, Split::test).identity()},
                             {"ceiling_all", result.test.ceiling_all},
                             {"ceiling_visible", result.test.ceiling_visible}};
  write_text(o.run.out + "/result.json", json.dump(2) + "\n");
}

}  // namespace

std::string checkpoint_path(const std::string& folder_or_file) {
  struct stat info;
  check(::stat(folder_or_file.c_str(), &info) == 0,
        "[checkpoint] there is no {}: give a run's folder or a .safetensors file", folder_or_file);
  return S_ISDIR(info.st_mode) ? folder_or_file + "/last.safetensors" : folder_or_file;
}

void check_same_data(const char* program, const Checkpoint& checkpoint, const SortingData& data) {
  const std::string seen = seen_data(checkpoint);
  check(seen == data.identity(),
        "[{}] the data is not what this run has seen so far: got {}, expected {}; bring that file back to go on "
        "exactly, or go on with what is there by --change-training of build/sort train",
        program, data.identity(), seen);
}

std::string resumed_folder(const std::string& folder_or_last) {
  const std::string path = checkpoint_path(folder_or_last);
  check(std::filesystem::path(path).filename() == "last.safetensors",
        "[train] a run goes on from last.safetensors in its folder: got {}; resume {}", path,
        shell_word(parent_folder(path)));
  return parent_folder(path);
}

std::optional<TrainResult> finished_result(const SortOptions& o) {
  if (!exists(o.run.out + "/result.json")) return std::nullopt;
  try {
    const nlohmann::json json = nlohmann::json::parse(read_text(o.run.out + "/result.json", 1 << 20));
    TrainResult result;
    result.step = json.at("steps"), result.seconds = json.at("seconds");
    result.test = {.loss = json.at("loss"),
                   .accuracy = json.at("accuracy"),
                   .ceiling_all = json.at("ceiling_all"),
                   .ceiling_visible = json.at("ceiling_visible"),
                   .samples = json.at("test_samples")};
    const SortingData data = sorting_data(o, Split::test);
    const int64_t samples = data.size() > 0 ? std::min(o.run.test_samples, data.size()) : o.run.test_samples;
    if (result.step != o.training.steps || result.test.samples != samples || json.at("test_data") != data.identity())
      return std::nullopt;
    return result;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // damaged: the test is made again
  }
}

TrainResult train_sort(const SortOptions& o, Start start) {
  use_machine(o.run);
  check_memory(o, true);
  const RunFolder folder(o.run.out);
  check(start != Start::fresh || !exists(o.run.out + "/last.safetensors"),
        "[train] {} holds a run already: go on with --resume {}, choose another folder with --out, or remove it",
        o.run.out, shell_word(o.run.out));
  Trainer trainer(o);
  if (start != Start::fresh) trainer.restore(Checkpoint(o.run.out + "/last.safetensors"), start);
  MetricsFile metrics(o.run.out + "/metrics.jsonl", trainer.steps_done);
  const SortingData validation = sorting_data(o, Split::validation);
  Progress progress(o.model, trainer.steps_done, o.training.steps);
  catch_interrupts();
  // An unwritable folder or a full disk shows now, not after an hour.
  if (start != Start::resumed) trainer.save("last.safetensors");
  save_options(o.run.out + "/config.json", o);
  if (start == Start::changed) metrics.append({{"step", trainer.steps_done}, {"change", trainer.changes.back()}});

  const auto every = [&](int64_t period) {
    return period > 0 && trainer.steps_done > 0 && trainer.steps_done % period == 0;
  };
  // On a GPU the host only queues work: to look at a loss it must wait until all of it is done.
  const int64_t read_every = o.run.read_every > 0 ? o.run.read_every : o.run.device == "cuda" ? 10 : 1;
  const auto report = [&] {
    trainer.read([&](const Trainer::Step& step) {
      progress.update(step.number, step.loss, step.accuracy, step.tokens);
      metrics.append({{"step", step.number},
                      {"loss", step.loss},
                      {"accuracy", step.accuracy},
                      {"grad_norm", step.grad_norm},
                      {"kl", step.kl},
                      {"lr", schedule(o.training).at(step.number - 1)}});
    });
  };
  auto began = std::chrono::steady_clock::now();
  const auto save = [&](const char* name) {
    report();
    folder.check_in_place();
    trainer.seconds += seconds_since(began);
    began = std::chrono::steady_clock::now();
    metrics.sync();
    try {
      trainer.save(name);
    } catch (const Error&) {
      folder.check_in_place();  // says more than that a file cannot be written
      throw;
    }
  };
  const auto validate = [&] {
    report();
    progress.erase();
    const SortScore score = evaluate(trainer.model(), o, validation, o.run.validation_samples, "validation");
    metrics.append(
        {{"step", trainer.steps_done}, {"validation_loss", score.loss}, {"validation_accuracy", score.accuracy}});
    trainer.validated = trainer.steps_done;
    if (score.accuracy > trainer.best_accuracy) {
      trainer.best_accuracy = score.accuracy;
      save("best.safetensors");
    }
  };
  TrainResult result;
  try {
    for (;;) {
      if (every(o.run.validate_every) && trainer.validated < trainer.steps_done) validate();
      if (every(o.run.save_every)) save("last.safetensors");
      if (every(o.run.validate_every) || every(o.run.save_every)) progress.skip_pause();
      if (trainer.steps_done >= o.training.steps || interrupted()) break;
      trainer.step();
      if (trainer.unread() >= read_every) report();
    }
    save("last.safetensors");
    if (!interrupted()) {
      progress.finish();
      result.test = evaluate(trainer.model(), o, sorting_data(o, Split::test), o.run.test_samples, "test");
    }
  } catch (const Interrupted&) {  // in a validation or the test: it is made again when the run goes on
    save("last.safetensors");
  }
  progress.finish();
  result.step = trainer.steps_done, result.seconds = trainer.seconds, result.interrupted = interrupted();
  if (!result.interrupted) write_result(o, result);
  print_warning(trainer.model());
  return result;
}

}  // namespace lem
