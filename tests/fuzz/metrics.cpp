// metrics.jsonl: what can be read can be continued at any step, and then holds that step's records and the new one.
#include "tasks/common/metrics.h"

#include <nlohmann/json.hpp>

#include "tests/fuzz/input.h"

using namespace lem;

std::vector<std::string> fuzz::seeds() {
  return {written([](const std::string& path) {
    MetricsFile file(path);
    for (const int64_t step : {1, 10, 11}) file.append({{"step", step}, {"loss", 1.5}, {"note", "∞"}});
  })};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::InputFile input({reinterpret_cast<const char*>(data), size});
  constexpr int64_t kStep = 10;
  std::vector<nlohmann::json> before;
  const bool readable = fuzz::succeeds([&] { before = read_metrics(input.path()); });
  const bool continued = fuzz::succeeds([&] {
    MetricsFile(input.path(), kStep).append({{"step", kStep + 1}, {"loss", 1.5}});
  });
  if (!readable || !continued) return 0;
  size_t kept = 0;
  while (kept < before.size() && before[kept]["step"].get<int64_t>() <= kStep) ++kept;
  const std::vector<nlohmann::json> after = read_metrics(input.path());
  fuzz::require(after.size() == kept + 1 && after.back()["step"] == kStep + 1);
  for (size_t i = 0; i < kept; ++i) fuzz::require(after[i] == before[i]);
  return 0;
}
