// build/sort as a user runs it: a run killed at any moment and resumed ends as if nothing had happened; Ctrl-C saves;
// what goes wrong is said clearly.
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "tasks/common/metrics.h"
#include "tensor/backend.h"
#include "tensor/io/files.h"
#include "tests/catch.h"
#include "tests/file_helpers.h"
#include "tests/program.h"
#include "tests/scratch.h"

using namespace lem;
using test::tensors;

TEST_CASE("a run that is killed and resumed ends with the same metrics and weights", "[sort]") {
  const ScratchFolder scratch;
  const std::string whole = scratch / "whole", broken = scratch / "broken", log = scratch / "log";
  Program uninterrupted(small_training(whole), log);
  REQUIRE(uninterrupted.wait() == 0);

  int kills = 0;
  for (int attempt = 0; attempt < 60; ++attempt) {
    const bool begun = std::filesystem::exists(broken + "/last.safetensors");
    // Nor does it matter how often the losses are looked at.
    Program run(
        begun ? std::vector<std::string>{"train", "--resume", broken, "--read-every", "3"} : small_training(broken),
        log);
    if (kills < 6) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20 + (attempt * 7919) % 300));
      run.signal(SIGKILL);
    }
    const int code = run.wait();
    if (code == 0) break;
    INFO(run.output());
    REQUIRE(code == 1000 + SIGKILL);
    ++kills;
  }
  CHECK(kills >= 1);
  CHECK(read_text(whole + "/metrics.jsonl") == read_text(broken + "/metrics.jsonl"));
  CHECK(tensors(whole + "/last.safetensors") == tensors(broken + "/last.safetensors"));
  CHECK(tensors(whole + "/best.safetensors") == tensors(broken + "/best.safetensors"));
}

TEST_CASE("two runs with the same seed and threads end with the same bits", "[sort]") {
  const ScratchFolder scratch;
  for (const char* run : {"a", "b"})
    REQUIRE(Program(with_flags(small_training(scratch / run), {"--threads", "2", "--batch", "16"}), scratch / "log")
                .wait() == 0);
  CHECK(read_text(scratch / "a/metrics.jsonl") == read_text(scratch / "b/metrics.jsonl"));
  CHECK(tensors(scratch / "a/last.safetensors") == tensors(scratch / "b/last.safetensors"));
}

TEST_CASE("Ctrl-C finishes the step, saves and says how to go on", "[sort]") {
  const ScratchFolder scratch;
  Program run(with_flags(small_training(scratch / "run"), {"--steps", "100000"}), scratch / "log");
  for (int i = 0; i < 500 && !std::filesystem::exists(scratch / "run/best.safetensors"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  run.signal(SIGINT);
  CHECK(run.wait() == 130);
  CHECK_THAT(run.output(), Catch::Contains("everything is saved") && Catch::Contains("--resume " + scratch / "run"));
  const auto progress = nlohmann::json::parse(SafetensorsFile(scratch / "run/last.safetensors").metadata("progress"));
  const auto records = read_metrics(scratch / "run/metrics.jsonl");
  CHECK(records.back().at("step") == progress.at("step"));
}

TEST_CASE("what goes wrong is said clearly and keeps the last checkpoint", "[sort]") {
  const ScratchFolder scratch;
  const auto run = [&](std::vector<std::string> arguments) {
    Program program(arguments, scratch / "log");
    const int code = program.wait();
    return std::pair(code, program.output());
  };
  const auto with = [&](const std::vector<std::string>& flags) {
    return run(with_flags(small_training(scratch / "run"), flags));
  };

  SECTION("a step too large names the operation, and weights stay finite") {
    const auto [code, output] = with({"--lr", kDouble ? "1e150" : "1e18", "--schedule", "constant"});
    CHECK(code == 1);
    CHECK_THAT(output, Catch::Contains("[train] step") && Catch::Contains("[anomaly] layers.0 /") &&
                           Catch::Contains("last checkpoint"));
    CHECK(SafetensorsFile(scratch / "run/last.safetensors").contains("embedding.weight"));
    // Found steps later, it is the same step, with the same weights, and no metrics of those before it are lost.
    const auto report_of = [](const std::string& text) {
      const size_t begin = text.find("[train] step");
      return text.substr(begin, text.find("the last checkpoint") - begin);
    };
    const auto late = with(
        {"--lr", kDouble ? "1e150" : "1e18", "--schedule", "constant", "--read-every", "7", "--out", scratch / "late"});
    CHECK(late.first == 1);
    CHECK(report_of(late.second) == report_of(output));
    CHECK(read_text(scratch / "late/metrics.jsonl") == read_text(scratch / "run/metrics.jsonl"));
  }
  SECTION("a folder that holds a run is not written over") {
    REQUIRE(with({}).first == 0);
    const auto [code, output] = with({});
    CHECK(code == 1);
    CHECK_THAT(output, Catch::Contains("holds a run already") && Catch::Contains("--resume"));
  }
  SECTION("resuming with another configuration names the fields") {
    REQUIRE(with({"--steps", "5"}).first == 0);
    const auto [code, output] = run({"train", "--resume", scratch / "run", "--heads", "4", "--lr", "1e-5"});
    CHECK(code == 2);
    CHECK_THAT(output, Catch::Contains("heads: 2 in the checkpoint, 4 asked for") && Catch::Contains("lr:"));
  }
  SECTION("a damaged checkpoint is refused by name") {
    REQUIRE(with({"--steps", "5"}).first == 0);
    std::filesystem::resize_file(scratch / "run/last.safetensors", 5000);
    const auto [code, output] = run({"eval", "--checkpoint", scratch / "run"});
    CHECK(code == 1);
    CHECK_THAT(output, Catch::Contains("last.safetensors"));
  }
  SECTION("impossible settings, unknown flags, unwritable folders") {
    CHECK_THAT(with({"--width", "15"}).second, Catch::Contains("width"));
    CHECK_THAT(with({"--N", "15"}).second, Catch::Contains("multiple of the number of widths"));
    const auto [code, output] = with({"--hedas", "2"});
    CHECK(code == 2);
    CHECK_THAT(output, Catch::Contains("--heads"));
    write_text(scratch / "file", "");
    const auto [unwritable, message] = run(small_training(scratch / "file/run"));
    CHECK(unwritable == 1);
    CHECK_THAT(message, Catch::Contains("file"));
  }
}

TEST_CASE("a device that this build or machine lacks is refused before anything is written", "[sort]") {
  const ScratchFolder scratch;
  for (const Device device : {Device::simt, Device::cuda}) {
    const char* why = device == Device::simt ? simt::absence() : cuda::absence();
    if (*why == '\0') continue;
    Program train(with_flags(small_training(scratch / "run"), {"--device", name(device)}), scratch / "log");
    CHECK(train.wait() == 1);
    CHECK(train.output() == fmt::format("[device] {} cannot be used: {}; --device {}cpu does the same\n", name(device),
                                        why, device == Device::cuda && simt::backend() ? "simt or " : ""));
    CHECK_FALSE(std::filesystem::exists(scratch / "run"));
  }
}

TEST_CASE("what computes is saved with a run, and may change when it goes on", "[sort]") {
  const ScratchFolder scratch;
  std::vector<std::string> arguments = with_flags(small_training(scratch / "run"), {"--steps", "3"});
  arguments.push_back("--allow-tf32");
  REQUIRE(Program(arguments, scratch / "log").wait() == 0);
  CHECK_THAT(read_text(scratch / "run/config.json"), Catch::Contains("\"allow-tf32\": true"));
  Program run({"train", "--resume", scratch / "run", "--no-allow-tf32"}, scratch / "log");
  CHECK(run.wait() == 0);
  CHECK_THAT(read_text(scratch / "run/config.json"), Catch::Contains("\"allow-tf32\": false"));
}

TEST_CASE("files made by generate are trained and tested on", "[sort]") {
  const ScratchFolder scratch;
  const std::string train = scratch / "train.txt", test = scratch / "test.txt";
  REQUIRE(Program({"generate", "--symbols", "5", "--length", "40", "--count", "30", "--out", train}, scratch / "log")
              .wait() == 0);
  REQUIRE(Program({"generate", "--symbols", "5", "--length", "40", "--count", "9", "--split", "test", "--out", test},
                  scratch / "log")
              .wait() == 0);
  Program run(with_flags(small_training(scratch / "run"), {"--data", train, "--test-data", test, "--steps", "12"}),
              scratch / "log");
  const int code = run.wait();
  INFO(run.output());
  CHECK(code == 0);
  CHECK_THAT(run.output(), Catch::Contains("8 samples"));
  Program eval({"eval", "--checkpoint", scratch / "run", "--test-data", test, "--test-samples", "100"},
               scratch / "log");
  CHECK(eval.wait() == 0);
  CHECK_THAT(eval.output(), Catch::Contains("9 samples"));
}

TEST_CASE("what went wrong and was made good is told at the end", "[sort]") {
  const ScratchFolder scratch;
  // Weights so large that densities are not finite.
  Program stream({"stream", "--tokens", "2000", "--sticky", "--init-std", kDouble ? "1e308" : "3e38", "--threads", "1"},
                 scratch / "log");
  CHECK(stream.wait() == 0);
  CHECK_THAT(stream.output(), Catch::Contains("warning: sticky memories found no usable mass"));
}

TEST_CASE("streaming costs the same however long the past", "[sort]") {
  const ScratchFolder scratch;
  Program stream({"stream", "--tokens", "19968", "--threads", "1"}, scratch / "log");
  REQUIRE(stream.wait() == 0);
  std::vector<nlohmann::json> lines;
  std::istringstream text(stream.output());
  for (std::string line; std::getline(text, line);)
    if (!line.starts_with("stream  step")) lines.push_back(nlohmann::json::parse(line));
  REQUIRE(lines.size() == 3);  // past 1,000, past 10,000, and the end, after a whole segment
  CHECK(lines[0].at("state_bytes") == lines[2].at("state_bytes"));
  CHECK(lines[2].at("memory_vectors").get<int64_t>() >= 19968 - 3 * 64);
  // Time is left to be looked at, on a machine that does nothing else. The address sanitizer holds back what is freed.
#ifndef __SANITIZE_ADDRESS__
  CHECK(lines[2].at("resident_mib").get<double>() <= lines[1].at("resident_mib").get<double>() + 1);
#endif
}
