// How a model is trained, and where and how a program runs: what the settings of every task share.
#pragma once

#include <string>

#include "nn/optimizer.h"
#include "nn/options.h"

namespace lem {

struct TrainingOptions {
  int64_t steps = 1000, batch = 16;
  int64_t accumulate = 1;  // parts of a batch that are read one after the other
  double lr = 2.8e-3;
  ScheduleKind schedule = ScheduleKind::cosine;
  int64_t warmup = 0;
  std::string optimiser = "adam";
  double weight_decay = 0, beta1 = .9, beta2 = .999, adam_eps = 1e-8, clip = .25;
  int64_t seed = 1;
};
OptionTable option_table(TrainingOptions& options);
void check_options(const TrainingOptions& options);
/// Rows of a batch that are read together.
int64_t rows_at_once(const TrainingOptions& options);
Schedule schedule(const TrainingOptions& options);
AdamOptions adam_options(const TrainingOptions& options);

struct RunOptions {
  std::string out;
  int64_t validate_every = 100, validation_samples = 160, test_samples = 800, save_every = 200;
  std::string device = "cpu";
  int64_t threads = 0;
  int64_t read_every = 0;
  bool detect_anomaly = false, allow_tf32 = false;
};
OptionTable option_table(RunOptions& options);
void check_options(const RunOptions& options);
/// Threads and device as the options say; an Error if this build or machine lacks the device.
void use_machine(const RunOptions& options);

}  // namespace lem
