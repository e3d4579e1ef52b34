#include "tasks/common/option_flags.h"

#include <CLI/CLI.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tensor/real.h"
#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;
using nlohmann::json;

namespace {

struct Settings {
  bool gate = true;
  int64_t heads = 4;
  double tau = .75;
  std::string basis = "gaussian", data;
  std::vector<double> widths = {.01, .05};
  std::optional<double> mu0;
};

OptionTable table(Settings& s) {
  return {{"gate", "Memory", Scope::weights, &s.gate, "smooth", {}},
          {"heads", "Model", Scope::weights, &s.heads, "attention heads", at_least(1)},
          {"tau", "Memory", Scope::function, &s.tau, "share", between(0, 1, Ends::open, Ends::open)},
          {"basis", "Memory", Scope::weights, &s.basis, "basis", one_of({"gaussian", "power", "sine"})},
          {"data", "Run", Scope::run, &s.data, "file", {}},
          {"widths", "Memory", Scope::weights, &s.widths, "widths", above(0)},
          {"mu0", "Memory", Scope::training, &s.mu0, "mean", between(0, 1)}};
}

/// The Error that a config says, without "[options] c.json: ".
std::string config_error(const json& config) {
  Settings s;
  const std::string message = error_of([&] { set_from_json(table(s), config, "c.json"); });
  return message.starts_with("[options] c.json: ") ? message.substr(18) : message;
}

std::string text_error(const std::string& name, const std::string& text) {
  Settings s;
  for (const Option& option : table(s))
    if (option.name == name) return error_of([&] { set_from_text(option, text, "--" + name); });
  return "no such option";
}

/// Parses a command line into settings; the text of the error if it cannot.
std::string parse(Settings& s, std::vector<std::string> arguments) {
  CLI::App app;
  OptionFlags flags;
  CLI::App* train = app.add_subcommand("train");
  flags.add_to(*train, table(s), [](const Option& option) { return to_text(option); });
  arguments.insert(arguments.begin(), "train");
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return explain(app, error);
  }
  return error_of([&] { flags.apply_to(table(s)); });
}

}  // namespace

TEST_CASE("options are read from text", "[options]") {
  Settings s;
  const OptionTable t = table(s);
  const auto set = [&](int i, const std::string& text) { set_from_text(t[i], text, "--x"); };
  set(0, "false");
  set(1, "2e2");
  set(2, "0.125");
  set(3, "power");
  set(4, "a b.txt");
  set(5, ".5,1e-3,+2");
  set(6, "0.5");
  CHECK(!s.gate);
  CHECK(s.heads == 200);
  CHECK(s.tau == 0.125);
  CHECK(s.basis == "power");
  CHECK(s.data == "a b.txt");
  CHECK(s.widths == std::vector<double>{.5, .001, 2});
  CHECK(s.mu0 == 0.5);
  set(6, "none");
  CHECK(!s.mu0.has_value());
  for (const Option& option : t) {  // what to_text writes reads back
    const std::string text = to_text(option);
    set_from_text(option, text, "--x");
    CHECK(to_text(option) == text);
  }
}

TEST_CASE("wrong text is refused with what was expected", "[options]") {
  CHECK(text_error("heads", "four") == "[options] --heads: got four, expected an integer ≥ 1");
  CHECK(text_error("heads", "4.5") == "[options] --heads: got 4.5, expected an integer ≥ 1");
  CHECK(text_error("heads", "4x") == "[options] --heads: got 4x, expected an integer ≥ 1");
  CHECK(text_error("heads", "0") == "[options] --heads: got 0, expected an integer ≥ 1");
  CHECK(text_error("heads", "99999999999999999999") ==
        "[options] --heads: got 99999999999999999999, expected an integer ≥ 1");
  CHECK(text_error("heads", "") == "[options] --heads: got nothing, expected an integer ≥ 1");
  CHECK(text_error("tau", "1") == "[options] --tau: got 1, expected a number in (0, 1)");
  CHECK(text_error("tau", "0") == "[options] --tau: got 0, expected a number in (0, 1)");
  CHECK(text_error("tau", "nan") == "[options] --tau: got nan, expected a number in (0, 1)");
  CHECK(text_error("tau", "0,5") == "[options] --tau: got 0,5, expected a number in (0, 1)");
  CHECK(text_error("widths", "0.1,,2") == "[options] --widths: got 0.1,,2, expected a list of numbers > 0");
  CHECK(text_error("widths", "0.1,-2") == "[options] --widths: got 0.1,-2, expected a list of numbers > 0");
  CHECK(text_error("widths", "inf") == "[options] --widths: got inf, expected a list of numbers > 0");
  CHECK(text_error("widths", "") == "[options] --widths: got nothing, expected a list of numbers > 0");
  CHECK(text_error("mu0", "1.5") == "[options] --mu0: got 1.5, expected a number in [0, 1], or none");
  CHECK(text_error("mu0", "no") == "[options] --mu0: got no, expected a number in [0, 1], or none");
  CHECK(text_error("basis", "gausian") ==
        "[options] --basis: got gausian, expected one of gaussian, power, sine; did you mean gaussian?");
  CHECK(text_error("basis", "wavelet") == "[options] --basis: got wavelet, expected one of gaussian, power, sine");
  CHECK(text_error("gate", "yes") == "[options] --gate: got yes, expected true or false");
}

TEST_CASE("a configuration survives the way to JSON and back", "[options]") {
  Settings s{false, 6, 0.1 + 0.2, "sine", "x \"y\".txt", {kDouble ? 1e-300 : 1e-30, .01}, 1.0 / 3};
  const json saved = json::parse(to_json(table(s)).dump());
  Settings back;
  set_from_json(table(back), saved, "c.json");
  CHECK(to_json(table(back)) == to_json(table(s)));
  CHECK(back.tau == 0.1 + 0.2);
  CHECK(back.mu0 == 1.0 / 3);
  CHECK(to_json(table(s)).begin().key() == "gate");  // in the table's order
  s.mu0.reset();
  set_from_json(table(back), json::parse(to_json(table(s)).dump()), "c.json");
  CHECK(!back.mu0.has_value());
}

TEST_CASE("config files are checked key by key", "[options]") {
  CHECK(config_error({{"heads", 2}}) == "(no error)");
  CHECK(config_error({{"heads", 2.0}}) == "(no error)");
  CHECK(config_error({{"head", 2}}) == "unknown option \"head\"; did you mean \"heads\"?");
  CHECK(config_error({{"tua", 2}}) == "unknown option \"tua\"; did you mean \"tau\"?");
  CHECK(config_error({{"momentum", 2}}) == "unknown option \"momentum\"; --help lists them");
  CHECK(config_error({{"heads", "2"}}) == "\"heads\": got \"2\", expected an integer ≥ 1");
  CHECK(config_error({{"heads", 2.5}}) == "\"heads\": got 2.5, expected an integer ≥ 1");
  CHECK(config_error({{"heads", 1e300}}) == "\"heads\": got 1e+300, expected an integer ≥ 1");
  CHECK(config_error({{"heads", UINT64_MAX}}) == "\"heads\": got 18446744073709551615, expected an integer ≥ 1");
  CHECK(config_error({{"heads", true}}) == "\"heads\": got true, expected an integer ≥ 1");
  CHECK(config_error({{"heads", nullptr}}) == "\"heads\": got null, expected an integer ≥ 1");
  CHECK(config_error({{"gate", 1}}) == "\"gate\": got 1, expected true or false");
  CHECK(config_error({{"tau", 1.5}}) == "\"tau\": got 1.5, expected a number in (0, 1)");
  CHECK(config_error({{"tau", "0.5"}}) == "\"tau\": got \"0.5\", expected a number in (0, 1)");
  CHECK(config_error({{"widths", 0.1}}) == "\"widths\": got 0.1, expected a list of numbers > 0");
  CHECK(config_error({{"widths", {0.1, "x"}}}) == "\"widths\": got [0.1,\"x\"], expected a list of numbers > 0");
  CHECK(config_error({{"widths", json::array()}}) == "\"widths\": got nothing, expected a list of numbers > 0");
  CHECK(config_error({{"basis", 3}}) == "\"basis\": got 3, expected one of gaussian, power, sine");
  CHECK(config_error({{"basis", "sinus"}}) ==
        "\"basis\": got sinus, expected one of gaussian, power, sine; did you mean sine?");
  CHECK(config_error({{"mu0", 2}}) == "\"mu0\": got 2, expected a number in [0, 1], or none");
  CHECK(config_error(json::array()) == "got array, expected an object of options: {\"heads\": 4, …}");
}

TEST_CASE("config files that are no configuration", "[options]") {
  const ScratchFolder folder;
  const std::string path = folder / "c.json";
  const auto error = [&](const std::string& text) {
    std::ofstream(path) << text;
    return error_of([&] { read_config(path); });
  };
  CHECK(error("{\"heads\": 2}") == "(no error)");
  CHECK_THAT(error("{\"heads\": 2,\n}"), Contains("[options] " + path + ": not JSON") && Contains("line 2"));
  CHECK_THAT(error(""), Contains("not JSON"));
  CHECK_THAT(error("{\"heads\": \"\xff\"}"), Contains("not JSON"));
  CHECK(error("{\"heads\": 2, \"tau\": 0.5, \"heads\": 2}") ==
        "[options] " + path + ": \"heads\" is there twice; keep one");
  CHECK_THAT(error_of([&] { read_config(folder / "none"); }), Contains("No such file"));
  CHECK_THAT(error(std::string(2 << 20, ' ')), Contains("is it the right file?"));
}

TEST_CASE("flags override the file, the file the defaults", "[options]") {
  const ScratchFolder folder;
  std::ofstream(folder / "c.json") << R"({"heads": 2, "tau": 0.5, "gate": false})";
  Settings s;
  CHECK(parse(s, {"--config", folder / "c.json", "--tau", "0.25", "--data=x.txt"}) == "(no error)");
  CHECK(s.heads == 2);
  CHECK(s.tau == 0.25);
  CHECK(!s.gate);
  CHECK(s.data == "x.txt");
  CHECK(s.basis == "gaussian");

  CHECK(parse(s, {"--config", folder / "c.json", "--gate"}) == "(no error)");
  CHECK(s.gate);
  CHECK(parse(s, {"--no-gate"}) == "(no error)");
  CHECK(!s.gate);
  CHECK(parse(s, {"--no-gate", "--gate", "--heads", "3", "--heads", "5"}) == "(no error)");  // the last one counts
  CHECK(s.gate);
  CHECK(s.heads == 5);
  CHECK(parse(s, {"--mu0", "0.5", "--widths", "1,2"}) == "(no error)");
  CHECK(s.mu0 == 0.5);
  CHECK(s.widths == std::vector<double>{1, 2});
  CHECK(parse(s, {"--heads", "-1"}) == "[options] --heads: got -1, expected an integer ≥ 1");
  CHECK(parse(s, {"--gate=maybe"}) == "[options] --gate: got maybe, expected true or false");
  CHECK(parse(s, {"--gate=false"}) == "(no error)");
  CHECK(!s.gate);
  CHECK_THAT(parse(s, {"--heads", "3", "5"}), Contains("5"));
  CHECK(parse(s, {"--data", ""}) == "(no error)");
}

TEST_CASE("unknown flags are named, and the nearest known one", "[options]") {
  Settings s;
  CHECK_THAT(parse(s, {"--head", "3"}), Contains("--head") && Contains("did you mean --heads instead of --head?"));
  CHECK_THAT(parse(s, {"--no-gates"}), Contains("did you mean --no-gate instead of --no-gates?"));
  CHECK_THAT(parse(s, {"--taus=.3"}), Contains("did you mean --tau instead of --taus=.3?"));
  CHECK_THAT(parse(s, {"--frobnicate"}), Contains("--frobnicate") && !Contains("did you mean"));
  CHECK_THAT(parse(s, {"--heads"}), Contains("--heads"));
}

TEST_CASE("--help comes from the table", "[options]") {
  Settings s;
  CLI::App app;
  OptionFlags flags;
  flags.add_to(app, table(s), [](const Option& option) { return to_text(option); });
  const std::string help = app.help();
  CHECK_THAT(help, Contains("--heads INT") && Contains("attention heads [4]") && Contains("--[no-]gate") &&
                       Contains("smooth [on]") && Contains("gaussian | power | sine [gaussian]") &&
                       Contains("[none]") && Contains("Memory:"));
}

TEST_CASE("differences of two configurations, up to a scope", "[options]") {
  Settings a, b;
  CHECK(differences(table(a), table(b), Scope::run).empty());
  b.heads = 6, b.tau = .5, b.mu0 = .5, b.data = "x";
  using Lines = std::vector<std::string>;
  CHECK(differences(table(a), table(b), Scope::weights) == Lines{"heads: 4 in the checkpoint, 6 asked for"});
  CHECK(differences(table(a), table(b), Scope::function).size() == 2);
  CHECK(differences(table(a), table(b), Scope::training).back() == "mu0: none in the checkpoint, 0.5 asked for");
  CHECK(differences(table(a), table(b), Scope::run).size() == 4);
}

TEST_CASE("the nearest word", "[options]") {
  const std::vector<std::string> words = {"heads", "width", "widths", "N"};
  CHECK(nearest("haeds", words) == "heads");
  CHECK(nearest("head", words) == "heads");
  CHECK(nearest("width", words) == "width");
  CHECK(nearest("widhts", words) == "widths");
  CHECK(!nearest("momentum", words).has_value());
  CHECK(!nearest("R", words).has_value());
  CHECK(!nearest("", words).has_value());
}
