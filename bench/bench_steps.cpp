// Whole training steps, ours and the PyTorch twin's.
#include <omp.h>
#include <sys/wait.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench/bench.h"
#include "bench/useful_flops.h"
#include "tasks/sort/model.h"
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

int64_t tokens_in_step(const SortOptions& o) { return o.training.batch * (o.length + 1 + o.symbols); }

/// Runs a command and hands on each line that it prints and that holds something; its exit status, as a shell has it.
int run_lines(const std::string& command, const std::function<void(const std::string&)>& visit) {
  FILE* pipe = popen(command.c_str(), "r");
  check(pipe != nullptr, "[bench] cannot run {}: {}", command, std::strerror(errno));
  char* line = nullptr;
  size_t size = 0;
  for (ssize_t n; (n = getline(&line, &size, pipe)) > 0;) {
    while (n > 0 && std::isspace(static_cast<unsigned char>(line[n - 1]))) --n;
    if (n > 0) visit(std::string(line, size_t(n)));
  }
  std::free(line);
  const int status = pclose(pipe);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

nlohmann::ordered_json time_step(const SortOptions& o, int steps, const Limits& limits,
                                 const std::function<void()>& between) {
  const Device device = parse_device(o.run.device.c_str());
  pool_trim(device);
  reset_peak_resident();
  SortModel net(o);
  Adam adam(net.parameters, adam_options(o.training));
  const SortingData data = sorting_data(o, Split::train);
  Random random{1, uint64_t(1) << 32};
  const auto step = [&](int64_t i) {
    net.parameters.zero_grad();
    read_documents(*net.model, sorting_batch(data, i * o.training.batch, o.training.batch), o.segment, {true, &random},
                   true);
    adam.step(schedule(o.training).at(i));
    backend(device).synchronize();
  };
  reset_pool_peak(device);
  std::vector<double> walls, processors;
  const auto time_some = [&](int64_t first) {
    Progress progress("ours", 0, steps + 1);
    progress.draw();
    for (int64_t i = 0; i <= steps; ++i) {
      const double w = wall(), p = processor();
      step(first + i);
      if (i > 0) walls.push_back(wall() - w), processors.push_back(processor() - p);
      progress.update(i + 1, tokens_in_step(o));
    }
    progress.erase();
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
          {"sgemm_gflops", limits.gflops},
          {"sgemm_share", useful / seconds * 1e-9 / limits.gflops},
          {"peak_mib", device == Device::cuda ? pool_peak_mib : peak_resident_mib()},
          {"pool_peak_mib", pool_peak_mib},
          {"profile", profile}};
}

std::string missing_pytorch(const std::string& python) {
  std::string last;
  const int status = run_lines(python + " -c 'import torch' 2>&1", [&](const std::string& line) { last = line; });
  return status == 0 ? "" : last.empty() ? python + " cannot be run" : last;
}

nlohmann::json time_twin(const std::string& program, const SortOptions& o, int steps, const std::string& flags,
                         const std::string& label, ProgressScreen screen) {
  Progress progress(label, 0, steps + 1, std::move(screen));
  progress.draw();
  nlohmann::json result;
  std::string last;  // of what it says otherwise: if it fails, why
  const int status =
      run_lines(fmt::format("{} --preset {} --model {} --device {} --threads {} --steps {} {} 2>&1", program, o.preset,
                            o.model, o.run.device, omp_get_max_threads(), steps, flags),
                [&](const std::string& line) {
                  int step = 0;
                  if (std::sscanf(line.c_str(), "step %d of", &step) == 1)
                    progress.update(step, tokens_in_step(o));
                  else if (line.starts_with('{'))
                    result = nlohmann::json::parse(line, nullptr, false);
                  else
                    last = line;
                });
  progress.erase();
  if (status == 0 && result.is_object() && result.contains("seconds")) return result;
  fail("{}: not measured: {}", label,
       status == 128 + SIGKILL ? "it was killed; is there too little memory?"
       : last.empty()          ? "it gave no time"
                               : last);
}

}  // namespace lem
