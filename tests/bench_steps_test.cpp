// What the benchmark makes of a twin that answers, fails or is killed.
#include <nlohmann/json.hpp>

#include "bench/bench.h"
#include "tensor/io/files.h"
#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;

namespace {

/// What a twin that is this shell script answers, and what its progress shows.
nlohmann::json time_script(const std::string& script, std::string& shown) {
  const ScratchFolder scratch;
  write_text(scratch / "twin.sh", script);
  const ProgressScreen screen{.terminal = true,
                              .width = [] { return 80; },
                              .ready = [] { return true; },
                              .write = [&](std::string_view text) { shown += text; },
                              .seconds = [now = 0.]() mutable { return now += 10; }};
  return time_twin("sh " + scratch / "twin.sh", bench_options("tiny", "infinity", Device::cpu), 2, "--plain", "PyTorch",
                   screen);
}

}  // namespace

TEST_CASE("a twin shows its steps and answers with a line of JSON", "[bench]") {
  std::string shown;
  const nlohmann::json twin = time_script(
      "echo a warning >&2\n"
      "echo step 1 of 3: 0.20 s >&2\n"
      "echo \"{\\\"seconds\\\": 2.5, \\\"asked\\\": \\\"$*\\\"}\"\n",
      shown);
  CHECK(twin.at("seconds") == 2.5);
  CHECK_THAT(twin.at("asked").get<std::string>(),
             Catch::Contains("--preset tiny --model infinity --device cpu") && Catch::EndsWith("--steps 2 --plain"));
  CHECK_THAT(shown, Catch::Contains("PyTorch  step 0/3") && Catch::Contains("PyTorch  step 1/3  33%"));
}

TEST_CASE("a twin that fails says why", "[bench]") {
  const std::pair<const char*, const char*> scripts[] = {
      {"echo Traceback; echo 'MemoryError: 8 GiB'; exit 1", "PyTorch: not measured: MemoryError: 8 GiB"},
      {"echo '{\"seconds\": 1}'; exit 1", "it gave no time"},
      {"kill -9 $$", "it was killed; is there too little memory?"},
      {"echo '{\"second'", "it gave no time"},
      {"echo '[1, 2]'", "not measured: [1, 2]"},
      {"", "it gave no time"}};
  for (const auto& [script, reason] : scripts) {
    std::string shown;
    CHECK_THAT(error_of([&, script = script] { time_script(script, shown); }), Catch::EndsWith(reason));
  }
}

TEST_CASE("a python that cannot import PyTorch says why", "[bench]") {
  const ScratchFolder scratch;
  write_text(scratch / "has.sh", "exit 0");
  write_text(scratch / "lacks.sh", "echo Traceback; echo \"ModuleNotFoundError: No module named 'torch'\"; exit 1");
  CHECK(missing_pytorch("sh " + scratch / "has.sh").empty());
  CHECK(missing_pytorch("sh " + scratch / "lacks.sh") == "ModuleNotFoundError: No module named 'torch'");
  CHECK_FALSE(missing_pytorch(scratch / "none").empty());
}
