#include "tasks/common/metrics.h"

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tensor/io/files.h"
#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;

namespace {

/// The file's text after continuing from `step`.
std::string continued(const std::string& text, int64_t step) {
  const ScratchFolder folder;
  std::ofstream(folder / "m.jsonl") << text;
  MetricsFile metrics(folder / "m.jsonl", step);
  return read_text(folder / "m.jsonl");
}

const std::string kThree = "{\"step\":1,\"loss\":2.5}\n{\"step\":2}\n{\"step\":2,\"validation\":1}\n{\"step\":3}\n";

}  // namespace

TEST_CASE("metrics are one JSON object a line, there at once", "[metrics]") {
  const ScratchFolder folder;
  const std::string path = folder / "m.jsonl";
  MetricsFile metrics(path);
  metrics.append({{"step", 1}, {"loss", 0.1}, {"who", "∞ \"x\"\n"}});
  CHECK(read_text(path) == "{\"step\":1,\"loss\":0.1,\"who\":\"∞ \\\"x\\\"\\n\"}\n");
  metrics.append({{"step", 2}, {"loss", NAN}, {"norm", INFINITY}, {"low", -INFINITY}, {"text", "\xff"}});
  metrics.sync();
  const auto records = read_metrics(path);
  REQUIRE(records.size() == 2);
  CHECK(records[1]["loss"].is_null());
  CHECK(records[1]["norm"].is_null());
  CHECK(records[1]["low"].is_null());
  CHECK_THAT(error_of([&] { metrics.append({{"loss", 1}}); }), Contains("a record needs an integer \"step\""));
  CHECK_THAT(error_of([&] { metrics.append({{"step", 1.5}}); }), Contains("a record needs an integer \"step\""));
  CHECK(read_metrics(path).size() == 2);
  MetricsFile anew(path);
  CHECK(read_text(path).empty());
}

TEST_CASE("numbers come back bit for bit", "[metrics]") {
  const ScratchFolder folder;
  MetricsFile metrics(folder / "m.jsonl");
  const double values[] = {0.1 + 0.2, 1e-300, 1.0 / 3, 123456789.123456789, -0.0};
  for (const double value : values) metrics.append({{"step", 1}, {"x", value}});
  const auto records = read_metrics(folder / "m.jsonl");
  for (size_t i = 0; i < std::size(values); ++i) CHECK(records[i]["x"].get<double>() == values[i]);
}

TEST_CASE("a resumed run's metrics end at the checkpoint", "[metrics]") {
  CHECK(continued(kThree, 3) == kThree);
  CHECK(continued(kThree, 100) == kThree);
  CHECK(continued(kThree, 2) == "{\"step\":1,\"loss\":2.5}\n{\"step\":2}\n{\"step\":2,\"validation\":1}\n");
  CHECK(continued(kThree, 1) == "{\"step\":1,\"loss\":2.5}\n");
  CHECK(continued(kThree, 0).empty());
  CHECK(continued("", 5).empty());
}

TEST_CASE("a torn last line is dropped", "[metrics]") {
  CHECK(continued(kThree + "{\"step\":4,\"lo", 9) == kThree);
  CHECK(continued(kThree + "{\"step\":4}", 9) == kThree);  // whole, but who knows: 4 could be the start of 42
  CHECK(continued(kThree + "{\"step\":4,\"lo\n", 9) == kThree);
  CHECK(continued(kThree + std::string(5, '\0'), 9) == kThree);  // what a power failure may leave
  CHECK(continued("{\"st", 9).empty());
}

TEST_CASE("a resumed run appends behind what is kept", "[metrics]") {
  const ScratchFolder folder;
  std::ofstream(folder / "m.jsonl") << kThree << "{\"step\":4,\"lo";
  MetricsFile metrics(folder / "m.jsonl", 2);
  metrics.append({{"step", 3}, {"loss", 1}});
  CHECK(read_metrics(folder / "m.jsonl").back() == nlohmann::json{{"step", 3}, {"loss", 1}});
  CHECK(read_metrics(folder / "m.jsonl").size() == 4);
  MetricsFile missing(folder / "new.jsonl", 2);  // nothing to continue: begins
  missing.append({{"step", 3}});
  CHECK(read_metrics(folder / "new.jsonl").size() == 1);
}

TEST_CASE("a file that is no metrics file is refused, not cut", "[metrics]") {
  const ScratchFolder folder;
  const std::string path = folder / "m.jsonl";
  const auto error = [&](const std::string& text) {
    std::ofstream(path) << text;
    const std::string message = error_of([&] { MetricsFile(path, 9); });
    CHECK(read_text(path) == text);
    return message;
  };
  CHECK(error("{\"step\":1}\nhello\n{\"step\":2}\n") ==
        "[metrics] " + path + ":2: no record with a step; mend or remove this line");
  CHECK_THAT(error("[1]\n{\"step\":2}\n"), Contains(path + ":1: no record"));
  CHECK_THAT(error("{\"loss\":1}\n{\"step\":2}\n"), Contains(":1: no record"));
  CHECK_THAT(error("{\"step\":\"1\"}\n{\"step\":2}\n"), Contains(":1: no record"));
  CHECK_THAT(error_of([&] { MetricsFile(folder / "none/m.jsonl"); }), Contains("No such file or directory"));
  CHECK_THAT(error_of([&] { MetricsFile(folder.path()); }), Contains("Is a directory"));
  CHECK_THAT(error_of([&] { read_metrics(folder / "none"); }), Contains("No such file"));
}

TEST_CASE("a full disk leaves whole lines", "[metrics]") {
  const ScratchFolder folder;
  MetricsFile metrics(folder / "m.jsonl");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  std::string message;
  int64_t written = 0;
  for (; message.empty() && written < 1000; ++written)
    if (const std::string e = error_of([&] { metrics.append({{"step", written}}); }); e != "(no error)") message = e;
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, Contains("[files] cannot write " + (folder / "m.jsonl") + ": File too large"));
  CHECK(read_text(folder / "m.jsonl").ends_with("}\n"));
  metrics.append({{"step", 1000}});  // room again
  CHECK(int64_t(read_metrics(folder / "m.jsonl").size()) == written);
}
