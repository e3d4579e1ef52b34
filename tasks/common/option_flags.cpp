#include "tasks/common/option_flags.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tasks/common/program.h"
#include "tensor/error.h"

namespace lem {
namespace {

constexpr size_t kHelpColumn = 30, kHelpWidth = 110;

/// Adds a word to a text that is broken into lines as wide as the column beside the flags.
void add_word(std::string& text, const std::string& word) {
  const size_t line = text.size() - (text.rfind('\n') + 1);  // npos + 1 is 0: the only line
  if (!text.empty()) text += line + 1 + word.size() > kHelpWidth - kHelpColumn ? '\n' : ' ';
  text += word;
}

std::string help_text(const Option& option, std::string shown_default) {
  std::string text = option.help, wrapped;
  if (!option.allowed.choices.empty()) text += fmt::format(": {}", fmt::join(option.allowed.choices, " | "));
  std::istringstream words(text);
  for (std::string word; words >> word;) add_word(wrapped, word);
  if (std::holds_alternative<bool*>(option.value)) shown_default = shown_default == "true" ? "on" : "off";
  if (!shown_default.empty()) add_word(wrapped, "[" + shown_default + "]");
  return wrapped;
}

std::string type_text(const Option& option) {
  if (!option.allowed.choices.empty()) return "";  // the choices stand in the help
  constexpr const char* kNames[] = {"", "INT", "REAL", "TEXT", "LIST", "REAL", ""};
  return kNames[option.value.index()];
}

/// Shows switches as --[no-]gate.
class Formatter : public CLI::Formatter {
 public:
  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    const auto& names = option->get_lnames();
    if (names.size() == 2 && names[1] == "no-" + names[0]) return "--[no-]" + names[0];
    return CLI::Formatter::make_option_name(option, positional);
  }
};

}  // namespace

void OptionFlags::add_to(CLI::App& app, const OptionTable& table,
                         const std::function<std::string(const Option&)>& defaults) {
  const auto formatter = std::make_shared<Formatter>();
  formatter->column_width(kHelpColumn);
  app.formatter(formatter);
  app.add_option("--config", config_, "a JSON file of options, named as here without the dashes; flags override it")
      ->type_name("FILE");
  for (const Option& option : table) {
    const bool is_switch = std::holds_alternative<bool*>(option.value);
    const std::string flag = "--" + option.name;
    CLI::Option* added = is_switch ? app.add_flag(fmt::format("{},!--no-{}", flag, option.name)) : app.add_option(flag);
    added->description(help_text(option, defaults(option)))->group(option.group);
    added->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    if (!is_switch) added->type_name(type_text(option))->expected(1);
    flags_[option.name] = added;
  }
}

void OptionFlags::apply_to(const OptionTable& table) const {
  if (!config_.empty()) set_from_json(table, read_config(config_), config_);
  for (const Option& option : table)
    if (const auto flag = flags_.find(option.name); flag != flags_.end() && flag->second->count() > 0)
      set_from_text(option, flag->second->results().back(), "--" + option.name);
}

std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  std::vector<std::string> known;
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  for (const CLI::Option* option : command->get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  for (const CLI::App* below : command->get_subcommands({})) known.push_back(below->get_name());

  std::string text = error.what();
  for (const std::string& word : command->remaining())
    if (const auto meant = nearest(word.substr(0, word.find('=')), known))
      text += fmt::format("; did you mean {} instead of {}?", *meant, word);
  return text;
}

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& work) {
  app.set_version_flag("--version", std::string("lemniscate ") + kVersion);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "{}\n", explain(app, error));
    return kMisused;
  }
  try {
    return work();
  } catch (const Interrupted&) {
    fmt::print(stderr, "stopped\n");
    return interrupted_code();
  } catch (const UsageError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return kMisused;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "[memory] there is no more: {} MiB are free; make --batch, --length, --N or --width smaller\n",
               available_memory() >> 20);
    return kFailed;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return kFailed;
  }
}

}  // namespace lem
