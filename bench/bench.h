// Timings. Everything is a ratio to what this machine does in the same run: its SGEMM rate, or its copy bandwidth.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lem {

struct Limits {
  double gflops;     // SGEMM by the linked BLAS, all threads
  double gigabytes;  // per second, of a large copy, counting bytes read and written
};
Limits measure_limits();

/// Median seconds of a call: after one to warm up, at least `repeats` and a quarter of a second of them.
double time_of(const std::function<void()>& call, int repeats);

/// One kernel at one size. `work` is in floating-point operations or in bytes that must move.
struct KernelTiming {
  std::string name, size;
  double seconds, work;
  bool bytes;
  double rate() const { return work / seconds * 1e-9; }
  double share(const Limits& l) const { return rate() / (bytes ? l.gigabytes : l.gflops); }
};
/// Every important kernel, forward and backward, at the sizes of a preset. `filter`: only names that contain it.
std::vector<KernelTiming> time_kernels(const std::string& preset, const std::string& filter, int repeats);

/// A training step: medians, operations, memory, and where the time goes.
nlohmann::ordered_json time_step(const std::string& preset, const std::string& model, int steps, const Limits& limits);

/// The PyTorch twin's step, by bench/reference/bench.py; null where there is no PyTorch. The twin computes the
/// equations as they stand (model.py); `rewritten`, it takes every shortcut that we take (fast_model.py).
nlohmann::json time_twin(const std::string& python, const std::string& preset, const std::string& model, int steps,
                         bool rewritten);

}  // namespace lem
