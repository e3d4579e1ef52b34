#include "tensor/io/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "tensor/error.h"

namespace lem {
namespace {

using nlohmann::json;

constexpr std::string_view kDamaged = "the file is damaged or no safetensors file; save or fetch it again";

/// A state machine over the parser's events. It accepts the format's grammar and nothing else, so that a header can
/// neither nest deeper than three levels nor build anything but entries and texts.
class HeaderParser : public nlohmann::json_sax<json> {
 public:
  HeaderParser(std::uint64_t data_size, const std::string& file) : data_size_(data_size), file_(file) {}

  SafetensorsHeader result;

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) override { unexpected(fmt::format("the number {}", value)); }
  bool number_unsigned(std::uint64_t value) override;
  bool number_float(double, const std::string& text) override { unexpected("the number " + quote(text)); }
  bool string(std::string& value) override;
  bool binary(json::binary_t&) override { unexpected("binary data"); }
  bool start_object(std::size_t) override;
  bool key(std::string& name) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t position, const std::string&, const json::exception& error) override;

 private:
  enum class In { kNothing, kHeader, kMetadata, kEntry, kArray };  // the innermost open object or array
  enum class Field { kDType, kShape, kOffsets };
  static constexpr std::string_view kFields[] = {"dtype", "shape", "data_offsets"};

  bool in_field(Field field) const { return in_ == In::kEntry && field_ == field; }
  bool seen(Field field) const { return seen_[int(field)]; }

  template <class... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}{}; {}", where(), fmt::format(format, std::forward<Args>(args)...), kDamaged);
  }
  [[noreturn]] void unexpected(std::string_view got) const;
  std::string where() const;
  bool begin_field(const std::string& name);
  void end_entry();

  const std::uint64_t data_size_;
  const std::string& file_;
  In in_ = In::kNothing;
  bool has_metadata_ = false;
  std::string name_;  // of the entry or metadata text being read
  // The entry being read:
  Field field_{};
  bool seen_[3]{};  // by Field
  DType dtype_{};
  std::vector<std::int64_t> shape_;
  std::vector<std::uint64_t> offsets_;
};

/// [safetensors] "file": entry "name": …
std::string HeaderParser::where() const {
  const std::string head = fmt::format("[safetensors] \"{}\": ", file_);
  if (in_ == In::kMetadata) return head + "__metadata__: ";
  if (in_ == In::kEntry || in_ == In::kArray) return head + "entry " + quote(name_) + ": ";
  return head + "header: ";
}

void HeaderParser::unexpected(std::string_view got) const {
  std::string_view expected = "a JSON object";  // kNothing, and the values of the header itself
  if (in_ == In::kMetadata) expected = "a string";
  if (in_field(Field::kDType)) expected = "the name of a dtype";
  if (in_field(Field::kShape)) expected = "an array of sizes";
  if (in_field(Field::kOffsets)) expected = "an array of two offsets";
  if (in_ == In::kArray) expected = "a whole number from 0 to 9223372036854775807";
  if (in_ == In::kMetadata || in_ == In::kHeader)
    fail_here("value of {}: got {}, expected {}", quote(name_), got, expected);
  if (in_ == In::kNothing) fail_here("got {}, expected {}", got, expected);
  fail_here("{}: got {}, expected {}", kFields[int(field_)], got, expected);
}

bool HeaderParser::number_unsigned(std::uint64_t value) {
  if (in_ != In::kArray || value > std::uint64_t(INT64_MAX)) unexpected(fmt::format("the number {}", value));
  if (field_ == Field::kShape) {
    if (shape_.size() == SafetensorsFile::kMaxRank)
      fail_here("shape: got more than {} dimensions, expected at most that", SafetensorsFile::kMaxRank);
    shape_.push_back(std::int64_t(value));
  } else {
    if (offsets_.size() == 2) fail_here("data_offsets: got more than 2 numbers, expected 2");
    offsets_.push_back(value);
  }
  return true;
}

bool HeaderParser::string(std::string& value) {
  if (in_ == In::kMetadata) {
    result.metadata[name_] = std::move(value);
    return true;
  }
  if (!in_field(Field::kDType)) unexpected("the string " + quote(value));
  const std::optional<DType> dtype = dtype_from_name(value);
  if (!dtype)
    fail("{}unknown dtype: got {}, expected one of the format's, as \"F32\"; save the array with another dtype",
         where(), quote(value));
  dtype_ = *dtype;
  return true;
}

bool HeaderParser::start_object(std::size_t) {
  if (in_ == In::kNothing) {
    in_ = In::kHeader;
  } else if (in_ == In::kHeader) {
    in_ = name_ == "__metadata__" ? In::kMetadata : In::kEntry;
    std::fill(std::begin(seen_), std::end(seen_), false);
    shape_.clear();
    offsets_.clear();
  } else {
    unexpected("an object");
  }
  return true;
}

bool HeaderParser::key(std::string& name) {
  if (in_ == In::kEntry) return begin_field(name);
  if (in_ == In::kHeader && name == "__metadata__") {
    if (has_metadata_) fail_here("the key \"__metadata__\" appears twice, expected once");
    has_metadata_ = true;
  }
  const bool twice = in_ == In::kMetadata ? result.metadata.contains(name) : result.entries.contains(name);
  if (twice) fail_here("the key {} appears twice, expected once", quote(name));
  name_ = std::move(name);
  return true;
}

bool HeaderParser::begin_field(const std::string& name) {
  const auto found = std::find(std::begin(kFields), std::end(kFields), name);
  if (found == std::end(kFields))
    fail_here("unknown field: got {}, expected dtype, shape and data_offsets", quote(name));
  field_ = Field(found - std::begin(kFields));
  if (std::exchange(seen_[int(field_)], true)) fail_here("the field {} appears twice, expected once", name);
  return true;
}

bool HeaderParser::end_object() {
  if (in_ == In::kEntry) end_entry();
  in_ = in_ == In::kHeader ? In::kNothing : In::kHeader;
  return true;
}

bool HeaderParser::start_array(std::size_t) {
  if (!in_field(Field::kShape) && !in_field(Field::kOffsets)) unexpected("an array");
  in_ = In::kArray;
  return true;
}

bool HeaderParser::end_array() {
  in_ = In::kEntry;
  return true;
}

bool HeaderParser::parse_error(std::size_t position, const std::string&, const json::exception& error) {
  std::string_view why = reason(error);  // "parse error at line 1, column 6: …": a header has one line
  if (const auto at = why.find(": "); at != why.npos) why.remove_prefix(at + 2);
  fail_here("not valid JSON at byte {}: {}", position, why);
}

/// All that can be said about one entry alone.
void HeaderParser::end_entry() {
  for (const Field field : {Field::kDType, Field::kShape, Field::kOffsets})
    if (!seen(field)) fail_here("the field {} is missing", kFields[int(field)]);
  if (offsets_.size() != 2) fail_here("data_offsets: got {} numbers, expected 2", offsets_.size());
  const std::uint64_t begin = offsets_[0], end = offsets_[1];
  if (begin > end) fail_here("data_offsets: got [{}, {}], expected the begin before the end", begin, end);
  const std::optional<std::uint64_t> bytes = byte_count(dtype_, shape_);
  if (!bytes)
    fail_here("shape {} of {}: got a size that overflows or is no whole number of bytes", shape_text(shape_),
              dtype_name(dtype_));
  if (*bytes != end - begin)
    fail_here("data_offsets [{}, {}]: got {} bytes, expected {} for shape {} of {}", begin, end, end - begin, *bytes,
              shape_text(shape_), dtype_name(dtype_));
  if (end > data_size_)
    fail_here("truncated file: got {} bytes of data, expected at least {} to hold this entry", data_size_, end);
  result.entries.emplace(name_, Entry{dtype_, shape_, begin, end});
}

/// The entries must lie end to end and fill the data.
void check_layout(const SafetensorsHeader& header, std::uint64_t data_size, const std::string& file) {
  std::vector<const std::pair<const std::string, Entry>*> order;
  order.reserve(header.entries.size());
  for (const auto& item : header.entries) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) {
    return std::tie(a->second.begin, a->second.end) < std::tie(b->second.begin, b->second.end);
  });
  std::uint64_t covered = 0;
  const std::string* before = nullptr;
  for (const auto* item : order) {
    const std::uint64_t begin = item->second.begin;
    if (begin != covered)
      fail("[safetensors] \"{}\": entry {} {} {}: got begin {}, expected {}; {}", file, quote(item->first),
           begin < covered ? "overlaps" : "leaves a hole after",
           before ? "entry " + quote(*before) : "the start of the data", begin, covered, kDamaged);
    covered = item->second.end;
    before = &item->first;
  }
  check(covered == data_size,
        "[safetensors] \"{}\": trailing bytes that belong to no entry: got {} bytes of data, expected {}; {}", file,
        data_size, covered, kDamaged);
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text, std::uint64_t data_size, const std::string& file) {
  check(!text.empty() && text.front() == '{',
        "[safetensors] \"{}\": header: got {}, expected an opening brace as its first byte; {}", file,
        text.empty() ? "nothing" : quote(text.substr(0, 1)), kDamaged);
  // The parser takes a zero byte for the end of its input and would overlook what follows.
  const std::size_t zero = text.find('\0');
  check(zero == text.npos, "[safetensors] \"{}\": header: got a zero byte at byte {}, expected JSON; {}", file,
        zero + 1, kDamaged);
  HeaderParser parser(data_size, file);
  json::sax_parse(text.begin(), text.end(), &parser);
  check_layout(parser.result, data_size, file);
  return std::move(parser.result);
}

std::string join_sizes(const std::vector<std::int64_t>& shape, std::string_view separator) {
  std::string text;
  for (const std::int64_t size : shape) text += std::string(text.empty() ? "" : separator) + std::to_string(size);
  return text;
}

std::string shape_text(const std::vector<std::int64_t>& shape) { return '(' + join_sizes(shape, ", ") + ')'; }

}  // namespace lem
