#include "tasks/common/training_options.h"

#include "tasks/common/program.h"
#include "tensor/backend.h"

namespace lem {

OptionTable option_table(TrainingOptions& o) {
  const char* group = "Training";
  return {
      {"steps", group, Scope::training, &o.steps, "steps", between(1, 1e12)},
      {"batch", group, Scope::training, &o.batch, "sequences a step", between(1, 1 << 20)},
      {"accumulate", group, Scope::training, &o.accumulate,
       "parts that a step's sequences are read in, whose gradients add up: the same step in less memory",
       between(1, 1 << 20)},
      {"lr", group, Scope::training, &o.lr, "learning rate", above(0)},
      {"schedule", group, Scope::training, by_name(&o.schedule), "its course",
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

void check_options(const TrainingOptions& options) {
  TrainingOptions o = options;
  check_allowed(option_table(o));
  check(o.optimiser == "adamw" || o.weight_decay == 0,
        "[options] weight-decay: got {} with optimiser adam, whose second moments would undo it; choose adamw",
        o.weight_decay);
  check(o.accumulate <= o.batch, "[options] accumulate: got {} parts, expected at most the {} sequences of a step",
        o.accumulate, o.batch);
  check(o.warmup <= o.steps, "[options] warmup: got {}, expected at most the {} steps of the training", o.warmup,
        o.steps);
  check(o.schedule != ScheduleKind::inverse_sqrt || o.warmup > 0,
        "[options] schedule inverse-sqrt falls from the end of the warm-up: got warmup 0, expected at least 1");
}

int64_t rows_at_once(const TrainingOptions& o) { return (o.batch + o.accumulate - 1) / o.accumulate; }

Schedule schedule(const TrainingOptions& o) { return {o.schedule, o.lr, o.steps, o.warmup}; }

AdamOptions adam_options(const TrainingOptions& o) {
  return {.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.adam_eps, .weight_decay = o.weight_decay, .clip = o.clip};
}

OptionTable option_table(RunOptions& o) {
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

void check_options(const RunOptions& options) {
  RunOptions o = options;
  check_allowed(option_table(o));
  check(!o.out.empty(), "[options] out: got nothing, expected a folder for the run");
}

void use_machine(const RunOptions& o) {
  use_threads(o.threads);
  backend(parse_device(o.device.c_str())).allow_tf32(o.allow_tf32);
}

}  // namespace lem
