// Whole training steps, ours and the PyTorch twin's.
#include <omp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench/bench.h"
#include "bench/useful_flops.h"
#include "tasks/sort_model.h"
#include "tensor/pool.h"

namespace lem {
namespace {

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + int64_t(x.size() / 2), x.end());
  return x[x.size() / 2];
}

double wall() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
/// Processor time of all threads: what other programs on the machine disturb less.
double processor() { return double(std::clock()) / CLOCKS_PER_SEC; }

/// Starts the peak of resident memory anew, and reads it (Linux).
void reset_peak_resident() { std::ofstream("/proc/self/clear_refs") << "5"; }
int64_t peak_resident_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:") {
      int64_t kib = 0;
      status >> kib;
      return kib >> 10;
    }
  return 0;
}

}  // namespace

nlohmann::ordered_json time_step(const SortOptions& o, int steps, const Limits& limits,
                                 const std::function<void()>& between) {
  const Device device = parse_device(o.device.c_str());
  pool_trim(device);
  reset_peak_resident();
  SortModel net(o);
  Adam adam(net.parameters, adam_options(o));
  const SortingData data = sorting_data(o, Split::train);
  Random random{1, uint64_t(1) << 32};
  const auto step = [&](int64_t i) {
    net.parameters.zero_grad();
    read_documents(*net.model, sorting_batch(data, i * o.batch, o.batch), o.segment, {true, &random}, true,
                   o.lambda_kl);
    adam.step(schedule(o).at(i));
    backend(device).synchronize();
  };
  reset_pool_peak(device);
  std::vector<double> walls, processors;
  const auto time_some = [&](int64_t first) {
    step(first);
    for (int64_t i = first + 1; i <= first + steps; ++i) {
      const double w = wall(), p = processor();
      step(i);
      walls.push_back(wall() - w), processors.push_back(processor() - p);
    }
  };
  time_some(0);
  between();
  time_some(steps + 1);
  profile_kernels(true);
  step(2 * steps + 2);
  profile_kernels(false);
  nlohmann::ordered_json profile = nlohmann::ordered_json::array();
  int count = 0;
  const KernelTime* times = kernel_times(&count);
  double total = 0;
  for (int i = 0; i < count; ++i) total += times[i].seconds;
  for (int i = 0; i < count; ++i)
    profile.push_back({{"kernel", times[i].name},
                       {"calls", times[i].calls},
                       {"seconds", times[i].seconds},
                       {"share", times[i].seconds / total}});
  const double useful = useful_flops(o), seconds = median(walls);
  const int64_t pool_peak_mib = int64_t(pool_counters(device).peak >> 20);
  return {{"seconds", seconds},
          {"cpu_seconds", median(processors)},
          {"useful_gflop", useful * 1e-9},
          {"gflops", useful / seconds * 1e-9},
          {"sgemm_share", useful / seconds * 1e-9 / limits.gflops},
          {"peak_mib", device == Device::cuda ? pool_peak_mib : peak_resident_mib()},
          {"pool_peak_mib", pool_peak_mib},
          {"profile", profile}};
}

nlohmann::json time_twin(const std::string& python, const SortOptions& o, int steps, const std::string& flags) {
  const std::string command = fmt::format(
      "{} bench/reference/bench.py --preset {} --model {} --device {} --threads {} --steps {} {} 2>/dev/null", python,
      o.preset, o.model, o.device, omp_get_max_threads(), steps, flags);
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return nullptr;
  std::string output;
  std::array<char, 4096> buffer;
  while (size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), n);
  if (pclose(pipe) != 0) return nullptr;
  const size_t brace = output.rfind('{');
  if (brace == std::string::npos) return nullptr;
  const nlohmann::json result = nlohmann::json::parse(output.substr(brace), nullptr, false);
  return result.is_object() && result.contains("seconds") ? result : nlohmann::json(nullptr);
}

}  // namespace lem
