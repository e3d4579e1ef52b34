// The command line's side of tasks/options.h.
#include <algorithm>

#include "tasks/options.h"

namespace lem {
namespace {

constexpr size_t kHelpColumn = 30, kHelpWidth = 110;

/// Breaks a help text into lines that fit beside the flags' column.
std::string wrap(const std::string& text) {
  std::string wrapped;
  size_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const size_t word = end - begin;
    if (line > 0 && line + 1 + word > kHelpWidth - kHelpColumn) wrapped += '\n', line = 0;
    if (line > 0) wrapped += ' ', ++line;
    wrapped.append(text, begin, word);
    line += word;
    begin = end + 1;
  }
  return wrapped;
}

std::string type_text(const Option& option) {
  if (!option.allowed.choices.empty()) return "";  // the choices stand in the help
  constexpr const char* kNames[] = {"", "INT", "REAL", "TEXT", "REAL,…", "REAL|none"};
  return kNames[option.value.index()];
}

std::string help_text(const Option& option, const std::string& shown_default) {
  std::string text = option.help;
  if (!option.allowed.choices.empty()) text += fmt::format(": {}", fmt::join(option.allowed.choices, " | "));
  if (!shown_default.empty()) text += fmt::format(" [{}]", shown_default);
  return wrap(text);
}

}  // namespace

void OptionFlags::add_to(CLI::App& app, const OptionTable& table,
                         const std::function<std::string(const Option&)>& defaults) {
  app.get_formatter()->column_width(kHelpColumn);
  app.add_option("--config", config_,
                 wrap("a JSON file of options, named as here without the dashes; flags override it"))
      ->type_name("FILE");
  for (const Option& option : table) {
    const std::string flag = "--" + option.name, help = help_text(option, defaults(option));
    const auto take = [this, name = option.name](const std::string& text) { given_[name] = text; };
    CLI::Option* added = nullptr;
    if (std::holds_alternative<bool*>(option.value))
      added = app.add_flag_function(
          fmt::format("{0},!--no-{1}", flag, option.name),
          [take](int64_t count) { take(count > 0 ? "true" : "false"); }, help);
    else
      added = app.add_option_function<std::string>(flag, take, help)->type_name(type_text(option));
    added->group(option.group)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
}

void OptionFlags::apply_to(const OptionTable& table) const {
  if (!config_.empty()) set_from_json(table, read_config(config_), config_);
  for (const Option& option : table)
    if (const auto given = given_.find(option.name); given != given_.end())
      set_from_text(option, given->second, "--" + option.name);
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

}  // namespace lem
