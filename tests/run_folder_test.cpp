// A run's folder: nobody writes over another's, and what is there can be gone on with.
#include <filesystem>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "tasks/common/metrics.h"
#include "tasks/common/program.h"
#include "tensor/io/safetensors.h"
#include "tensor/real.h"
#include "tests/catch.h"
#include "tests/file_helpers.h"
#include "tests/program.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;
using test::read_whole;

namespace {

using Words = std::vector<std::string>;

Words quick(const std::string& command, const std::string& out, const Words& flags = {}) {
  Words words = with_flags(small_training(out), {"--steps", "10"});
  words[0] = command;
  return with_flags(words, flags);
}

struct Ended {
  int code;
  std::string output;
};
Ended run(const Words& arguments, const ScratchFolder& scratch) {
  Program program(arguments, scratch / "log");
  const int code = program.wait();
  return {code, program.output()};
}

/// Every file below a folder, and what is in it.
std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) all[entry.path().string()] = read_whole(entry.path());
  return all;
}

nlohmann::json progress_of(const std::string& run) {
  return nlohmann::json::parse(SafetensorsFile(run + "/last.safetensors").metadata("progress"));
}

}  // namespace

TEST_CASE("compare leaves a run with other settings as it is", "[run-folder]") {
  const ScratchFolder scratch;
  for (const char* model : {"infinity", "transformer-xl"}) {
    const std::string root = scratch / model;
    REQUIRE(run(quick("train", root + "/" + model, {"--steps", "12", "--model", model}), scratch).code == 0);
    const auto before = contents(root);
    const Ended compare = run(quick("compare", root), scratch);
    CHECK(compare.code == 1);
    CHECK_THAT(compare.output, Contains("steps: 12 in the checkpoint, 10 asked for") && Contains("--out"));
    CHECK(contents(root) == before);
    CHECK(std::distance(std::filesystem::directory_iterator(root), {}) == 1);  // the other model was not begun
  }
}

TEST_CASE("compare writes where it is told, and the same command goes on with what is there", "[run-folder]") {
  const ScratchFolder scratch;
  const std::string root = scratch / "place";
  Program stopped(quick("compare", root, {"--steps", "200"}), scratch / "log");
  for (int i = 0; i < 3000 && !std::filesystem::exists(root + "/transformer-xl/best.safetensors"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  stopped.signal(SIGINT);
  REQUIRE(stopped.wait() == 130);
  CHECK_THAT(stopped.output(), Contains("The same command goes on from there"));
  const std::string finished = read_whole(root + "/infinity/last.safetensors");
  const Ended again = run(quick("compare", root, {"--steps", "200"}), scratch);
  INFO(again.output);
  REQUIRE(again.code == 0);
  CHECK(read_whole(root + "/infinity/last.safetensors") == finished);
  CHECK(read_metrics(root + "/transformer-xl/metrics.jsonl").back().at("step") == 200);
  for (const char* file : {"/curves.svg", "/summary.json"}) CHECK(std::filesystem::exists(root + file));
  CHECK(scratch.entries() == 2);  // the log, and nothing beside the folder that was named

  // Table and curves of finished runs, drawn again.
  std::filesystem::remove(root + "/curves.svg");
  const auto before = contents(root);
  CHECK(run(quick("compare", root, {"--steps", "200"}), scratch).code == 0);
  CHECK(std::filesystem::exists(root + "/curves.svg"));
  std::filesystem::remove(root + "/curves.svg");
  CHECK(contents(root) == before);

  // A record that lacks a value is a gap in its curve.
  const std::string metrics = root + "/infinity/metrics.jsonl";
  test::write_whole(metrics, "{\"step\": 0, \"loss\": 1}\n" + read_whole(metrics));
  const Ended gap = run(quick("compare", root, {"--steps", "200"}), scratch);
  CAPTURE(gap.output);
  CHECK(gap.code == 0);
}

TEST_CASE("compare goes on with the data that its runs have seen, or not at all", "[run-folder]") {
  const ScratchFolder scratch;
  const std::string data = scratch / "data.txt", test_data = scratch / "test.txt", root = scratch / "place";
  const auto generate = [&](const std::string& file, const std::string& seed) {
    return run({"generate", "--symbols", "5", "--length", "40", "--count", "30", "--seed", seed, "--out", file},
               scratch)
        .code;
  };
  const Words compare = quick("compare", root, {"--data", data, "--test-data", test_data, "--test-samples", "100"});
  REQUIRE(generate(data, "1") == 0);
  REQUIRE(generate(test_data, "2") == 0);
  REQUIRE(run(compare, scratch).code == 0);
  const auto before = contents(root);
  REQUIRE(run(compare, scratch).code == 0);
  CHECK(contents(root) == before);
  // Other data to test on: the same runs, tested again.
  REQUIRE(generate(test_data, "3") == 0);
  REQUIRE(run(compare, scratch).code == 0);
  CHECK(read_whole(root + "/infinity/result.json") != before.at(root + "/infinity/result.json"));
  // Other data to train on: refused before anything is touched.
  REQUIRE(generate(data, "4") == 0);
  const auto after = contents(root);
  const Ended refused = run(compare, scratch);
  CHECK(refused.code == 1);
  CHECK_THAT(refused.output, Contains("[compare] the data is not what this run has seen so far"));
  CHECK(contents(root) == after);
}

TEST_CASE("two programs are never at work in one folder", "[run-folder]") {
  const ScratchFolder scratch;
  const std::string out = scratch / "run";
  Program first(quick("train", out, {"--steps", "10000000"}), scratch / "first");
  for (int i = 0; i < 3000 && !std::filesystem::exists(out + "/best.safetensors"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  for (const Words& words : {Words{"train", "--resume", out}, quick("train", out)}) {
    const Ended second = run(words, scratch);
    CHECK(second.code == 1);
    CHECK_THAT(second.output, Contains("another program is at work in this folder"));
  }
  first.signal(SIGKILL);
  CHECK(first.wait() == 1000 + SIGKILL);
  Program third({"train", "--resume", out}, scratch / "log");  // the lock went with the process
  REQUIRE(third.says("step "));
  third.signal(SIGINT);
  CHECK(third.wait() == 130);
}

TEST_CASE("a folder that is moved while the run is on is missed, not replaced", "[run-folder]") {
  const ScratchFolder scratch;
  const std::string out = scratch / "run";
  Program moved(quick("train", out, {"--steps", "10000000"}), scratch / "log");
  for (int i = 0; i < 3000 && !std::filesystem::exists(out + "/best.safetensors"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::filesystem::rename(out, scratch / "elsewhere");
  CHECK(moved.wait() == 1);
  CHECK_THAT(moved.output(), Contains("was moved or removed while the run was on"));
  CHECK_FALSE(std::filesystem::exists(out));
  Program resumed({"train", "--resume", scratch / "elsewhere"}, scratch / "log");
  REQUIRE(resumed.says("step "));
  resumed.signal(SIGINT);
  CHECK(resumed.wait() == 130);
}

TEST_CASE("a batch in parts is the same training in less memory", "[run-folder]") {
  const ScratchFolder scratch;
  const auto losses = [&](const std::string& parts) {
    const std::string out = scratch / parts;
    REQUIRE(run(quick("train", out, {"--accumulate", parts, "--lambda-kl", "0.01"}), scratch).code == 0);
    std::vector<double> all;
    for (const nlohmann::json& record : read_metrics(out + "/metrics.jsonl"))
      for (const char* key : {"loss", "grad_norm", "kl", "validation_loss"})
        if (record.contains(key)) all.push_back(record[key]);
    return all;
  };
  const std::vector<double> whole = losses("1");
  REQUIRE(whole.size() >= 30);
  for (const char* parts : {"2", "3", "4"}) {
    CAPTURE(parts);
    const std::vector<double> got = losses(parts);
    REQUIRE(got.size() == whole.size());
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(whole[i]).epsilon(kDouble ? 1e-9 : 1e-3));
  }
  const Ended refused = run(quick("train", scratch / "x", {"--accumulate", "5"}), scratch);
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, Contains("accumulate: got 5 parts, expected at most the 4 sequences of a step"));
}

TEST_CASE("settings of the training change when one says so, and the run notes from which step", "[run-folder]") {
  const ScratchFolder scratch;
  const std::string out = scratch / "run";
  REQUIRE(run(quick("train", out), scratch).code == 0);
  const Ended refused = run({"train", "--resume", out, "--steps", "20", "--lr", "1e-3"}, scratch);
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, Contains("steps: 10 in the checkpoint, 20 asked for") && Contains("--change-training"));
  REQUIRE(run({"train", "--resume", out, "--change-training", "--steps", "20", "--batch", "3"}, scratch).code == 0);
  CHECK(read_metrics(out + "/metrics.jsonl").back().at("step") == 20);
  const nlohmann::json progress = progress_of(out);
  CHECK(progress.at("next_sample") == 10 * 4 + 10 * 3);  // no sample is left out or seen twice
  REQUIRE(progress.at("changes").size() == 1);
  CHECK(progress.at("changes")[0].at("step") == 10);
  CHECK(progress.at("changes")[0].at("settings").at("steps") == nlohmann::json{{"from", 10}, {"to", 20}});
  CHECK(progress.at("changes")[0].at("settings").at("batch") == nlohmann::json{{"from", 4}, {"to", 3}});
  // The record of the steps says so where they change, and reads as one.
  int notes = 0;
  for (const nlohmann::json& record : read_metrics(out + "/metrics.jsonl"))
    if (record.contains("change")) {
      CHECK(record.at("change") == progress.at("changes")[0]);
      ++notes;
    }
  CHECK(notes == 1);

  const auto before = contents(out);
  for (const auto& [flag, value, says] : {std::tuple{"--heads", "4", "heads: 2 in the checkpoint, 4 asked for"},
                                          {"--init-std", "0.1", "init-std: 0.02 in the checkpoint, 0.1 asked for"},
                                          {"--steps", "19", "this run has taken 20 steps already: got --steps 19"}}) {
    const Ended misuse = run({"train", "--resume", out, "--change-training", flag, value}, scratch);
    CHECK(misuse.code == 2);
    CHECK_THAT(misuse.output, Contains(says));
    CHECK(contents(out) == before);
  }
}

TEST_CASE("the advice after a loss that is not finite is a command that works", "[run-folder]") {
  const ScratchFolder scratch;
  const std::string out = scratch / "run";
  const Ended failed =
      run(quick("train", out, {"--lr", kDouble ? "1e150" : "1e18", "--schedule", "constant"}), scratch);
  REQUIRE(failed.code == 1);
  const std::string command = "build/sort ";
  const size_t at = failed.output.rfind(command);
  REQUIRE(at != std::string::npos);
  std::istringstream words(failed.output.substr(at + command.size()));
  Words advice{std::istream_iterator<std::string>(words), {}};
  advice.back() = "1e-3";  // ten times less is too large still
  CHECK(run(advice, scratch).code == 0);

  // Before the first step nothing but the settings can be at fault.
  const Ended first =
      run(quick("train", scratch / "first", {"--sigma0", "1e-6", "--lambda-kl", kDouble ? "1e300" : "1e38"}), scratch);
  CHECK(first.code == 1);
  CHECK_THAT(first.output, Contains("[train] step 1: ") && Contains("start anew") && !Contains("--resume"));
}

TEST_CASE("a command that is advised can be pasted, whatever the folder is called", "[run-folder]") {
  const ScratchFolder scratch;
  for (const char* name : {"my run", "it's $HOME", "a;b&c"}) {
    const std::string out = scratch / name;
    Program stopped(quick("train", out, {"--steps", "10000000"}), scratch / "log");
    REQUIRE(stopped.says("step "));
    stopped.signal(SIGINT);
    REQUIRE(stopped.wait() == 130);
    const std::string said = stopped.output(), command = "build/sort ";
    std::string advice = said.substr(said.rfind(command) + command.size());
    advice = Program::path() + " " + advice.substr(0, advice.find('\n')) + " --change-training --steps 10000001";
    Program pasted({}, scratch / "log", {.environment = {}, .closed = {}, .wrapper = {"sh", "-c", "exec " + advice}});
    REQUIRE(pasted.says("step "));
    pasted.signal(SIGINT);
    CHECK(pasted.wait() == 130);
  }
  CHECK(shell_word("runs/demo/infinity") == "runs/demo/infinity");
  CHECK(shell_word("-x") == "'./-x'");
}

TEST_CASE("a run goes on with the data that it has seen, or not at all", "[run-folder]") {
  const ScratchFolder scratch;
  const std::string data = scratch / "data.txt", out = scratch / "run";
  const auto generate = [&](const std::string& seed, const std::string& count) {
    return run({"generate", "--symbols", "5", "--length", "40", "--count", count, "--seed", seed, "--out", data},
               scratch)
        .code;
  };
  REQUIRE(generate("1", "30") == 0);
  REQUIRE(run(quick("train", out, {"--data", data}), scratch).code == 0);
  REQUIRE(run({"train", "--resume", out}, scratch).code == 0);
  for (const auto& [seed, count] : {std::pair{"2", "30"}, {"1", "31"}}) {
    REQUIRE(generate(seed, count) == 0);
    const auto before = contents(out);
    const Ended changed = run({"train", "--resume", out}, scratch);
    CHECK(changed.code == 1);
    CHECK_THAT(changed.output,
               Contains("the data is not what this run has seen so far") && Contains("2400 bytes, hash "));
    CHECK(contents(out) == before);
  }
  CHECK(run({"train", "--resume", out, "--change-training"}, scratch).code == 0);
}

TEST_CASE("a run is resumed by its folder or by the checkpoint in it", "[run-folder]") {
  const ScratchFolder scratch;
  const std::string out = scratch / "run";
  REQUIRE(run(quick("train", out), scratch).code == 0);
  CHECK(run({"train", "--resume", out + "/last.safetensors"}, scratch).code == 0);
  CHECK(run({"train", "--resume", out + "/"}, scratch).code == 0);
  std::filesystem::copy(out + "/last.safetensors", out + "/best.safetensors",
                        std::filesystem::copy_options::overwrite_existing);
  const Ended best = run({"train", "--resume", out + "/best.safetensors"}, scratch);
  CHECK(best.code == 1);
  CHECK_THAT(best.output, Contains("a run goes on from last.safetensors"));
  CHECK(run({"eval", "--checkpoint", out + "/best.safetensors"}, scratch).code == 0);
}
