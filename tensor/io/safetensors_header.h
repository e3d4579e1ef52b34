// The header of a safetensors file: parsed and validated apart from any file, and how its errors write shapes.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"

namespace lem {

struct SafetensorsHeader {
  std::map<std::string, Entry, std::less<>> entries;
  std::map<std::string, std::string, std::less<>> metadata;
};

/// Parses the JSON `text` of a header in front of `data_size` bytes of data. Throws unless all of it is right: the
/// JSON, each entry, and that the entries cover the data without overlaps and holes. `file` names the file in errors.
SafetensorsHeader parse_safetensors_header(std::string_view text, std::uint64_t data_size, const std::string& file);

/// Sizes with `separator` between them.
std::string join_sizes(const std::vector<std::int64_t>& shape, std::string_view separator);

/// A shape as people write it: (2, 3).
std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace lem
