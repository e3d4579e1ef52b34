// Hyper-parameters as one table. A task keeps its settings in a plain struct and lists them once, as a table of Options
// that point into it; from the table come the command line's flags and --help, the reading of config files, the
// configuration saved with a run, and the comparison of two configurations.
//
//     struct Settings { int64_t heads = 4; double tau = .75; };
//     OptionTable option_table(Settings& s) {
//       return {{"heads", "Model", Scope::weights, &s.heads, "attention heads", at_least(1)},
//               {"tau", "Memory", Scope::function, &s.tau, "share of the old signal", between(0, 1, Ends::open)}};
//     }
//
// Each part of a model or a program has such a struct and its table where the part is, with the checks that it needs; a
// task puts the structs side by side and the tables one behind the other.
#pragma once

#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tensor/error.h"

namespace lem {

/// The command line or a config file asks for what cannot be.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// What changes when an option does. A checkpoint can be used with options that agree up to the scope that the use
/// needs: to evaluate, the weights must fit; to go on training exactly, everything but `run` must be equal.
enum class Scope {
  weights,   // the shapes of the weights, what they mean, or what they started from
  function,  // how the model computes with them
  training,  // the course of the training
  run,       // where and how it runs, what is written
};

/// A field of an enum's type: as text one of the option's choices, which stand in the order of the enum's values.
struct EnumField {
  void* field;
  size_t size;
  size_t (*get)(const void* field);
  void (*set)(void* field, size_t value);
};
template <class E>
EnumField by_name(E* field) {
  return {field, sizeof(E), [](const void* f) { return size_t(*static_cast<const E*>(f)); },
          [](void* f, size_t value) { *static_cast<E*>(f) = E(value); }};
}

/// The settings' field that an option sets.
using OptionValue =
    std::variant<bool*, int64_t*, double*, std::string*, std::vector<double>*, std::optional<double>*, EnumField>;

enum class Ends { closed, open };

/// What an option's value may be: numbers (each, in a list) from low to high, strings one of the choices. Numbers that
/// are no integers must keep to it as `real`, too, in which models compute: none may become 0, 1 or infinite there that
/// is not so written.
struct Allowed {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  Ends low_end = Ends::closed, high_end = Ends::closed;
  std::vector<std::string> choices = {};
};

inline Allowed anything() { return {}; }
inline Allowed at_least(double low) { return {.low = low}; }
inline Allowed above(double low) { return {.low = low, .low_end = Ends::open}; }
inline Allowed between(double low, double high, Ends low_end = Ends::closed, Ends high_end = Ends::closed) {
  return {.low = low, .high = high, .low_end = low_end, .high_end = high_end};
}
inline Allowed one_of(std::vector<std::string> choices) { return {.choices = std::move(choices)}; }

struct Option {
  std::string name;   // --name on the command line, "name" in files
  std::string group;  // heading in --help
  Scope scope;
  OptionValue value;
  std::string help;
  Allowed allowed;
};
using OptionTable = std::vector<Option>;

/// The value as a person would write it: "0.01,0.05", "none", "true".
std::string to_text(const Option& option);

/// Sets an option from text; `source` names it in errors ("--heads").
void set_from_text(const Option& option, const std::string& text, const std::string& source);

/// An Error unless the value is allowed.
void check_allowed(const Option& option, const std::string& source);
/// Each by its name.
void check_allowed(const OptionTable& table);

/// Every option, in the table's order.
nlohmann::ordered_json to_json(const OptionTable& table);

/// Sets the options that `config` holds. Unknown keys, wrong types and forbidden values are Errors that name `source`
/// and the key, and suggest what may have been meant.
void set_from_json(const OptionTable& table, const nlohmann::json& config, const std::string& source);

/// Parses a config file: one JSON object, no key twice.
nlohmann::json read_config(const std::string& path);

/// One line for each option of scopes up to `last` that two tables of the same settings disagree on:
/// "heads: 4 in the checkpoint, 6 asked for".
std::vector<std::string> differences(const OptionTable& saved, const OptionTable& asked, Scope last);

/// The candidate that differs least from a mistyped word, if any is close.
std::optional<std::string> nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace lem
