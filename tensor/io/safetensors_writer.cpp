#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "tensor/error.h"
#include "tensor/io/files.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/safetensors_header.h"

namespace lem {
namespace {

/// `text` as a JSON string.
std::string json_string(const std::string& text) { return nlohmann::json(text).dump(); }

/// Names and texts are JSON, and JSON is UTF-8.
void check_utf8(std::string_view what, const std::string& text) {
  try {
    json_string(text);
  } catch (const nlohmann::json::type_error&) {
    fail("[safetensors] {} {}: got bytes that are not UTF-8, expected text; write it in UTF-8", what, quote(text));
  }
}

}  // namespace

void SafetensorsWriter::add(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape,
                            const void* data) {
  const std::optional<std::uint64_t> bytes = byte_count(dtype, shape);
  check(data != nullptr || bytes.value_or(0) == 0, "[safetensors] entry {}: got no data, expected {} bytes; pass them",
        quote(name), bytes.value_or(0));
  add(name, dtype, shape, [data, n = bytes.value_or(0)](const Sink& sink) { sink(data, n); });
}

void SafetensorsWriter::add(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape,
                            Source source) {
  check_utf8("entry", name);
  check(name != "__metadata__",
        "[safetensors] entry \"__metadata__\": the format keeps this name for its texts; "
        "choose another, or call set_metadata");
  check(shape.size() <= SafetensorsFile::kMaxRank,
        "[safetensors] entry {}: got {} dimensions, expected at most {}; "
        "merge some",
        quote(name), shape.size(), SafetensorsFile::kMaxRank);
  const std::optional<std::uint64_t> bytes = byte_count(dtype, shape);
  check(bytes.has_value(),
        "[safetensors] entry {}: got shape {} of {}, expected sizes from 0 whose product is a whole "
        "number of bytes below 2^60; correct the shape",
        quote(name), shape_text(shape), dtype_name(dtype));
  const bool added = items_.emplace(name, Item{dtype, shape, *bytes, std::move(source)}).second;
  check(added, "[safetensors] entry {}: added twice, expected once; give each array its own name", quote(name));
}

void SafetensorsWriter::set_metadata(const std::string& key, const std::string& value) {
  check_utf8("metadata key", key);
  check_utf8("metadata text", value);
  metadata_[key] = value;
}

std::string SafetensorsWriter::header(const Order& order) const {
  std::string text = "{";
  const auto separate = [&text] {
    if (text.back() != '{') text += ',';
  };
  if (!metadata_.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata_) {
      separate();
      text += json_string(key) + ':' + json_string(value);
    }
    text += '}';
  }
  std::uint64_t begin = 0;
  for (const auto* item : order) {
    const auto& [name, array] = *item;
    std::uint64_t end;
    check(!__builtin_add_overflow(begin, array.bytes, &end) && end <= std::uint64_t(INT64_MAX) / 2,
          "[safetensors] entry {}: the file would be longer than any can be; split it", quote(name));
    separate();
    text += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", json_string(name),
                        dtype_name(array.dtype), join_sizes(array.shape, ","), begin, end);
    begin = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

void SafetensorsWriter::write(const std::filesystem::path& path) const {
  Order order;
  for (const auto& item : items_) order.push_back(&item);  // by name
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->second.dtype > b->second.dtype; });
  const std::string text = header(order);
  const std::uint64_t length = text.size();
  check(length <= SafetensorsFile::kMaxHeader,
        "[safetensors] cannot write \"{}\": got a header of {} bytes, expected "
        "at most {}; save fewer arrays or less metadata",
        path.string(), length, SafetensorsFile::kMaxHeader);

  AtomicFile file(path.string());
  file.write(&length, sizeof length);
  file.write(text.data(), text.size());
  for (const auto* item : order) {
    const auto& [name, array] = *item;
    std::uint64_t written = 0;
    array.source([&, &array = array](const void* data, std::size_t n) {
      written += n;
      if (written <= array.bytes) file.write(data, n);
    });
    check(written == array.bytes,
          "[safetensors] cannot write \"{}\": entry {}: its source gave {} bytes, expected {}; "
          "give exactly those",
          path.string(), quote(name), written, array.bytes);
  }
  file.commit();
}

}  // namespace lem
