// JSON that nobody here has written: nested beyond any stack, names and values as long as a file.
#include "tensor/io/json.h"

#include <nlohmann/json.hpp>

#include "nn/checkpoint.h"
#include "nn/options.h"
#include "tasks/common/metrics.h"
#include "tests/catch.h"
#include "tests/file_helpers.h"
#include "tests/scratch.h"

using namespace lem;
using namespace lem::test;
using Catch::Contains;

namespace {

const std::string kDeep = std::string(400000, '[') + std::string(400000, ']');

std::string config_error(const std::string& text) {
  const ScratchFolder folder;
  write_whole(folder / "config.json", text);
  int64_t heads = 0;
  std::string basis;
  const OptionTable table = {{"heads", "Model", Scope::weights, &heads, "", at_least(1)},
                             {"basis", "Memory", Scope::function, &basis, "", one_of({"gaussian", "sine"})}};
  return error_of([&] { set_from_json(table, read_config(folder / "config.json"), "config.json"); });
}

}  // namespace

TEST_CASE("depth is counted outside of strings", "[json]") {
  CHECK(!nests_too_deep("{\"a\": [1, {\"b\": []}]}"));
  CHECK(!nests_too_deep('"' + kDeep + '"'));
  CHECK(!nests_too_deep("\"\\\"" + kDeep + '"'));
  CHECK(nests_too_deep("\"\\\\\"" + kDeep));
  CHECK(nests_too_deep("[\"]]]]\"," + std::string(100, '{')));
  std::string many = "[";
  for (int i = 0; i < 1000; ++i) many += "[],";
  CHECK(!nests_too_deep(many + "0]"));
}

TEST_CASE("files that nest without end are refused", "[json]") {
  CHECK_THAT(config_error("{\"heads\": " + kDeep + "}"), Contains("arrays in arrays"));
  CHECK_THAT(config_error(kDeep), Contains("arrays in arrays"));

  const ScratchFolder folder;
  const std::string metrics = folder / "metrics.jsonl", deep = "{\"step\": 1, \"loss\": " + kDeep + "}\n";
  write_whole(metrics, deep + "{\"step\": 2}\n");
  CHECK_THAT(error_of([&] { read_metrics(metrics); }), Contains("metrics.jsonl:1: no record with a step"));
  CHECK_THAT(error_of([&] { MetricsFile(metrics, 2); }), Contains("metrics.jsonl:1: no record with a step"));
  write_whole(metrics, "{\"step\": 1}\n" + deep);  // what a power failure left
  CHECK(read_metrics(metrics).size() == 1);

  SafetensorsWriter writer;
  writer.set_metadata("format", kCheckpointFormat);
  writer.set_metadata("config", "{\"heads\": " + kDeep + "}");
  writer.set_metadata("progress", "{}");
  writer.write(folder / "weights");
  CHECK_THAT(error_of([&] { Checkpoint(folder / "weights"); }), Contains("\"config\" is not a JSON object"));
}

TEST_CASE("messages do not show a whole file", "[json]") {
  const std::string long_text(400000, 'x');
  for (const std::string& text :
       {"{\"" + long_text + "\": 1}", "{\"heads\": \"" + long_text + "\"}", "{\"basis\": \"" + long_text + "\"}",
        "{\"" + long_text + "\": 1, \"" + long_text + "\": 1}", "{\"" + long_text, long_text}) {
    const std::string error = config_error(text);
    CHECK_THAT(error, Contains("[options] "));
    CHECK(error.size() < 500);
  }
  CHECK_THAT(config_error("{\"\\u001b[31m\": 1}"), Contains("unknown option \"\\u001b[31m\""));
  CHECK_THAT(config_error("{\"basis\": \"" + std::string(99, 'x') + "∞∞\"}"),
             Contains("got " + std::string(99, 'x') + "…, expected"));
}
