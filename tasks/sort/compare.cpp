#include "tasks/sort/compare.h"

#include <fmt/core.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "nn/checkpoint.h"
#include "tasks/common/curves.h"
#include "tasks/common/metrics.h"
#include "tasks/common/program.h"
#include "tasks/sort/train.h"
#include "tensor/io/files.h"

namespace lem {
namespace {

struct Contestant {
  std::string option, name, folder;
  SortOptions options;
  Start start = Start::fresh;
  TrainResult result;
  SortScore test;
};

/// What there is to be done for a contestant. Touches nothing.
void plan(Contestant& c, const SortOptions& o, const std::string& root) {
  c.folder = root + "/" + c.option;
  c.options = o;
  c.options.model = c.option, c.options.run.out = c.folder;
  validate(c.options);
  if (!std::filesystem::exists(c.folder + "/last.safetensors")) return;
  const Checkpoint checkpoint(c.folder + "/last.safetensors");
  SortOptions saved = options_from_json(checkpoint.config, c.folder);
  const auto lines = differences(option_table(saved), option_table(c.options), Scope::training);
  check(lines.empty(),
        "[compare] {} holds a run with other settings:\n    {}\nchoose another folder with --out, or ask for the same "
        "settings to go on with it",
        c.folder, fmt::join(lines, "\n    "));
  check_same_data("compare", "sort", checkpoint, sorting_data(c.options, Split::train).identity());
  c.start = Start::resumed;
}

void train(Contestant& c) {
  const std::optional<TrainResult> finished =
      c.start == Start::resumed ? finished_sort(c.options) : std::optional<TrainResult>();
  c.result = finished ? *finished : train_sort(c.options, c.start);
  if (!c.result.interrupted) c.test = sort_score(c.result.test);
}

void print_table(const std::vector<Contestant>& contestants, const SortOptions& o) {
  const SortScore& any = contestants[0].test;
  fmt::print("\nSorting {} symbols by count, {} tokens, {} held-out samples\n\n", o.symbols, o.length, any.samples);
  fmt::print("  {:<46} {:>10} {:>9}\n", "", "accuracy", "training");
  for (const Contestant& c : contestants)
    fmt::print("  {:<46} {:>8.1f} % {:>7.1f} s\n", c.name, 100 * c.test.accuracy, c.result.seconds);
  fmt::print("  {:<46} {:>8.1f} %\n", "ceiling: counting all tokens", 100 * any.ceiling_all);
  fmt::print(
      "  {:<46} {:>8.1f} %\n\n",
      fmt::format("ceiling: counting the last {} to {} tokens", o.transformer.stm, o.transformer.stm + o.segment),
      100 * any.ceiling_visible);
}

void write_summary(const std::string& path, const std::vector<Contestant>& contestants) {
  const auto entry = [](const Contestant& c) {
    return nlohmann::ordered_json{{"accuracy", c.test.accuracy}, {"seconds", c.result.seconds}};
  };
  const nlohmann::ordered_json summary = {{"infinity", entry(contestants[0])},
                                          {"transformer_xl", entry(contestants[1])},
                                          {"ceiling_all", contestants[0].test.ceiling_all},
                                          {"ceiling_visible", contestants[0].test.ceiling_visible}};
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
        const auto value = record.find(key);  // null where it was not finite
        curve->y.push_back(value != record.end() && value->is_number() ? value->get<double>() : std::nan(""));
      }
    }
    loss.curves.push_back(std::move(l)), accuracy.curves.push_back(std::move(a));
  }
  const SortScore& any = contestants[0].test;
  accuracy.levels = {{"counting all tokens", any.ceiling_all},
                     {"counting what short-term memory holds", any.ceiling_visible}};
  const std::string title = fmt::format("Sorting {} symbols by count over {} tokens", o.symbols, o.length);
  write_curves_svg(path, title, {loss, accuracy});
}

}  // namespace

int compare_sort(const SortOptions& o, const std::string& root) {
  std::vector<Contestant> contestants(2);
  contestants[0].option = "infinity", contestants[0].name = "∞-former";
  contestants[1].option = "transformer-xl", contestants[1].name = "Transformer-XL with the same short-term memory";
  for (Contestant& c : contestants) plan(c, o, root);
  for (Contestant& c : contestants) {
    train(c);
    if (c.result.interrupted) {
      fmt::print("stopped after step {} of {} of the {}; everything is saved. The same command goes on from there\n",
                 c.result.step, o.training.steps, c.name);
      return interrupted_code();
    }
  }
  print_table(contestants, o);
  write_summary(root + "/summary.json", contestants);
  draw(root + "/curves.svg", contestants, o);
  fmt::print("{}/curves.svg shows both trainings; {}/summary.json holds the figures\n", root, root);
  return 0;
}

}  // namespace lem
