#include "tensor/io/json.h"

#include <nlohmann/json.hpp>

namespace lem {

bool nests_too_deep(std::string_view text) {
  constexpr int kDeepest = 32;
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size() && depth <= kDeepest; ++i) {
    const char c = text[i];
    if (c == '"')
      in_string = !in_string;
    else if (in_string)
      i += c == '\\';
    else
      depth += (c == '[' || c == '{') - (c == ']' || c == '}');
  }
  return depth > kDeepest;
}

std::string quote(std::string_view name) {
  constexpr std::size_t kLongest = 100;
  const bool cut = name.size() > kLongest;
  const nlohmann::json text(std::string(name.substr(0, kLongest)));
  return text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + (cut ? "…" : "");
}

// "[json.exception.parse_error.101] parse error at line 1, column 6: reason; last read: 'part of the file'; …"
std::string_view reason(const std::exception& error) {
  std::string_view text = error.what();
  if (const auto number = text.find("] "); number != text.npos) text.remove_prefix(number + 2);
  return text.substr(0, text.find("; last read: "));
}

}  // namespace lem
