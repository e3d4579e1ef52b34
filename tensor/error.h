// Errors. Every message says what is wrong, what was found and expected, and what to do:
//   [op] what is wrong: got …, expected …; what to do
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace lem {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws lem::Error with a formatted message.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws unless `condition` holds.
template <class... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    fail(format, std::forward<Args>(args)...);
}

}  // namespace lem
