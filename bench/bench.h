// Timings. Everything is a ratio to what this device does in the same run: its SGEMM rate, or its copy bandwidth.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tasks/common/progress.h"
#include "tasks/sort/options.h"
#include "tensor/backend.h"

namespace lem {

struct Limits {
  double gflops;     // SGEMM by the linked BLAS, all threads
  double gigabytes;  // per second, of a large copy, counting bytes read and written
};
Limits measure_limits(Device device);

/// The settings that are timed: a preset's, or "tiny", the demo's in miniature, for the interpreter of CUDA kernels.
SortOptions bench_options(const std::string& preset, const std::string& model, Device device);

/// Median seconds of a call: after one to warm up, at least `repeats` and a quarter of a second of them. On a GPU by
/// the device's own clock, several calls at a time if they are short.
double time_of(Device device, const std::function<void()>& call, int repeats);

/// One kernel at one size. `work` is in floating-point operations or in bytes that must move.
struct KernelTiming {
  std::string name, size;
  double seconds, work;
  bool bytes;
  double rate() const { return work / seconds * 1e-9; }
  double share(const Limits& l) const { return rate() / (bytes ? l.gigabytes : l.gflops); }
};
/// Every important kernel, forward and backward, at the sizes of `o` on its device. `filter`: only names that contain
/// it.
std::vector<KernelTiming> time_kernels(const SortOptions& o, const std::string& filter, int repeats);

/// Reading token by token, as generation does, with a model too small to compute anything.
struct HostTiming {
  double calls;           // of kernels, a token
  double seconds;         // a token
  double kernel_seconds;  // of those, inside kernels (on the CPU, with the clock's own time)
};
HostTiming time_host(Device device);

/// A training step: medians, operations, memory, and where the time goes. As many steps are timed after `between` has
/// run as before: what it measures then shares its disturbances by other programs.
nlohmann::ordered_json time_step(const SortOptions& o, int steps, const Limits& limits,
                                 const std::function<void()>& between);

/// Why `python` cannot import PyTorch, in its own words; empty if it can.
std::string missing_pytorch(const std::string& python);
/// The PyTorch twin's step: what `program`, as "python3 bench/reference/bench.py", prints when it is given the settings
/// and these flags. An Error if it fails, with its reason. label: the progress line's
nlohmann::json time_twin(const std::string& program, const SortOptions& o, int steps, const std::string& flags,
                         const std::string& label, ProgressScreen screen = ProgressScreen::standard_error());

}  // namespace lem
