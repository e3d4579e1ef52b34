// The program as strangers start it: odd threads, closed streams, limits on memory, signals at any time. Each case has
// a time limit, since what it guards against is often a hang.
#include <sched.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tasks/common/metrics.h"
#include "tasks/common/program.h"
#include "tensor/io/safetensors.h"
#include "tests/catch.h"
#include "tests/program.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;

namespace {

using Words = std::vector<std::string>;

/// Smaller than small_training: what is tested is not the training.
Words tiny_training(const std::string& out, const Words& flags = {}) {
  Words words = {"train", "--symbols",
                 "4",     "--length",
                 "40",    "--width",
                 "16",    "--heads",
                 "2",     "--ff",
                 "16",    "--segment",
                 "8",     "--stm",
                 "8",     "--N",
                 "8",     "--R",
                 "16",    "--batch",
                 "2",     "--layers",
                 "1",     "--test-samples",
                 "8",     "--validation-samples",
                 "8",     "--steps",
                 "10",    "--out",
                 out};
  return with_flags(words, flags);
}

struct Ended {
  int code;
  std::string output;
};
Ended run(const Words& arguments, const ScratchFolder& scratch, const Program::Options& options = {}) {
  Program program(arguments, scratch / "log", options);
  const int code = program.wait();
  return {code, program.output()};
}

}  // namespace

TEST_CASE("the program ends whatever is said of threads", "[program]") {
  const ScratchFolder scratch;
  const std::vector<Words> settings = {{"OMP_THREAD_LIMIT=1"},
                                       {"OMP_NUM_THREADS=1"},
                                       {"OMP_NUM_THREADS=8"},
                                       {"OMP_NUM_THREADS=3,2"},
                                       {"OMP_NUM_THREADS=0"},
                                       {"OMP_NUM_THREADS=many"},
                                       {"OMP_DYNAMIC=true"},
                                       {"OMP_DYNAMIC=true", "OMP_NUM_THREADS=8"},
                                       {"OMP_MAX_ACTIVE_LEVELS=0"},
                                       {"OMP_NESTED=true"},
                                       {"OMP_PROC_BIND=close"},
                                       {"OMP_PROC_BIND=true", "OMP_PLACES={0}"},
                                       {"GOMP_CPU_AFFINITY=0"},
                                       {"OMP_WAIT_POLICY=ACTIVE"},
                                       {"OPENBLAS_NUM_THREADS=1"},
                                       {"OPENBLAS_NUM_THREADS=16"},
                                       {"OMP_THREAD_LIMIT=1", "OPENBLAS_NUM_THREADS=16"}};
  for (const Words& environment : settings)
    for (const Words& threads : {Words{}, Words{"--threads", "3"}}) {
      Words words = {"stream", "--tokens", "300"};
      words.insert(words.end(), threads.begin(), threads.end());
      const Ended ended = run(words, scratch, {.environment = environment, .closed = {}, .wrapper = {}, .seconds = 30});
      CAPTURE(environment, threads, ended.output);
      CHECK(ended.code == 0);
    }
}

TEST_CASE("threads: the user's word counts, and no more are taken than there are", "[program]") {
  const ScratchFolder scratch;
  const auto threads = [&](const Words& environment, const Words& flags, const Words& wrapper = {}) {
    Words words = {"stream", "--tokens", "100000000000"};
    words.insert(words.end(), flags.begin(), flags.end());
    Program stream(words, scratch / "log", {.environment = environment, .closed = {}, .wrapper = wrapper});
    REQUIRE(stream.says("\"tokens\""));
    return stream.threads();
  };
  CHECK(threads({"OMP_NUM_THREADS=1"}, {}) == 1);
  CHECK(threads({"OMP_NUM_THREADS=1"}, {"--threads", "2"}) == 2);
  CHECK(threads({"OMP_NUM_THREADS=1000"}, {}) == threads({}, {}));
  CHECK(threads({"OMP_THREAD_LIMIT=1"}, {"--threads", "2"}) == 1);
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  int one = 0;
  while (!CPU_ISSET(one, &allowed)) ++one;
  if (std::system("taskset -V >/dev/null 2>&1") == 0)
    CHECK(threads({"OMP_NUM_THREADS=2"}, {}, {"taskset", "-c", std::to_string(one)}) == 1);
}

TEST_CASE("threads that wait leave the processors to other programs, unless the user has a say", "[program]") {
  const ScratchFolder scratch;
  const auto spins = [&](const Words& settings) {
    Words wrapper = {"env", "-u", "OMP_WAIT_POLICY", "-u", "GOMP_SPINCOUNT"};
    wrapper.insert(wrapper.end(), settings.begin(), settings.end());
    Program stream({"stream", "--tokens", "100000000000"}, scratch / "log",
                   {.environment = {}, .closed = {}, .wrapper = wrapper});
    REQUIRE(stream.says("\"tokens\""));
    const std::string environment = stream.environment(), name = "GOMP_SPINCOUNT=";
    const size_t at = environment.find(name);
    return at == std::string::npos ? "" : std::string(environment.c_str() + at + name.size());
  };
  CHECK(spins({}) == "5000");
  CHECK(spins({"GOMP_SPINCOUNT=7"}) == "7");
  CHECK(spins({"OMP_WAIT_POLICY=passive"}) == "");
}

TEST_CASE("a control group's share of processors is rounded up", "[program]") {
  const ScratchFolder scratch;
  const auto write = [&](const std::string& file, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(scratch / file).parent_path());
    std::ofstream(scratch / file) << text;
  };
  write("cpu.max", "max 100000\n");
  CHECK(cgroup_processors(scratch.path(), "0::/\n") == 0);
  write("a/cpu.max", "150000 100000\n");
  CHECK(cgroup_processors(scratch.path(), "0::/a\n") == 2);
  write("a/b/cpu.max", "max 100000\n");  // the limit above counts
  CHECK(cgroup_processors(scratch.path(), "0::/a/b\n") == 2);
  write("a/b/cpu.max", "1000 100000\n");
  CHECK(cgroup_processors(scratch.path(), "0::/a/b\n") == 1);
  write("cpu/job/cpu.cfs_quota_us", "300000\n"), write("cpu/job/cpu.cfs_period_us", "100000\n");
  CHECK(cgroup_processors(scratch.path(), "9:memory:/x\n4:cpu,cpuacct:/job\n") == 3);
  write("cpu/job/cpu.cfs_quota_us", "-1\n");
  CHECK(cgroup_processors(scratch.path(), "4:cpu,cpuacct:/job\n") == 0);
  CHECK(cgroup_processors(scratch.path(), "") == 0);
  CHECK(cgroup_processors(scratch.path(), "nonsense\n:\n0:\n") == 0);
}

TEST_CASE("what is meant for a closed screen goes into no file", "[program]") {
  const ScratchFolder scratch;
  for (const std::vector<int>& closed : {std::vector<int>{2}, {1}, {0}, {1, 2}, {0, 1, 2}}) {
    CAPTURE(closed);
    const std::string out = scratch / fmt::format("run{}{}", closed.size(), closed[0]);
    const Program::Options options{.environment = {}, .closed = closed, .wrapper = {}};
    CHECK(run(tiny_training(out, {"--steps", "400"}), scratch, options).code == 0);
    CHECK(read_metrics(out + "/metrics.jsonl").size() >= 400);
    CHECK(run({"train", "--resume", out}, scratch).code == 0);
  }
}

TEST_CASE("one exit code for what cannot be asked, another for what fails", "[program]") {
  const ScratchFolder scratch;
  CHECK(run({"--version"}, scratch).output == fmt::format("lemniscate {}\n", kVersion));
  CHECK(run({"train", "--help"}, scratch).code == 0);
  std::ofstream(scratch / "config.json") << "{\"heads\": 0}";
  std::ofstream(scratch / "broken.json") << "{\"heads\": ";
  for (const Words& misuse : {Words{},
                              {"trian"},
                              {"train", "--hedas", "2"},
                              {"train", "--heads", "0"},
                              {"train", "--heads", "x"},
                              {"train", "--width", "15"},
                              {"train", "--lr", "-1"},
                              {"train", "--config", scratch / "config.json"},
                              {"train", "--config", scratch / "broken.json"},
                              {"train", "--config", scratch / "missing.json"},
                              {"train", "--change-training"},
                              {"generate", "--preset", "demmo"},
                              {"generate", "--split", "tset"},
                              {"eval"}}) {
    const Ended ended = run(misuse, scratch);
    CAPTURE(misuse, ended.output);
    CHECK(ended.code == kMisused);
  }
  CHECK(run({"eval", "--checkpoint", scratch / "nowhere"}, scratch).code == kFailed);
  CHECK(run({"generate", "--count", "1", "--out", scratch / "nowhere/file"}, scratch).code == kFailed);
}

TEST_CASE("a signal is heard in every command and every part of it", "[program]") {
  const ScratchFolder scratch;
  for (const int signal : {SIGINT, SIGTERM}) {
    CAPTURE(signal);
    {
      Program generate({"generate", "--count", "100000000", "--out", scratch / "data.txt"}, scratch / "log");
      for (int i = 0; i < 500 && !std::filesystem::exists(scratch / "data.txt.partial"); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      generate.signal(signal);
      CHECK(generate.wait() == 128 + signal);
      CHECK_THAT(generate.output(), Contains("stopping"));
      CHECK_FALSE(std::filesystem::exists(scratch / "data.txt.partial"));
      CHECK_FALSE(std::filesystem::exists(scratch / "data.txt"));
    }
    {
      Program stream({"stream", "--tokens", "100000000000"}, scratch / "log");
      REQUIRE(stream.says("\"tokens\": 1024"));
      stream.signal(signal);
      CHECK(stream.wait() == 128 + signal);
    }
    {  // in a validation that would take hours
      const std::string out = scratch / fmt::format("validation{}", signal);
      const std::string long_validation = "1000000000";
      Program train(tiny_training(out, {"--validate-every", "5", "--validation-samples", long_validation}),
                    scratch / "log");
      REQUIRE(train.says("validation  step"));
      train.signal(signal);
      CHECK(train.wait() == 128 + signal);
      CHECK_THAT(train.output(),
                 Contains("stopping as soon as nothing is lost") && Contains("stopped after step 5 of 10"));
      // The validation is made when the run goes on, and the run ends as if it had not been stopped.
      REQUIRE(run({"train", "--resume", out, "--validation-samples", "8"}, scratch).code == 0);
      const std::string whole = scratch / fmt::format("whole{}", signal);
      REQUIRE(run(tiny_training(whole, {"--validate-every", "5"}), scratch).code == 0);
      CHECK(read_text(out + "/metrics.jsonl") == read_text(whole + "/metrics.jsonl"));
    }
    {  // in the test
      const std::string out = scratch / fmt::format("test{}", signal);
      Program train(tiny_training(out, {"--test-samples", "1000000000"}), scratch / "log");
      REQUIRE(train.says("test  step"));
      train.signal(signal);
      CHECK(train.wait() == 128 + signal);
      CHECK_FALSE(std::filesystem::exists(out + "/result.json"));
      CHECK(run({"train", "--resume", out, "--test-samples", "8"}, scratch).code == 0);
      CHECK(std::filesystem::exists(out + "/result.json"));

      Program eval({"eval", "--checkpoint", out, "--test-samples", "1000000000"}, scratch / "log");
      REQUIRE(eval.says("test  step"));
      eval.signal(signal);
      CHECK(eval.wait() == 128 + signal);
      CHECK_THAT(eval.output(), Contains("stopping"));
    }
    {
      Words words = tiny_training(scratch / fmt::format("compare{}", signal), {"--steps", "1000000000"});
      words[0] = "compare";
      Program compare(words, scratch / "log");
      REQUIRE(compare.says("infinity  step"));
      compare.signal(signal);
      CHECK(compare.wait() == 128 + signal);
      CHECK_THAT(compare.output(), Contains("stopping") && Contains("The same command goes on from there"));
    }
  }
}

TEST_CASE("what cannot fit into memory is said before anything begins", "[program]") {
  const ScratchFolder scratch;
  const Ended batch = run(tiny_training(scratch / "run", {"--batch", "1048576", "--length", "100000"}), scratch);
  CHECK(batch.code == kFailed);
  CHECK_THAT(batch.output, Contains("[memory]") && Contains("--batch, --length"));
  CHECK_FALSE(std::filesystem::exists(scratch / "run"));
  const Ended basis = run({"stream", "--tokens", "200", "--N", "1048576", "--widths", ".01"}, scratch);
  CHECK(basis.code == kFailed);
  CHECK_THAT(basis.output, Contains("[memory]") && Contains("--N, --R"));
#ifndef __SANITIZE_ADDRESS__  // which takes terabytes of address space for itself
  const Ended limited =
      run({"stream", "--tokens", "200", "--N", "4096"}, scratch,
          {.environment = {}, .closed = {}, .wrapper = {"sh", "-c", "ulimit -v 400000; exec \"$0\" \"$@\""}});
  CHECK(limited.code == kFailed);
  CHECK_THAT(limited.output, Contains("[memory]"));
#endif
}

TEST_CASE("numbers at the edge of what is allowed train without a NaN, or are refused", "[program]") {
  const ScratchFolder scratch;
  const Words options = {"lambda", "tau",     "sigma2-min",        "lambda-kl", "sigma0",   "mu0",
                         "widths", "dropout", "attention-dropout", "init-std",  "adam-eps", "clip",
                         "beta1",  "beta2",   "weight-decay",      "lr"};
  int n = 0;
  for (const std::string& option : options)
    for (const std::string value : {"1e-38", "1e-30", "1e-18", "1e-6"}) {
      Words flags = {"--" + option, value, "--steps", "3"};
      if (option == "weight-decay") flags.insert(flags.end(), {"--optimiser", "adamw"});
      const Ended ended = run(tiny_training(scratch / fmt::format("run{}", n++), flags), scratch);
      CAPTURE(option, value, ended.output);
      const bool refused = ended.code == kMisused && ended.output.find("--" + option) != std::string::npos;
      const bool singular = option == "lambda" && ended.output.find("raise lambda") != std::string::npos;
      CHECK((ended.code == 0 || refused || singular));
    }
}
