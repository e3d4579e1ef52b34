#include "tasks/sort_train.h"

#include <sys/stat.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "nn/checkpoint.h"
#include "tasks/metrics.h"
#include "tasks/progress.h"

namespace lem {
namespace {

using nlohmann::ordered_json;

volatile std::sig_atomic_t interrupts = 0;
void on_interrupt(int signal) {
  interrupts = interrupts + 1;
  if (interrupts > 1) {  // the person is in a hurry; the last checkpoint is whole all the same
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

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
        adam_(net_.parameters, adam_options(o)),
        schedule_(schedule(o)),
        data_(sorting_data(o, Split::train)) {
    tape().detect_anomaly = o.detect_anomaly;
    random_ = {uint64_t(o.seed), uint64_t(1) << 32};  // behind the streams that the initial weights were drawn from
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
  void restore(const Checkpoint& checkpoint);

  TransformerXL& model() { return *net_.model; }
  int64_t steps_done = 0;
  double best_accuracy = -1, seconds = 0;

 private:
  /// A step whose figures are still on the device, and what it takes to take it again.
  struct Unread {
    int64_t steps_before;
    Random random_before;
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
  Random random_;
  std::vector<Unread> unread_;
};

BatchResult Trainer::gradients(const DocumentBatch& batch) {
  net_.parameters.zero_grad();
  return read_documents(*net_.model, batch, o_.segment, {.training = true, .random = &random_}, true, o_.lambda_kl);
}

void Trainer::step() {
  const Random random_before = random_;
  BatchResult result = gradients(sorting_batch(data_, steps_done * o_.batch, o_.batch));
  adam_.step(schedule_.at(steps_done));  // does nothing if a gradient is not finite
  unread_.push_back({steps_done++, random_before, std::move(result), adam_.grad_squares()});
}

template <class Visit>
void Trainer::read(Visit visit) {
  for (const Unread& u : std::exchange(unread_, {})) {
    const Step step{.number = u.steps_before + 1,
                    .loss = u.result.loss(),
                    .accuracy = double(u.result.correct()) / double(u.result.scored()),
                    .grad_norm = std::sqrt(item(u.grad_squares)),
                    .kl = u.result.kl(),
                    .tokens = u.result.tokens()};
    if (!std::isfinite(step.loss) || !std::isfinite(step.grad_norm)) explain_nonfinite(u, step.loss);
    visit(step);
  }
}

// The optimiser has left the weights alone since, so the step can be taken again: for its gradients, and then with
// every operation under watch.
void Trainer::explain_nonfinite(const Unread& step, double loss) {
  const DocumentBatch batch = sorting_batch(data_, step.steps_before * o_.batch, o_.batch);
  std::string what = "the gradients are too large for their norm to be finite";
  std::string origin = "no operation made it when the step was repeated";
  for (const bool watched : {false, true}) {
    tape().clear();
    tape().detect_anomaly = watched;
    random_ = step.random_before;
    try {
      gradients(batch);
    } catch (const Error& anomaly) {
      origin = anomaly.what();
    }
    if (watched) break;
    for (const Parameters::Named& p : net_.parameters.named())
      if (count_nonfinite(p.grad) > 0) {
        what = fmt::format("the gradient of {} is not finite", p.name);
        break;
      }
  }
  if (!std::isfinite(loss)) what = fmt::format("the loss is {}", std::isnan(loss) ? "NaN" : "infinite");
  fail(
      "[train] step {}: {}. {}. The weights are unchanged since step {}; the last checkpoint in {} is good. Try a "
      "smaller --lr or --clip",
      step.steps_before + 1, what, origin, step.steps_before, o_.out);
}

void Trainer::save(const std::string& name) const {
  SortOptions options = o_;
  save_checkpoint(o_.out + "/" + name, net_.parameters, &adam_, to_json(option_table(options)),
                  ordered_json{{"step", steps_done},
                               {"next_sample", steps_done * o_.batch},
                               {"random", {{"seed", random_.seed}, {"next", random_.next}}},
                               {"best_accuracy", best_accuracy},
                               {"seconds", seconds}});
}

void Trainer::restore(const Checkpoint& checkpoint) {
  checkpoint.load(net_.parameters);
  checkpoint.load(adam_, net_.parameters);
  try {
    steps_done = checkpoint.progress.at("step");
    random_ = {checkpoint.progress.at("random").at("seed"), checkpoint.progress.at("random").at("next")};
    best_accuracy = checkpoint.progress.at("best_accuracy");
    seconds = checkpoint.progress.at("seconds");
  } catch (const nlohmann::json::exception& e) {
    fail("[checkpoint] the progress in its metadata is damaged: {}", e.what());
  }
}

void write_result(const SortOptions& o, const TrainResult& result) {
  const ordered_json json = {{"model", o.model},
                             {"steps", result.step},
                             {"accuracy", result.test.accuracy},
                             {"loss", result.test.loss},
                             {"seconds", result.seconds},
                             {"test_samples", result.test.samples},
                             {"ceiling_all", result.test.ceiling_all},
                             {"ceiling_visible", result.test.ceiling_visible}};
  write_text(o.out + "/result.json", json.dump(2) + "\n");
}

}  // namespace

bool interrupted() { return interrupts > 0; }

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

std::string checkpoint_path(const std::string& folder_or_file, const char* name) {
  struct stat info;
  check(::stat(folder_or_file.c_str(), &info) == 0,
        "[checkpoint] there is no {}: give a run's folder or a .safetensors file", folder_or_file);
  return S_ISDIR(info.st_mode) ? folder_or_file + "/" + name : folder_or_file;
}

TrainResult train_sort(const SortOptions& o, bool resume) {
  use_machine(o);
  make_folder(o.out);
  check(resume || !exists(o.out + "/last.safetensors"),
        "[train] {} holds a run already: go on with --resume {}, choose another folder with --out, or remove it", o.out,
        o.out);
  Trainer trainer(o);
  if (resume) trainer.restore(Checkpoint(checkpoint_path(o.out)));
  save_options(o.out + "/config.json", o);
  MetricsFile metrics(o.out + "/metrics.jsonl", trainer.steps_done);
  const SortingData validation = sorting_data(o, Split::validation);
  Progress progress(o.model, trainer.steps_done, o.steps);
  catch_interrupts();
  if (!resume) trainer.save("last.safetensors");  // an unwritable folder or a full disk shows now, not after an hour

  const auto every = [&](int64_t period) { return period > 0 && trainer.steps_done % period == 0; };
  // On a GPU the host only queues work: to look at a loss it must wait until all of it is done.
  const int64_t read_every = o.read_every > 0 ? o.read_every : o.device == "cuda" ? 10 : 1;
  const auto report = [&] {
    trainer.read([&](const Trainer::Step& step) {
      progress.update(step.number, step.loss, step.accuracy, step.tokens);
      metrics.append({{"step", step.number},
                      {"loss", step.loss},
                      {"accuracy", step.accuracy},
                      {"grad_norm", step.grad_norm},
                      {"kl", step.kl},
                      {"lr", schedule(o).at(step.number - 1)}});
    });
  };
  auto start = std::chrono::steady_clock::now();
  const auto save = [&](const char* name) {
    report();
    trainer.seconds += seconds_since(start);
    start = std::chrono::steady_clock::now();
    metrics.sync();
    trainer.save(name);
  };
  while (trainer.steps_done < o.steps && !interrupted()) {
    trainer.step();
    if (trainer.unread() >= read_every || every(o.validate_every)) report();
    if (every(o.validate_every)) {
      progress.erase();
      const SortScore score = evaluate(trainer.model(), o, validation, o.validation_samples, "validation");
      metrics.append(
          {{"step", trainer.steps_done}, {"validation_loss", score.loss}, {"validation_accuracy", score.accuracy}});
      if (score.accuracy > trainer.best_accuracy) {
        trainer.best_accuracy = score.accuracy;
        save("best.safetensors");
      }
    }
    if (every(o.save_every)) save("last.safetensors");
    if (every(o.validate_every) || every(o.save_every)) progress.skip_pause();
  }
  save("last.safetensors");
  progress.finish();

  TrainResult result{
      .test = {}, .step = trainer.steps_done, .seconds = trainer.seconds, .interrupted = trainer.steps_done < o.steps};
  if (!result.interrupted) {
    result.test = evaluate(trainer.model(), o, sorting_data(o, Split::test), o.test_samples, "test");
    write_result(o, result);
  }
  print_warning(trainer.model());
  return result;
}

}  // namespace lem
