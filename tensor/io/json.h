// JSON in files, which need not be of this program's making.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace lem {

/// Do arrays and objects nest deeper in a JSON text than in any file of ours? The library copies and prints values by
/// recursion: a megabyte of brackets would take it beyond the end of the stack.
bool nests_too_deep(std::string_view text);

/// A name in quotes for an error message: control characters escaped, broken UTF-8 replaced, long names cut.
std::string quote(std::string_view name);

/// The words of the library's error on what is wrong with a text, without its own number for it and what it had read
/// last.
std::string_view reason(const std::exception& error);

}  // namespace lem
