// build/bench: how fast everything is, as shares of what this machine can do, and against the same model in PyTorch.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "bench/bench.h"
#include "tasks/common/option_flags.h"
#include "tasks/common/program.h"
#include "tasks/sort/model.h"
#include "tensor/io/files.h"

using namespace lem;
using nlohmann::ordered_json;

namespace {

ordered_json run_kernels(const SortOptions& o, const std::string& filter, int repeats, const Limits& limits) {
  fmt::print("\n{:<32} {:<26} {:>10} {:>14} {:>9}\n", "kernels at " + o.preset, "size", "ms", "rate", "of limit");
  ordered_json rows = ordered_json::array();
  for (const KernelTiming& t : time_kernels(o, filter, repeats)) {
    const char* unit = t.bytes ? "GB/s" : "GFLOP/s";
    fmt::print("{:<32} {:<26} {:>10.3f} {:>6.1f} {:<7} {:>7.0f} %\n", t.name, t.size, 1e3 * t.seconds, t.rate(), unit,
               100 * t.share(limits));
    rows.push_back({{"preset", o.preset},
                    {"name", t.name},
                    {"size", t.size},
                    {"seconds", t.seconds},
                    {"rate", t.rate()},
                    {"unit", unit},
                    {"share", t.share(limits)}});
  }
  return rows;
}

/// PyTorch's steps that are timed. prefix: of their fields in the file; flags: of bench/reference/bench.py, where
/// --plain computes by model.py, without it by fast_model.py; ratio: what the file says of theirs; cpu_only: the same
/// as another on a GPU.
struct Twin {
  const char *prefix, *flags, *about, *ratio;
  bool cpu_only;
};
constexpr Twin kTwins[] = {
    {"", "--plain", "the equations as they stand",
     "PyTorch's time for a step over ours: the equations as they stand, in the environment in which PyTorch is fastest "
     "(freed memory stays with the process, in huge pages). On a CPU about 4 is what its multipliers leave: both wait "
     "for the same products",
     false},
    {"thresholds_", "--plain --malloc thresholds", "the same with malloc's thresholds raised, no more",
     "the same, where only malloc's two thresholds are raised, as is usually advised: PyTorch as most people run it",
     true},
    {"rewritten_", "", "rewritten with our shortcuts",
     "the same environment as the first, the model rewritten with the shortcuts that ours takes", false}};

void print_step(const std::string& name, const ordered_json& s) {
  fmt::print("\ntraining step of {}\n", name);
  fmt::print(
      "  ours    {:>8.2f} s   {:.2f} s of processor time, {:.0f} GFLOP that count, {:.0f} % of the SGEMM rate, {} "
      "MiB\n",
      s["seconds"].get<double>(), s["cpu_seconds"].get<double>(), s["useful_gflop"].get<double>(),
      100 * s["sgemm_share"].get<double>(), s["peak_mib"].get<int64_t>());
  for (const Twin& t : kTwins) {
    const std::string p = t.prefix;
    if (const ordered_json& twin = s[p + "twin"]; !twin.is_null())
      fmt::print("  PyTorch {:>8.2f} s   {:.2f} s of processor time, {} MiB, {}: ours is {:.1f} times as fast\n",
                 s[p + "twin_seconds"].get<double>(), twin["cpu_seconds"].get<double>(),
                 twin["peak_mib"].get<int64_t>(), t.about, s[p + "ratio"].get<double>());
  }
  fmt::print("  where the time goes:");
  int shown = 0;
  for (const auto& k : s["profile"])
    if (shown++ < 8) fmt::print(" {} {:.0f} %", k["kernel"].get<std::string>(), 100 * k["share"].get<double>());
  fmt::print("\n");
}

/// One step of ours and, unless `twins` is false, of all twins.
ordered_json run_step(const SortOptions& o, int steps, const std::string& python, bool twins, const Limits& limits) {
  nlohmann::json timed[std::size(kTwins)];
  ordered_json step = time_step(o, steps, limits, [&] {
    for (size_t i = 0; twins && i < std::size(kTwins); ++i) {
      const Twin& t = kTwins[i];
      if (o.run.device != "cpu" && t.cpu_only) continue;
      try {
        timed[i] =
            time_twin(python + " bench/reference/bench.py", o, steps, t.flags, fmt::format("PyTorch, {}", t.about));
      } catch (const Error& error) {  // the others may fit into memory
        fmt::print(stderr, "{}\n", error.what());
      }
    }
  });
  const double ours = step["seconds"].get<double>();
  for (size_t i = 0; i < std::size(kTwins); ++i) {
    const std::string prefix = kTwins[i].prefix;
    const nlohmann::json& twin = timed[i];
    const nlohmann::json seconds = twin.is_object() ? twin["seconds"] : nlohmann::json();
    step[prefix + "twin_seconds"] = seconds;
    step[prefix + "ratio"] = seconds.is_null() ? nlohmann::json() : nlohmann::json(seconds.get<double>() / ours);
    step[prefix + "twin"] = twin;
  }
  return step;
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  bound_spinning(argv);
  CLI::App app{
      "Times kernels and training steps: shares of this device's own SGEMM rate and copy bandwidth, and the ratio to "
      "the same model in\n"
      "PyTorch, all in one run. `make bench` runs it with OpenBLAS free to choose its kernel; `make bench DEVICE=cuda` "
      "first checks\n"
      "every kernel of the device against the CPU's."};
  bool quick = false, no_twin = false;
  std::string python = "python3", filter, json = "build/bench.json", device_name = "cpu";
  int steps = 3;
  int64_t threads = 0;
  app.add_option("--device", device_name, "cpu, cuda, or simt, which runs CUDA kernels on the CPU in miniature")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda", "simt"}));
  app.add_flag("--quick", quick, "small sizes alone, few repeats: to see that it works");
  app.add_flag("--no-twin", no_twin, "leave PyTorch out");
  app.add_option("--python", python, "a python that has PyTorch")->capture_default_str();
  app.add_option("--filter", filter, "only kernels whose name contains this");
  app.add_option("--steps", steps, "timed training steps; of ours as many before PyTorch's as after")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  app.add_option("--threads", threads, "threads; 0: one a core")->capture_default_str();
  app.add_option("--json", json, "where the figures are written")->capture_default_str();
  return run_program(app, argc, argv, [&] {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // through a pipe, too, each figure is seen when it is known
    make_folder(parent_folder(json));
    use_threads(threads);
    const Device device = parse_device(device_name.c_str());
    const Limits limits = measure_limits(device);
    fmt::print("this {}: SGEMM {:.0f} GFLOP/s, copy {:.1f} GB/s\n", device == Device::cuda ? "GPU" : "machine",
               limits.gflops, limits.gigabytes);
    // What is timed where: kernels at the presets' sizes, and a step of those that take long enough to matter.
    using Presets = std::vector<std::string>;
    const Presets kernels = device == Device::simt ? Presets{"tiny"}
                            : quick                ? Presets{"demo"}
                                                   : Presets{"demo", "paper-4000"};
    const Presets trained = device == Device::cpu && !quick ? Presets{"paper-4000"} : kernels;
    const bool small = quick || device == Device::simt;
    bool twins = !no_twin && !small;
    if (const std::string why = twins ? missing_pytorch(python) : ""; !why.empty()) {
      fmt::print("PyTorch is left out: {}; make bench PYTHON=… names a python that has it\n", why);
      twins = false;
    }

    const HostTiming host = time_host(device);
    fmt::print("the host, token by token: {:.2f} us a kernel call ({:.0f} calls, {:.0f} us a token)\n",
               1e6 * host.seconds / host.calls, host.calls, 1e6 * host.seconds);
    ordered_json report = {{"device", device_name},
                           {"host_us_per_call", 1e6 * host.seconds / host.calls},
                           {"sgemm_gflops", limits.gflops},
                           {"copy_gbs", limits.gigabytes},
                           {"ratios", ordered_json::object()},
                           {"kernels", ordered_json::array()},
                           {"steps", ordered_json::object()}};
    for (const Twin& t : kTwins) report["ratios"][fmt::format("{}ratio", t.prefix)] = t.ratio;
    for (const std::string& preset : kernels)
      for (const auto& row : run_kernels(bench_options(preset, "infinity", device), filter, small ? 3 : 7, limits))
        report["kernels"].push_back(row);
    for (const std::string& preset : trained)
      for (const char* model : {"infinity", "transformer-xl"}) {
        const std::string name = std::string(model) == "infinity" ? preset : preset + "-transformer-xl";
        report["steps"][name] =
            run_step(bench_options(preset, model, device), steps, python, twins, measure_limits(device));
        print_step(name, report["steps"][name]);
        write_text(json, report.dump(2) + "\n");  // what has been measured is not lost if the rest is
      }
    fmt::print("\nall figures: {}\n", json);
    return 0;
  });
}
