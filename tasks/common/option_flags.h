// The command line's side of nn/options.h.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "nn/options.h"

namespace CLI {  // CLI11, whose headers take long to compile
class App;
class Option;
class ParseError;
}  // namespace CLI

namespace lem {

/// The table's options as flags of a command line.
class OptionFlags {
 public:
  /// Adds --config and a flag for each option (--name and --no-name for switches); `defaults` says what --help shows as
  /// an option's default. This object must outlive the
  /// parsing, and `app` the last apply_to().
  void add_to(CLI::App& app, const OptionTable& table, const std::function<std::string(const Option&)>& defaults);
  /// Sets what was given: the config file's values, then the flags'.
  void apply_to(const OptionTable& table) const;
  /// The config file asked for; "" if none.
  const std::string& config() const { return config_; }

 private:
  std::string config_;
  std::map<std::string, CLI::Option*> flags_;  // by option name; CLI11 owns them
};

/// CLI11's error as one line, with the nearest flag or command suggested for an unknown one.
std::string explain(const CLI::App& app, const CLI::ParseError& error);

/// What every main does: reads the command line, runs `work`, which returns the exit code, and makes of whatever is
/// thrown a line on standard error and an exit code (tasks/common/program.h).
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& work);

}  // namespace lem
