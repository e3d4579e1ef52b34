// Command lines, an argument a line: what is accepted can be written as an option file and says the same there.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tasks/sort/options.h"
#include "tests/fuzz/input.h"

using namespace lem;

std::vector<std::string> fuzz::seeds() {
  return {"--heads\n2\n--widths=.01,.05\n--no-gate\n--mu0\nnone\n--lr\n1e-3",
          "--model\ntransformer-xl\n--preset\npaper-4000\n--sticky", "--help"};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  std::vector<std::string> arguments;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("config") != line.npos) return 0;  // another parser, and it would read whatever file is named
    arguments.insert(arguments.begin(), line);       // CLI11 takes them from the back
  }
  static SortFlags flags;
  static CLI::App app("fuzzed", "sort");
  static const bool added = (flags.add_to(app), true);
  fuzz::require(added);
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    fuzz::require(explain(app, error).size() <= fuzz::kLongestMessage + size);
    return 0;
  }
  fuzz::succeeds([&] {
    SortOptions options = flags.resolve();
    SortOptions again = options_from_json(nlohmann::json(to_json(option_table(options))), "again");
    fuzz::require(differences(option_table(options), option_table(again), Scope::run).empty());
  });
  return 0;
}
