// A disk that fails at the n-th thing that is written to it, for every n: full, read-only, broken. The program says so
// and ends; what it leaves goes on to the same bits as if the disk had been good.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose runtimes want to be loaded first
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <tuple>

#include "tests/catch.h"
#include "tests/file_helpers.h"
#include "tests/program.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;

namespace {

using Words = std::vector<std::string>;

/// Runs the program on a disk that fails from the n-th write on, or at this one alone; n = 0: on a good one. What is
/// said goes to `log`.
int run(const Words& arguments, const std::string& log, int n = 0, int error = 0, bool once = false) {
  const std::string folder = std::filesystem::path(Program::path()).parent_path().string();
  Program program(arguments, log,
                  {.environment = {"LD_PRELOAD=" + folder + "/disk_shim.so", fmt::format("LEM_DISK_FAILS={}", n),
                                   fmt::format("LEM_DISK_ERROR={}", error), fmt::format("LEM_DISK_ONCE={}", int(once)),
                                   "LEM_DISK_COUNT=" + log + ".count"}});
  return program.wait();
}

int writes(const std::string& log) { return std::stoi(test::read_whole(log + ".count")); }

Words tiny(const std::string& command, const std::string& out) {
  Words words = with_flags(small_training(out), {"--steps", "4", "--save-every", "2", "--validate-every", "2",
                                                 "--length", "40", "--batch", "2"});
  words[0] = command;
  return words;
}

/// What both checkpoints and the metrics hold: all that must be the same.
using Tensors = std::map<std::string, std::string>;
using Outcome = std::tuple<Tensors, Tensors, std::string>;
Outcome outcome(const std::string& run) {
  return {test::tensors(run + "/last.safetensors"), test::tensors(run + "/best.safetensors"),
          test::read_whole(run + "/metrics.jsonl")};
}

constexpr int kErrors[] = {ENOSPC, EROFS, EIO};

}  // namespace

TEST_CASE("a disk that fails at any write of a training costs nothing that was saved", "[disk]") {
  const ScratchFolder scratch;
  const std::string log = scratch / "log", good = scratch / "good";
  REQUIRE(run(tiny("train", good), log) == 0);
  const Outcome expected = outcome(good);
  const int count = writes(log);
  CHECK(count > 40);
  for (int n = 1; n <= count; ++n) {
    const int error = kErrors[n % 3];
    const std::string out = scratch / fmt::format("run{}", n);
    CAPTURE(n, std::strerror(error));
    const int code = run(tiny("train", out), log, n, error);
    const std::string said = test::read_whole(log);
    CAPTURE(said);
    CHECK(code == 1);
    CHECK_THAT(said, Contains(std::strerror(error)) && Contains(out) && Contains("; "));
    const bool begun = std::filesystem::exists(out + "/last.safetensors");
    CHECK(run(begun ? Words{"train", "--resume", out} : tiny("train", out), log) == 0);
    CHECK(outcome(out) == expected);
    std::filesystem::remove_all(out);
  }
  CHECK(run(tiny("train", scratch / "last"), log, count + 1, ENOSPC) == 0);
}

TEST_CASE("a disk that fails once: the training says so and ends, or nothing is missing", "[disk]") {
  const ScratchFolder scratch;
  const std::string log = scratch / "log", good = scratch / "good";
  REQUIRE(run(tiny("train", good), log) == 0);
  const Outcome expected = outcome(good);
  const int count = writes(log);
  int failed = 0;
  for (int n = 1; n <= count; ++n) {
    const std::string out = scratch / fmt::format("run{}", n);
    CAPTURE(n);
    const int code = run(tiny("train", out), log, n, ENOSPC, true);
    CAPTURE(test::read_whole(log));
    if (code == 0) {
      CHECK(outcome(out) == expected);
      continue;
    }
    ++failed;
    CHECK(code == 1);
    CHECK_THAT(test::read_whole(log), Contains("No space left on device"));
    const bool begun = std::filesystem::exists(out + "/last.safetensors");
    CHECK(run(begun ? Words{"train", "--resume", out} : tiny("train", out), log) == 0);
    CHECK(outcome(out) == expected);
  }
  CHECK(failed > count / 2);
}

TEST_CASE("a disk that fails at any write of a comparison: the same command goes on", "[disk]") {
  const ScratchFolder scratch;
  const std::string log = scratch / "log", good = scratch / "good";
  REQUIRE(run(tiny("compare", good), log) == 0);
  const int count = writes(log);
  for (int n = 3; n <= count; n += 7) {  // the trainings' own are tested above
    const std::string out = scratch / fmt::format("run{}", n);
    CAPTURE(n);
    CHECK(run(tiny("compare", out), log, n, ENOSPC) == 1);
    CHECK_THAT(test::read_whole(log), Contains("No space left on device"));
    CHECK(run(tiny("compare", out), log) == 0);
    for (const char* model : {"/infinity", "/transformer-xl"}) CHECK(outcome(out + model) == outcome(good + model));
    CHECK(test::read_whole(out + "/curves.svg") == test::read_whole(good + "/curves.svg"));
    std::filesystem::remove_all(out);
  }
  // Of finished runs only table, figures and curves are written.
  REQUIRE(run(tiny("compare", good), log) == 0);
  const int last = writes(log);
  CHECK(last >= 8);
  for (int n = 1; n <= last; ++n) {
    CAPTURE(n);
    CHECK(run(tiny("compare", good), log, n, ENOSPC) == 1);
    CHECK_THAT(test::read_whole(log), Contains("No space left on device"));
  }
  CHECK(run(tiny("compare", good), log, last + 1, ENOSPC) == 0);
}

TEST_CASE("a disk that fails at any write of generated data leaves no half of a file", "[disk]") {
  const ScratchFolder scratch;
  const std::string log = scratch / "log", file = scratch / "data.txt";
  const Words generate = {"generate", "--count", "3000", "--out", file};
  REQUIRE(run(generate, log) == 0);
  const std::string before = test::read_whole(file);
  const int count = writes(log);
  CHECK(count >= 4);
  for (int n = 1; n <= count; ++n) {
    CAPTURE(n);
    CHECK(run({"generate", "--count", "3000", "--seed", "2", "--out", file}, log, n, ENOSPC) == 1);
    CHECK_THAT(test::read_whole(log), Contains("No space left on device") && Contains(scratch.path()));
    CHECK(scratch.entries() == 3);                           // the log, its count, and the file
    if (n < count) CHECK(test::read_whole(file) == before);  // the last syncs the folder, when the new one stands there
  }
}
#endif
