#include "nn/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <type_traits>

#include "tensor/error.h"
#include "tensor/io/files.h"
#include "tensor/io/json.h"
#include "tensor/real.h"

namespace lem {
namespace {

using nlohmann::json;
constexpr const char* kRealName = kDouble ? "double" : "float";

// ---- values from JSON: false where the type is wrong ----------------------------------------------------------------

bool read(bool& value, const json& j) {
  if (!j.is_boolean()) return false;
  value = j.get<bool>();
  return true;
}

bool read(int64_t& value, const json& j) {
  if (j.is_number_float()) {  // 2e4 is an integer too
    const double x = j.get<double>();
    if (!(std::abs(x) <= 9007199254740992.0) || x != std::floor(x)) return false;
    value = int64_t(x);
    return true;
  }
  if (!j.is_number_integer() || (j.is_number_unsigned() && j.get<uint64_t>() > uint64_t(INT64_MAX))) return false;
  value = j.get<int64_t>();
  return true;
}

bool read(double& value, const json& j) {
  if (!j.is_number()) return false;
  value = j.get<double>();
  return true;
}

bool read(std::string& value, const json& j) {
  if (!j.is_string()) return false;
  value = j.get<std::string>();
  return true;
}

bool read(std::vector<double>& value, const json& j) {
  if (!j.is_array() || !std::all_of(j.begin(), j.end(), [](const json& x) { return x.is_number(); })) return false;
  value = j.get<std::vector<double>>();
  return true;
}

bool read(std::optional<double>& value, const json& j) {
  if (!j.is_number() && !j.is_null()) return false;
  value = j.is_null() ? std::nullopt : std::optional(j.get<double>());
  return true;
}

// ---- values from text -----------------------------------------------------------------------------------------------

/// The whole text as a number, or nothing.
std::optional<double> number(std::string_view text) {
  double value = 0;
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool read_text(bool& value, const std::string& text) {
  return read(value, text == "true" ? json(true) : text == "false" ? json(false) : json());
}

bool read_text(int64_t& value, const std::string& text) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return true;
  const auto x = number(text);
  return x && read(value, json(*x));
}

bool read_text(double& value, const std::string& text) {
  const auto x = number(text);
  value = x.value_or(0);
  return x.has_value();
}

bool read_text(std::string& value, const std::string& text) {
  value = text;
  return true;
}

bool read_text(std::vector<double>& value, const std::string& text) {
  value.clear();
  for (size_t begin = 0;;) {
    const size_t comma = text.find(',', begin);
    const auto x = number(std::string_view(text).substr(begin, comma - begin));
    if (!x) return false;
    value.push_back(*x);
    if (comma == std::string::npos) return true;
    begin = comma + 1;
  }
}

bool read_text(std::optional<double>& value, const std::string& text) {
  value = number(text);
  return value || text == "none";
}

// ---- what is allowed ------------------------------------------------------------------------------------------------

bool in_range(const Allowed& a, double x) {  // NaN is in no range
  const bool above = a.low_end == Ends::open ? x > a.low : x >= a.low;
  const bool below = a.high_end == Ends::open ? x < a.high : x <= a.high;
  return std::isfinite(x) && above && below;
}
/// Does a number keep its meaning when it is rounded to `real`, in which it will be computed with? The ends of the
/// range are rounded, too: the least that is allowed is allowed.
bool representable(Allowed a, double x) {
  a.low = double(real(a.low)), a.high = double(real(a.high));
  return (x == 0 || std::isnormal(real(x))) && in_range(a, double(real(x)));
}
bool allows(const Allowed& a, double x) { return in_range(a, x) && representable(a, x); }
bool allows(const Allowed&, bool) { return true; }
bool allows(const Allowed& a, int64_t x) { return in_range(a, double(x)); }
bool allows(const Allowed& a, const std::optional<double>& x) { return !x || allows(a, *x); }
bool allows(const Allowed& a, const std::vector<double>& values) {
  return !values.empty() && std::all_of(values.begin(), values.end(), [&](double x) { return allows(a, x); });
}
bool allows(const Allowed& a, const std::string& x) {
  return a.choices.empty() || std::find(a.choices.begin(), a.choices.end(), x) != a.choices.end();
}

// ---- errors ---------------------------------------------------------------------------------------------------------

/// " in (0, 1]", " ≥ 1" or nothing.
std::string range_text(const Allowed& a) {
  const bool open_low = a.low_end == Ends::open, open_high = a.high_end == Ends::open;
  if (std::isinf(a.low) && std::isinf(a.high)) return "";
  if (std::isinf(a.high)) return fmt::format(" {} {}", open_low ? ">" : "≥", a.low);
  return fmt::format(" in {}{}, {}{}", open_low ? '(' : '[', a.low, a.high, open_high ? ')' : ']');
}

std::string expected(const bool&, const Allowed&) { return "true or false"; }
std::string expected(const int64_t&, const Allowed& a) { return "an integer" + range_text(a); }
std::string expected(const double&, const Allowed& a) { return "a number" + range_text(a); }
std::string expected(const std::vector<double>&, const Allowed& a) { return "a list of numbers" + range_text(a); }
std::string expected(const std::optional<double>&, const Allowed& a) {
  return "a number" + range_text(a) + ", or none";
}
std::string expected(const std::string&, const Allowed& a) {
  return a.choices.empty() ? "text" : fmt::format("one of {}", fmt::join(a.choices, ", "));
}

/// What to say of numbers that are in their range, but not once they are rounded to `real`.
template <class T>
std::string rounding(const T&, const Allowed&) {
  return "";
}
std::string rounding(const double& x, const Allowed& a) {
  if (!in_range(a, x) || representable(a, x)) return "";
  using Limits = std::numeric_limits<real>;
  if (std::abs(x) > Limits::max())
    return fmt::format(", at most {:.2g}: models compute in {}", Limits::max(), kRealName);
  if (std::abs(x) < Limits::min())
    return fmt::format(", at least {:.2g}: models compute in {}", Limits::min(), kRealName);
  return fmt::format(", but in {}, in which models compute, this is {}", kRealName, double(real(x)));
}
std::string rounding(const std::optional<double>& x, const Allowed& a) { return x ? rounding(*x, a) : ""; }
std::string rounding(const std::vector<double>& values, const Allowed& a) {
  for (const double x : values)
    if (std::string text = rounding(x, a); !text.empty()) return text;
  return "";
}

/// A value as messages show it: not a whole file of it.
std::string shown(const std::string& value) {
  size_t end = std::min<size_t>(value.size(), 100);
  while (end < value.size() && (value[end] & 0xC0) == 0x80) --end;  // inside a character
  return value.empty() ? "nothing" : end < value.size() ? value.substr(0, end) + "…" : value;
}

// ---- enums: as text, one of the choices ---------------------------------------------------------------------------

const EnumField* enum_of(const Option& option) { return std::get_if<EnumField>(&option.value); }

bool set_enum(const Option& option, const std::string& text) {
  const std::vector<std::string>& choices = option.allowed.choices;
  const auto found = std::find(choices.begin(), choices.end(), text);
  if (found != choices.end()) enum_of(option)->set(enum_of(option)->field, size_t(found - choices.begin()));
  return found != choices.end();
}

/// visit(field) of every other type.
template <class Visit>
auto visit_plain(const Option& option, Visit visit) {
  return std::visit(
      [&](const auto& value) {
        if constexpr (std::is_pointer_v<std::decay_t<decltype(value)>>)
          return visit(value);
        else
          return decltype(visit(static_cast<bool*>(nullptr))){};
      },
      option.value);
}

[[noreturn]] void refuse(const Option& option, const std::string& source, const std::string& got) {
  const auto meant = nearest(got, option.allowed.choices);
  throw UsageError(fmt::format("[options] {}: got {}, expected {}{}{}", source, shown(got),
                               enum_of(option)
                                   ? expected(std::string(), option.allowed)
                                   : visit_plain(option, [&](auto* value) { return expected(*value, option.allowed); }),
                               visit_plain(option, [&](auto* value) { return rounding(*value, option.allowed); }),
                               meant ? fmt::format("; did you mean {}?", *meant) : ""));
}

// ---- text and JSON of values ----------------------------------------------------------------------------------------

std::string text_of(bool x) { return x ? "true" : "false"; }
std::string text_of(int64_t x) { return std::to_string(x); }
std::string text_of(double x) { return fmt::format("{}", x); }
std::string text_of(const std::string& x) { return x; }
std::string text_of(const std::vector<double>& x) { return fmt::format("{}", fmt::join(x, ",")); }
std::string text_of(const std::optional<double>& x) { return x ? text_of(*x) : "none"; }

template <class T>
json json_of(const T& x) {
  return x;
}
json json_of(const std::optional<double>& x) { return x ? json(*x) : json(); }

/// Edits that turn a into b: insertions, deletions, replacements and swaps of neighbours (restricted
/// Damerau–Levenshtein).
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i)
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

}  // namespace

std::string to_text(const Option& option) {
  if (const EnumField* field = enum_of(option)) return option.allowed.choices.at(field->get(field->field));
  return visit_plain(option, [](auto* value) { return text_of(*value); });
}

void set_from_text(const Option& option, const std::string& text, const std::string& source) {
  const bool set = enum_of(option) ? set_enum(option, text)
                                   : visit_plain(option, [&](auto* value) { return read_text(*value, text); });
  if (!set) refuse(option, source, text);
  check_allowed(option, source);
}

void check_allowed(const Option& option, const std::string& source) {
  const bool allowed = enum_of(option)
                           ? enum_of(option)->get(enum_of(option)->field) < option.allowed.choices.size()
                           : visit_plain(option, [&](auto* value) { return allows(option.allowed, *value); });
  if (!allowed) refuse(option, source, to_text(option));
}

void check_allowed(const OptionTable& table) {
  for (const Option& option : table) check_allowed(option, option.name);
}

nlohmann::ordered_json to_json(const OptionTable& table) {
  nlohmann::ordered_json config;
  for (const Option& option : table)
    config[option.name] =
        enum_of(option) ? json(to_text(option)) : visit_plain(option, [](auto* value) { return json_of(*value); });
  return config;
}

void set_from_json(const OptionTable& table, const json& config, const std::string& source) {
  check(config.is_object(), "[options] {}: got {}, expected an object of options: {{\"heads\": 4, …}}", source,
        config.type_name());
  for (const auto& [key, value] : config.items()) {
    const auto option = std::find_if(table.begin(), table.end(), [&, &key = key](auto& o) { return o.name == key; });
    if (option == table.end()) {
      std::vector<std::string> names;
      for (const Option& o : table) names.push_back(o.name);
      const auto meant = nearest(key, names);
      throw UsageError(fmt::format("[options] {}: unknown option {}{}", source, quote(key),
                                   meant ? fmt::format("; did you mean \"{}\"?", *meant) : "; --help lists them"));
    }
    const std::string place = fmt::format("{}: \"{}\"", source, key);
    const bool set = enum_of(*option)
                         ? value.is_string() && set_enum(*option, value.get<std::string>())
                         : visit_plain(*option, [&, &value = value](auto* field) { return read(*field, value); });
    if (!set) refuse(*option, place, value.dump());
    check_allowed(*option, place);
  }
}

json read_config(const std::string& path) {
  std::set<std::string> keys;
  const auto no_key_twice = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 && !keys.insert(parsed.get<std::string>()).second)
      throw UsageError(
          fmt::format("[options] {}: {} is there twice; keep one", path, quote(parsed.get<std::string>())));
    return true;
  };
  const std::string text = read_text(path, 1 << 20);
  if (nests_too_deep(text))
    throw UsageError(
        fmt::format("[options] {}: arrays in arrays, expected an object of options: {{\"heads\": 4, …}}", path));
  try {
    return json::parse(text, no_key_twice);
  } catch (const json::exception& error) {
    throw UsageError(fmt::format("[options] {}: not JSON: {}", path, reason(error)));
  }
}

std::vector<std::string> differences(const OptionTable& saved, const OptionTable& asked, Scope last) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < saved.size(); ++i)
    if (saved[i].scope <= last && to_text(saved[i]) != to_text(asked.at(i)))
      lines.push_back(
          fmt::format("{}: {} in the checkpoint, {} asked for", saved[i].name, to_text(saved[i]), to_text(asked[i])));
  return lines;
}

std::optional<std::string> nearest(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string* best = nullptr;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t n = word.size(), m = candidate.size();
    if (std::max(n, m) - std::min(n, m) >= least) continue;  // at least so many edits, without looking
    if (const size_t distance = edit_distance(word, candidate); distance < std::min(least, m))
      best = &candidate, least = distance;
  }
  return best ? std::optional(*best) : std::nullopt;
}

}  // namespace lem
