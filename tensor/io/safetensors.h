// The safetensors file format: named arrays of raw bytes behind a JSON header.
//
//   8 bytes   n, the length of the header, little-endian
//   n bytes   {"__metadata__": {"key": "text", …},
//              "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}   padded with spaces
//   the rest  the arrays, row-major and little-endian, one after the other without holes
//
// This layer speaks of bytes in host memory only; tensors are built on top of it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensor/io/descriptor.h"

namespace lem {

static_assert(std::endian::native == std::endian::little, "safetensors data are read and written without swapping");

/// Every element type of the format, in its own order of alignment.
enum class DType {
  BOOL,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64
};

/// Its name in a header, as "F32".
std::string_view dtype_name(DType dtype);

/// The dtype of that name, or nothing.
std::optional<DType> dtype_from_name(std::string_view name);

/// Bits of one element.
int dtype_bits(DType dtype);

/// The dtype of a C++ number: dtype_of<float>() is DType::F32.
template <class T>
constexpr DType dtype_of() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_integral_v<T>);
  if (std::is_same_v<T, bool>) return DType::BOOL;
  if (std::is_floating_point_v<T>) return sizeof(T) == 4 ? DType::F32 : DType::F64;
  constexpr bool kSigned = std::is_signed_v<T>;
  switch (sizeof(T)) {
    case 1:
      return kSigned ? DType::I8 : DType::U8;
    case 2:
      return kSigned ? DType::I16 : DType::U16;
    case 4:
      return kSigned ? DType::I32 : DType::U32;
    default:
      return kSigned ? DType::I64 : DType::U64;
  }
}

/// Bytes of an array; nothing when a size is negative, or the product overflows or is no whole number of bytes.
std::optional<std::uint64_t> byte_count(DType dtype, const std::vector<std::int64_t>& shape);

/// One array's place: bytes [begin, end) after the header.
struct Entry {
  DType dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;
};

/// Collects arrays and text, then writes them as one file that appears whole or not at all.
///
/// Larger elements come first, then names in order, as the Python package does: every array is then aligned to its
/// element, and the same content gives the same bytes.
class SafetensorsWriter {
 public:
  /// Takes the next bytes of an array.
  using Sink = std::function<void(const void* data, std::size_t n)>;
  /// Hands all of an array's bytes to the sink, in order and in pieces of any size.
  using Source = std::function<void(const Sink& sink)>;

  /// Adds an array; `data` is not copied and must stay until write().
  void add(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape, const void* data);

  /// Adds an array whose bytes `source` produces during write(): for those that live elsewhere, as on a GPU.
  void add(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape, Source source);

  /// Adds an array of numbers; `data` is not copied and must stay until write().
  template <class T>
  void add(const std::string& name, const std::vector<std::int64_t>& shape, const T* data) {
    add(name, dtype_of<T>(), shape, static_cast<const void*>(data));
  }

  /// Sets one text of the metadata; a second call with the same key replaces it.
  void set_metadata(const std::string& key, const std::string& value);

  /// Writes the file atomically (see AtomicFile). May be called again, with what the arrays hold by then.
  void write(const std::filesystem::path& path) const;

 private:
  struct Item {
    DType dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t bytes;
    Source source;
  };
  using Order = std::vector<const std::pair<const std::string, Item>*>;

  std::string header(const Order& order) const;

  std::map<std::string, Item> items_;
  std::map<std::string, std::string> metadata_;
};

/// An open file whose header was found right in every respect. Only the header is held in memory.
///
/// Nothing is allocated on the header's word: the header itself is at most as long as the file and kMaxHeader, and
/// arrays are read straight into the caller's memory after their dtype and shape were compared with what he expects.
class SafetensorsFile {
 public:
  static constexpr std::uint64_t kMaxHeader = 100'000'000;  // bytes; the format's own limit
  static constexpr std::size_t kMaxRank = 64;

  /// Opens and validates. Throws an error that names the file, the entry, and what is wrong.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::string& path() const { return path_; }

  /// All arrays' names, sorted.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }

  /// An array's dtype, shape and place; throws when there is none of that name.
  const Entry& entry(std::string_view name) const;

  /// All texts of the metadata.
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }

  /// One text; throws when there is none of that key.
  const std::string& metadata(std::string_view key) const;

  /// Reads an array into `dst`; throws unless it has this dtype and this shape. After an error during the reading
  /// itself the contents of `dst` are unspecified.
  void read(std::string_view name, void* dst, DType dtype, const std::vector<std::int64_t>& shape) const;

  /// The same for an array of F32 or F64, converted to T (float or double). Throws when a number overflows T.
  template <class T>
  void read_as(std::string_view name, T* dst, const std::vector<std::int64_t>& shape) const;

 private:
  std::string where(std::string_view name) const;  // how errors name an entry
  void check_shape(std::string_view name, const Entry& entry, const std::vector<std::int64_t>& shape) const;
  void read_bytes(void* dst, std::uint64_t n, std::uint64_t offset) const;
  template <class To, class From>
  void read_converted(std::string_view name, To* dst, const Entry& entry) const;

  std::string path_;
  Descriptor file_;
  std::uint64_t data_ = 0;  // where the arrays begin
  std::map<std::string, Entry, std::less<>> entries_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

}  // namespace lem
