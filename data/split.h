// The three parts of every task's data. No sample is in two of them.
#pragma once

#include <string>

#include "tensor/error.h"

namespace lem {

enum class Split { train, validation, test };

/// The other way round than parse_split.
inline const char* name(Split split) {
  constexpr const char* kNames[] = {"train", "validation", "test"};
  return kNames[int(split)];
}

/// "train", "validation", "test"; an Error for any other name.
inline Split parse_split(const std::string& text) {
  for (Split split : {Split::train, Split::validation, Split::test})
    if (text == name(split)) return split;
  fail("[split] got \"{}\", expected train, validation or test", text);
}

}  // namespace lem
