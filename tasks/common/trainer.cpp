#include "tasks/common/trainer.h"

#include <sys/stat.h>

#include <chrono>
#include <cmath>
#include <filesystem>

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

[[noreturn]] void fail_progress(const std::string& what) {
  fail("[checkpoint] the progress in its metadata is damaged, or another version's: {}", what);
}

/// A training in progress: all that a checkpoint must hold.
class Trainer {
 public:
  Trainer(Trainee& trainee, const std::string& program, const TrainingOptions& training, const RunOptions& run)
      : trainee_(trainee),
        program_(program),
        training_(training),
        run_(run),
        adam_(trainee.parameters(), adam_options(training)),
        schedule_(schedule(training)) {
    tape().detect_anomaly = run.detect_anomaly;
  }

  struct Step {
    int64_t number;  // 1 for the first
    double loss, accuracy, grad_norm;
    std::map<std::string, double> auxiliary;
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

  int64_t steps_done = 0;
  int64_t validated = 0;  // the last step after which there was a validation
  double best = -INFINITY, seconds = 0;
  ordered_json changes = ordered_json::array();  // {"step", "settings"}: what was changed in the middle of the run

 private:
  /// A step whose figures are still on the device, and what it takes to take it again.
  struct Unread {
    int64_t steps_before;
    std::vector<StepPart> parts;
    BatchResult result;
    Tensor grad_squares;
  };
  BatchResult gradients(const std::vector<StepPart>& parts);
  [[noreturn]] void explain_nonfinite(const Unread& step, double loss);

  Trainee& trainee_;
  std::string program_;
  TrainingOptions training_;
  RunOptions run_;
  Adam adam_;
  Schedule schedule_;
  std::vector<Unread> unread_;
};

// What all parts have in common is counted here before the first is read, and their gradients are complete when this
// returns: whoever shares a step among processes has two sums to make, of `whole` and of the gradients.
BatchResult Trainer::gradients(const std::vector<StepPart>& parts) {
  trainee_.parameters().zero_grad();
  BatchSize whole;
  for (const StepPart& part : parts) whole += part.size;
  BatchResult result;
  for (const StepPart& part : parts) result.add(part.read(whole));
  return result;
}

void Trainer::step() {
  std::vector<StepPart> parts = trainee_.next_step();
  BatchResult result = gradients(parts);
  adam_.step(schedule_.at(steps_done));  // does nothing if a gradient is not finite
  unread_.push_back({steps_done++, std::move(parts), std::move(result), adam_.grad_squares()});
}

template <class Visit>
void Trainer::read(Visit visit) {
  for (const Unread& u : std::exchange(unread_, {})) {
    const Step step{.number = u.steps_before + 1,
                    .loss = u.result.loss(),
                    .accuracy = double(u.result.correct()) / double(u.result.scored()),
                    .grad_norm = std::sqrt(item(u.grad_squares)),
                    .auxiliary = u.result.auxiliary(),
                    .tokens = u.result.tokens()};
    if (!std::isfinite(step.loss) || !std::isfinite(step.grad_norm)) explain_nonfinite(u, step.loss);
    visit(step);
  }
}

// The optimiser has left the weights alone since, so the step can be taken again: for its gradients, and then with
// every operation under watch.
void Trainer::explain_nonfinite(const Unread& step, double loss) {
  std::string what = "the gradients are too large for their norm to be finite";
  std::string origin = "no operation made it when the step was repeated";
  for (const bool watched : {false, true}) {
    tape().clear();
    tape().detect_anomaly = watched;
    try {
      gradients(step.parts);
    } catch (const Error& anomaly) {
      origin = anomaly.what();
    }
    if (watched) break;
    for (const Parameters::Named& p : trainee_.parameters().named())
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
      "    build/{} train --resume {} --change-training --lr {:.3g}",
      failed, step.steps_before, run_.out, program_, shell_word(run_.out), training_.lr / 10);
}

void Trainer::save(const std::string& name) const {
  ordered_json progress = {{"step", steps_done},
                           {"validated", validated},
                           {"data", trainee_.data_identity()},
                           {"best", std::isfinite(best) ? ordered_json(best) : ordered_json()},
                           {"seconds", seconds},
                           {"changes", changes}};
  progress.update(trainee_.place());
  save_checkpoint(run_.out + "/" + name, trainee_.parameters(), &adam_, trainee_.settings(), progress);
}

/// Settings that differ from those of a checkpoint, as {"lr": {"from": 1, "to": 2}, …}.
ordered_json changed_settings(const nlohmann::json& before, const ordered_json& after) {
  ordered_json changed = ordered_json::object();
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
    fail_progress(e.what());
  }
}

void Trainer::restore(const Checkpoint& checkpoint, Start start) {
  checkpoint.load(trainee_.parameters());
  checkpoint.load(adam_, trainee_.parameters());
  const std::string seen = seen_data(checkpoint), data = trainee_.data_identity();
  try {
    const nlohmann::json& p = checkpoint.progress;
    steps_done = p.at("step"), validated = p.at("validated"), seconds = p.at("seconds"), changes = p.at("changes");
    best = p.at("best").is_null() ? -INFINITY : p.at("best").get<double>();
    trainee_.go_to(p);
  } catch (const nlohmann::json::exception& e) {
    fail_progress(e.what());
  }
  check(steps_done >= 0, "[checkpoint] the progress in its metadata is damaged: step {}", steps_done);
  if (start != Start::changed) return check_same_data("train", program_, checkpoint, data);
  if (training_.steps < steps_done)
    throw UsageError(
        fmt::format("[train] this run has taken {} steps already: got --steps {}; give more, or leave it out",
                    steps_done, training_.steps));
  ordered_json change = {{"step", steps_done}, {"settings", changed_settings(checkpoint.config, trainee_.settings())}};
  if (seen != data) change["data"] = {{"from", seen}, {"to", data}};
  changes.push_back(change);
}

void write_result(const std::string& folder, const ordered_json& model, const TrainResult& result) {
  ordered_json json = {{"model", model}, {"steps", result.step}, {"seconds", result.seconds}};
  json.update(result.test);
  write_text(folder + "/result.json", json.dump(2) + "\n");
}

}  // namespace

void print_warning(const Model& model) {
  if (const std::string text = model.warning(); !text.empty()) fmt::print(stderr, "warning: {}\n", text);
}

std::optional<TrainResult> finished_result(const std::string& folder, int64_t steps) {
  const std::string path = folder + "/result.json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    TrainResult result;
    result.test = ordered_json::parse(read_text(path, 1 << 20));
    result.step = result.test.at("steps"), result.seconds = result.test.at("seconds");
    if (result.step != steps) return std::nullopt;
    return result;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // damaged: the test is made again
  }
}

void check_same_data(const std::string& who, const std::string& program, const Checkpoint& checkpoint,
                     const std::string& identity) {
  const std::string seen = seen_data(checkpoint);
  check(seen == identity,
        "[{}] the data is not what this run has seen so far: got {}, expected {}; bring that file back to go on "
        "exactly, or go on with what is there by --change-training of build/{} train",
        who, identity, seen, program);
}

std::string checkpoint_path(const std::string& folder_or_file) {
  struct stat info;
  check(::stat(folder_or_file.c_str(), &info) == 0,
        "[checkpoint] there is no {}: give a run's folder or a .safetensors file", folder_or_file);
  return S_ISDIR(info.st_mode) ? folder_or_file + "/last.safetensors" : folder_or_file;
}

std::string resumed_folder(const std::string& folder_or_last) {
  const std::string path = checkpoint_path(folder_or_last);
  check(std::filesystem::path(path).filename() == "last.safetensors",
        "[train] a run goes on from last.safetensors in its folder: got {}; resume {}", path,
        shell_word(parent_folder(path)));
  return parent_folder(path);
}

TrainResult train(Trainee& trainee, const std::string& program, const TrainingOptions& training, const RunOptions& run,
                  Start start) {
  const RunFolder folder(run.out);
  check(start != Start::fresh || !std::filesystem::exists(run.out + "/last.safetensors"),
        "[train] {} holds a run already: go on with --resume {}, choose another folder with --out, or remove it",
        run.out, shell_word(run.out));
  Trainer trainer(trainee, program, training, run);
  if (start != Start::fresh) trainer.restore(Checkpoint(run.out + "/last.safetensors"), start);
  MetricsFile metrics(run.out + "/metrics.jsonl", trainer.steps_done);
  const ordered_json settings = trainee.settings(), model = settings.at("model");
  Progress progress(model, trainer.steps_done, training.steps);
  catch_interrupts();
  // An unwritable folder or a full disk shows now, not after an hour.
  if (start != Start::resumed) trainer.save("last.safetensors");
  write_text(run.out + "/config.json", settings.dump(2) + "\n");
  if (start == Start::changed) metrics.append({{"step", trainer.steps_done}, {"change", trainer.changes.back()}});

  const auto every = [&](int64_t period) {
    return period > 0 && trainer.steps_done > 0 && trainer.steps_done % period == 0;
  };
  // On a GPU the host only queues work: to look at a loss it must wait until all of it is done.
  const int64_t read_every = run.read_every > 0 ? run.read_every : run.device == "cuda" ? 10 : 1;
  const auto report = [&] {
    trainer.read([&](const Trainer::Step& step) {
      progress.update(step.number, step.loss, step.accuracy, step.tokens);
      ordered_json record = {{"step", step.number},
                             {"loss", step.loss},
                             {"accuracy", step.accuracy},
                             {"grad_norm", step.grad_norm},
                             {"lr", schedule(training).at(step.number - 1)}};
      for (const auto& [name, value] : step.auxiliary) record[name] = value;
      metrics.append(record);
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
    const Measured measured = trainee.measure(Split::validation);
    ordered_json record = {{"step", trainer.steps_done}};
    for (const auto& [name, value] : measured.figures.items()) record["validation_" + name] = value;
    metrics.append(record);
    trainer.validated = trainer.steps_done;
    if (measured.merit > trainer.best) {
      trainer.best = measured.merit;
      save("best.safetensors");
    }
  };
  TrainResult result;
  try {
    for (;;) {
      if (every(run.validate_every) && trainer.validated < trainer.steps_done) validate();
      if (every(run.save_every)) save("last.safetensors");
      if (every(run.validate_every) || every(run.save_every)) progress.skip_pause();
      if (trainer.steps_done >= training.steps) break;
      result.interrupted = interrupted();  // the one place that asks between steps
      if (result.interrupted) break;
      trainer.step();
      if (trainer.unread() >= read_every) report();
    }
    save("last.safetensors");
    if (!result.interrupted) {
      progress.finish();
      result.test = trainee.measure(Split::test).figures;
    }
  } catch (const Interrupted&) {  // in a validation or the test: it is made again when the run goes on
    result.interrupted = true;
    save("last.safetensors");
  }
  progress.finish();
  result.step = trainer.steps_done, result.seconds = trainer.seconds;
  if (!result.interrupted) write_result(run.out, model, result);
  print_warning(trainee.model());
  return result;
}

}  // namespace lem
