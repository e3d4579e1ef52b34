#include "tasks/sort/options.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "tensor/io/files.h"
#include "tensor/real.h"
#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;

namespace {

/// Parses flags; `use` receives them.
template <class Use>
auto with_flags(std::vector<std::string> arguments, Use use) {
  CLI::App app;
  SortFlags flags;
  flags.add_to(app);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
  return use(flags);
}

SortOptions resolve(const std::vector<std::string>& arguments) {
  return with_flags(arguments, [](const SortFlags& flags) { return flags.resolve(); });
}

std::string refusal(const std::vector<std::string>& arguments) {
  return error_of([&] { resolve(arguments); });
}

}  // namespace

TEST_CASE("the defaults are the demo, and every preset is possible for both models", "[options]") {
  SortOptions defaults, demo = preset_options("demo", "infinity");
  CHECK(to_json(option_table(defaults)) == to_json(option_table(demo)));
  for (const std::string preset : {"demo", "paper-4000", "paper-8000", "paper-16000"})
    for (const std::string model : {"infinity", "transformer-xl"}) {
      const SortOptions options = preset_options(preset, model);
      CHECK_NOTHROW(validate(options));
      CHECK(options.model == model);
      CHECK(options.preset == preset);
      CHECK(options.run.out == "runs/" + preset + "/" + model);
    }
  CHECK(preset_options("demo", "transformer-xl").transformer.stm == preset_options("demo", "infinity").transformer.stm);
  CHECK(preset_options("paper-8000", "transformer-xl").transformer.stm == 2048);
  CHECK(preset_options("paper-8000", "infinity").transformer.stm == 1024);
  CHECK(preset_options("paper-8000", "infinity").length == 8000);
  // One step per batch at 2e-4 · √segments; the demo's 1e-3 · √8.
  for (const auto& [preset, base] :
       {std::pair{"demo", 1e-3}, {"paper-4000", 2e-4}, {"paper-8000", 2e-4}, {"paper-16000", 2e-4}}) {
    const SortOptions o = preset_options(preset, "infinity");
    const double segments = std::ceil(double(o.length + 1 + o.symbols) / double(o.segment));
    CHECK(std::abs(o.training.lr / (base * std::sqrt(segments)) - 1) <= 0.011);
  }
  CHECK_THAT(error_of([] { preset_options("paper", "infinity"); }),
             Contains("[options] preset: got paper, expected one of demo, paper-4000, paper-8000, paper-16000"));
}

TEST_CASE("names in the table are unique and fit for flags and files", "[options]") {
  SortOptions options;
  std::set<std::string> names;
  for (const Option& option : option_table(options)) {
    CHECK(names.insert(option.name).second);
    CHECK(option.name.find('_') == std::string::npos);
    CHECK(!option.help.empty());
    CHECK(!option.group.empty());
  }
}

namespace {

struct Field {
  size_t address, size, alignment;
};

/// Sorted by address, each field must begin where the one before it ends, but for alignment. `others`: fields that are
/// in no table.
template <class Settings>
bool whole(Settings& settings, const OptionTable& table, const std::vector<Field>& others = {}) {
  std::vector<Field> fields = others;
  const size_t begin = reinterpret_cast<size_t>(&settings);
  for (const Option& option : table)
    std::visit(
        [&](const auto& value) {
          Field field{};
          if constexpr (std::is_pointer_v<std::decay_t<decltype(value)>>)
            field = {reinterpret_cast<size_t>(value), sizeof(*value), alignof(std::decay_t<decltype(*value)>)};
          else
            field = {reinterpret_cast<size_t>(value.field), value.size, value.size};
          const bool inside = std::any_of(others.begin(), others.end(), [&](const Field& o) {
            return field.address >= o.address && field.address < o.address + o.size;
          });
          if (!inside) fields.push_back(field);
        },
        option.value);
  fields.push_back({begin + sizeof(settings), 0, alignof(Settings)});
  std::sort(fields.begin(), fields.end(), [](const Field& a, const Field& b) { return a.address < b.address; });
  size_t end = begin;
  for (const Field& field : fields) {
    if (field.address != (end + field.alignment - 1) / field.alignment * field.alignment) return false;
    end = field.address + field.size;
  }
  return true;
}
template <class T>
Field field_of(const T& x) {
  return {reinterpret_cast<size_t>(&x), sizeof x, alignof(T)};
}

}  // namespace

TEST_CASE("every field of the settings is in the table", "[options]") {
  SortOptions o;
  CHECK(whole(o.transformer, option_table(o.transformer), {field_of(o.transformer.vocab)}));
  CHECK(whole(o.memory, option_table(o.memory)));
  CHECK(whole(o.training, option_table(o.training)));
  CHECK(whole(o.run, option_table(o.run)));
  CHECK(
      whole(o, option_table(o), {field_of(o.transformer), field_of(o.memory), field_of(o.training), field_of(o.run)}));
  OptionTable less = option_table(o.memory);
  less.erase(less.begin() + 3);
  CHECK_FALSE(whole(o.memory, less));
}

TEST_CASE("flag over file over preset", "[options]") {
  const ScratchFolder folder;
  const std::string path = folder / "c.json";
  std::ofstream(path) << R"({"preset": "paper-4000", "heads": 10, "lr": 1e-3})";
  SortOptions o = resolve({"--config", path, "--lr", "3e-3"});
  CHECK(o.preset == "paper-4000");  // the file's preset is the base
  CHECK(o.length == 4000);
  CHECK(o.transformer.stm == 1024);
  CHECK(o.transformer.heads == 10);
  CHECK(o.training.lr == 3e-3);
  o = resolve({"--config", path, "--preset", "paper-8000", "--model", "transformer-xl"});
  CHECK(o.length == 8000);  // the flag's preset wins over the file's
  CHECK(o.transformer.stm == 2048);
  CHECK(o.transformer.heads == 10);
  CHECK(o.training.lr == 1e-3);
  CHECK(resolve({}).length == 500);
  CHECK(resolve({"--stm", "32", "--sticky", "--no-gate", "--mu0", "0.5"}).memory.mu0 == 0.5);
}

TEST_CASE("a saved configuration is read back whole", "[options]") {
  const ScratchFolder folder;
  const SortOptions before = resolve({"--preset", "paper-16000", "--heads", "4", "--widths", "0.1,0.2,0.3,0.4", "--mu0",
                                      "0.25", "--sticky", "--no-padding", "--density", "parabola", "--data", "a.txt",
                                      "--seed", "123456789012345", "--lr", "0.1", "--allow-tf32"});
  SortOptions copy = before;
  write_text(folder / "config.json", to_json(option_table(copy)).dump());
  SortOptions after = resolve({"--config", folder / "config.json"});
  CHECK(to_json(option_table(copy)) == to_json(option_table(after)));
  CHECK(after.run.allow_tf32);
  SortOptions direct = options_from_json(read_config(folder / "config.json"), "config.json");
  CHECK(to_json(option_table(copy)) == to_json(option_table(direct)));
}

TEST_CASE("impossible settings are refused", "[options]") {
  CHECK_THAT(refusal({"--width", "65"}),
             Contains("[options] width must be heads times an integer: got width 65 and 4 heads; try width 64"));
  CHECK_THAT(refusal({"--width", "3", "--heads", "3"}), Contains("width must be even"));
  CHECK_THAT(refusal({"--heads", "100"}), Contains("got width 64 and 100 heads; try width 100"));
  CHECK_THAT(refusal({"--N", "63"}), Contains("got N = 63 and 2 widths; try N = 64"));
  CHECK(refusal({"--N", "63", "--model", "transformer-xl"}) == "(no error)");
  CHECK(refusal({"--N", "63", "--basis", "sine"}) == "(no error)");
  CHECK_THAT(refusal({"--tau", "1"}), Contains("--tau: got 1, expected a number in (0, 1)"));
  CHECK_THAT(refusal({"--tau", "0"}), Contains("--tau: got 0, expected a number in (0, 1)"));
  CHECK_THAT(refusal({"--lambda", "0"}), Contains("--lambda: got 0, expected a number > 0"));
  CHECK_THAT(refusal({"--dropout", "1"}), Contains("--dropout: got 1, expected a number in [0, 1)"));
  CHECK_THAT(refusal({"--symbols", "1"}), Contains("--symbols: got 1, expected an integer in [2, 10000]"));
  CHECK_THAT(refusal({"--segment", "0"}), Contains("--segment: got 0"));
  CHECK_THAT(refusal({"--stm", "-1"}), Contains("--stm: got -1"));
  CHECK_THAT(refusal({"--steps", "0"}), Contains("--steps: got 0"));
  CHECK_THAT(refusal({"--model", "infinty"}), Contains("did you mean infinity?"));
  CHECK_THAT(refusal({"--preset", "paper-400"}), Contains("did you mean paper-4000?"));
  CHECK_THAT(refusal({"--parameters", "moments", "--basis", "power"}), Contains("parameters moments: got basis power"));
  CHECK_THAT(refusal({"--density", "gibbs", "--sticky"}), Contains("sticky: got density gibbs"));
  CHECK_THAT(refusal({"--weight-decay", "0.1"}), Contains("weight-decay: got 0.1 with optimiser adam"));
  CHECK(refusal({"--weight-decay", "0.1", "--optimiser", "adamw"}) == "(no error)");
  CHECK_THAT(refusal({"--warmup", "1001"}), Contains("warmup: got 1001, expected at most the 1000 steps"));
  CHECK_THAT(refusal({"--schedule", "inverse-sqrt"}), Contains("got warmup 0, expected at least 1"));
  CHECK_THAT(refusal({"--same-length", "--stm", "0"}), Contains("same-length"));
  CHECK_THAT(refusal({"--out", ""}), Contains("out: got nothing"));
  SortOptions o;
  o.memory.tau = std::nan("");
  CHECK_THAT(error_of([&] { validate(o); }), Contains("[options] tau: got nan, expected a number in (0, 1)"));
}

TEST_CASE("on top of a checkpoint only what it leaves open may change", "[options]") {
  const SortOptions saved = resolve({"--heads", "8", "--steps", "50"});
  const auto over = [&](const std::vector<std::string>& arguments, Scope fixed) {
    return with_flags(arguments, [&](const SortFlags& flags) { return flags.resolve_over(saved, fixed); });
  };
  CHECK(over({"--threads", "1", "--heads", "8"}, Scope::training).run.threads == 1);
  CHECK(over({}, Scope::training).training.steps == 50);
  const std::string message = error_of([&] { over({"--heads", "4", "--lr", "1", "--threads", "3"}, Scope::training); });
  CHECK_THAT(message, Contains("heads: 8 in the checkpoint, 4 asked for") &&
                          Contains("lr: 0.0028 in the checkpoint, 1 asked for") && !Contains("threads"));
  // What computes is left open: other hardware may go on.
  const SortOptions elsewhere = over({"--device", "cuda", "--allow-tf32"}, Scope::training);
  CHECK((elsewhere.run.allow_tf32 && !saved.run.allow_tf32));
  CHECK(with_flags({"--no-allow-tf32"}, [&](const SortFlags& flags) {
    return !flags.resolve_over(elsewhere, Scope::training).run.allow_tf32;
  }));
  CHECK(over({"--stm", "128", "--lr", "1"}, Scope::weights).transformer.stm == 128);
  CHECK_THAT(error_of([&] {
               over({"--preset", "paper-4000"}, Scope::weights);
             }),
             Contains("preset: demo in the checkpoint, paper-4000 asked for"));
  CHECK_THAT(error_of([&] { over({"--segment", "0"}, Scope::weights); }), Contains("--segment: got 0"));
}

TEST_CASE("a checkpoint's configuration is checked like any other", "[options]") {
  CHECK_THAT(error_of([] {
               options_from_json({{"heads", 0}}, "last.safetensors");
             }),
             Contains("[options] last.safetensors: \"heads\": got 0"));
  CHECK_THAT(error_of([] { options_from_json({{"heads", 3}}, "last.safetensors"); }), Contains("width must be heads"));
  CHECK_THAT(error_of([] { options_from_json("x", "last.safetensors"); }), Contains("got string"));
}

TEST_CASE("the sorting task's help shows defaults of demo and paper", "[options]") {
  CLI::App app;
  SortFlags flags;
  flags.add_to(app);
  const std::string help = app.help();
  CHECK_THAT(help, Contains("[500; paper: 4000, 8000, 16000]") && Contains("[2; paper: 3]") &&
                       Contains("[64; paper: 1024 (transformer-xl: 2048)]") && Contains("runs/PRESET/MODEL") &&
                       Contains("[demo]") && Contains("[0.75]") && Contains("--[no-]allow-tf32") &&
                       Contains("only --device cuda"));
}

TEST_CASE("no number means something else as a real, in which models compute", "[options]") {
  SortOptions o;
  for (const Option& option : option_table(o)) {
    const bool numeric = std::holds_alternative<double*>(option.value) ||
                         std::holds_alternative<std::vector<double>*>(option.value) ||
                         std::holds_alternative<std::optional<double>*>(option.value);
    if (!numeric) continue;
    CAPTURE(option.name);
    const auto refused = [&](const std::string& text) {
      return error_of([&] { set_from_text(option, text, "--" + option.name); });
    };
    const std::string tiny = kDouble ? "1e-320" : "1e-46", huge = kDouble ? "1e309" : "1e39";
    CHECK_THAT(refused(tiny), Contains("--" + option.name));  // 0 as a real, or its accuracy lost
    CHECK_THAT(refused(huge), Contains("--" + option.name));
    CHECK_THAT(refused("nan"), Contains("--" + option.name));
    CHECK_THAT(refused("inf"), Contains("--" + option.name));
    const bool below_one = option.allowed.high == 1 && option.allowed.high_end == Ends::open;
    // What is said to be the least or the most can be had.
    for (const auto& [bound, end] :
         {std::pair{option.allowed.low, option.allowed.low_end}, {option.allowed.high, option.allowed.high_end}})
      if (std::isfinite(bound) && end == Ends::closed) CHECK(refused(fmt::format("{}", bound)) == "(no error)");
    if (below_one) CHECK_THAT(refused(kDouble ? "0.99999999999999999" : "0.9999999999"), Contains("--" + option.name));
  }
  CHECK(refusal({"--adam-eps", kDouble ? "1e-320" : "1e-46"}).starts_with("[options] --adam-eps: got"));
}

TEST_CASE("whatever is given for a whole number is refused by name, or is a setting that can be used", "[options]") {
  SortOptions defaults, o;
  for (const Option& option : option_table(o)) {
    if (!std::holds_alternative<int64_t*>(option.value)) continue;
    for (const std::string text : {"-9223372036854775808", "-1", "0", "1", "1048576", "9223372036854775807",
                                   "9223372036854775808", "1e3", "1.5", "", " ", "x", "nan", "inf", "0x10"}) {
      CAPTURE(option.name, text);
      o = defaults;
      const std::string refused = error_of([&] { set_from_text(option, text, "--" + option.name); });
      if (refused != "(no error)") {
        CHECK_THAT(refused, Contains("--" + option.name));
        continue;
      }
      CHECK(to_text(option) == (text == "1e3" ? "1000" : text));
      const std::string together = error_of([&] { validate(o); });
      CHECK((together == "(no error)" || together.starts_with("[options]")));
    }
  }
}
