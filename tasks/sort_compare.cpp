#include "tasks/sort_compare.h"

#include <fmt/core.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "tasks/curves.h"
#include "tasks/metrics.h"
#include "tasks/sort_train.h"

namespace lem {
namespace {

struct Contestant {
  std::string option, name;
  TrainResult result;
  std::string folder;
};

/// Trained from the start: a comparison left half done is not gone on with.
void train(Contestant& c, SortOptions o, const std::string& root) {
  o.model = c.option;
  o.out = c.folder = root + "/" + c.option;
  for (const char* file : {"last.safetensors", "best.safetensors", "metrics.jsonl", "result.json"})
    std::filesystem::remove(o.out + "/" + file);
  c.result = train_sort(o, false);
}

void print_table(const std::vector<Contestant>& contestants, const SortOptions& o) {
  const SortScore& any = contestants[0].result.test;
  fmt::print("\nSorting {} symbols by count, {} tokens, {} held-out samples\n\n", o.symbols, o.length, any.samples);
  fmt::print("  {:<46} {:>10} {:>9}\n", "", "accuracy", "training");
  for (const Contestant& c : contestants)
    fmt::print("  {:<46} {:>8.1f} % {:>7.1f} s\n", c.name, 100 * c.result.test.accuracy, c.result.seconds);
  fmt::print("  {:<46} {:>8.1f} %\n", "ceiling: counting all tokens", 100 * any.ceiling_all);
  fmt::print("  {:<46} {:>8.1f} %\n\n",
             fmt::format("ceiling: counting the last {} to {} tokens", o.stm, o.stm + o.segment),
             100 * any.ceiling_visible);
}

void write_summary(const std::string& path, const std::vector<Contestant>& contestants) {
  const auto entry = [](const TrainResult& r) {
    return nlohmann::ordered_json{{"accuracy", r.test.accuracy}, {"seconds", r.seconds}};
  };
  const nlohmann::ordered_json summary = {{"infinity", entry(contestants[0].result)},
                                          {"transformer_xl", entry(contestants[1].result)},
                                          {"ceiling_all", contestants[0].result.test.ceiling_all},
                                          {"ceiling_visible", contestants[0].result.test.ceiling_visible}};
  write_text(path, summary.dump(2) + "\n");
}

void draw(const std::string& path, const std::vector<Contestant>& contestants, const SortOptions& o) {
  Panel loss{.title = "Loss, nats a symbol"};
  Panel accuracy{.title = "Symbols named right", .percent = true};
  for (const Contestant& c : contestants) {
    Curve l{c.name, {}, {}}, a{c.name, {}, {}};
    for (const nlohmann::json& record : read_metrics(c.folder + "/metrics.jsonl")) {
      if (!record.contains("loss")) continue;
      for (auto [curve, key] : {std::pair{&l, "loss"}, std::pair{&a, "accuracy"}}) {
        curve->x.push_back(record["step"]);
        curve->y.push_back(record[key].is_number() ? record[key].get<double>() : std::nan(""));
      }
    }
    loss.curves.push_back(std::move(l)), accuracy.curves.push_back(std::move(a));
  }
  const SortScore& any = contestants[0].result.test;
  accuracy.levels = {{"counting all tokens", any.ceiling_all},
                     {"counting what short-term memory holds", any.ceiling_visible}};
  const std::string title = fmt::format("Sorting {} symbols by count over {} tokens", o.symbols, o.length);
  write_curves_svg(path, title, {loss, accuracy});
}

}  // namespace

int compare_sort(const SortOptions& o) {
  const std::string root = parent_folder(o.out);
  std::vector<Contestant> contestants = {{"infinity", "∞-former", {}, {}},
                                         {"transformer-xl", "Transformer-XL with the same short-term memory", {}, {}}};
  for (Contestant& c : contestants) {
    train(c, o, root);
    if (c.result.interrupted) {
      fmt::print("stopped; go on with this one by\n    build/sort train --resume {}\n", c.folder);
      return 130;
    }
  }
  print_table(contestants, o);
  write_summary(root + "/summary.json", contestants);
  draw(root + "/curves.svg", contestants, o);
  fmt::print("{}/curves.svg shows both trainings; {}/summary.json holds the figures\n", root, root);
  return 0;
}

}  // namespace lem
