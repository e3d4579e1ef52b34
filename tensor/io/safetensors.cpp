#include "tensor/io/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <system_error>

#include "tensor/error.h"
#include "tensor/io/safetensors_header.h"

namespace lem {
namespace {

struct DTypeInfo {
  std::string_view name;
  int bits;
};

/// In the order of DType.
constexpr DTypeInfo kDTypes[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};
static_assert(std::size(kDTypes) == std::size_t(DType::U64) + 1);
static_assert(kDTypes[int(DType::F32)].name == "F32" && kDTypes[int(DType::U8)].name == "U8");

constexpr std::string_view kOther = "use a file that was saved by the same model and configuration";

}  // namespace

std::string_view dtype_name(DType dtype) { return kDTypes[int(dtype)].name; }

int dtype_bits(DType dtype) { return kDTypes[int(dtype)].bits; }

std::optional<DType> dtype_from_name(std::string_view name) {
  const auto found =
      std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](auto& info) { return info.name == name; });
  if (found == std::end(kDTypes)) return std::nullopt;
  return DType(found - std::begin(kDTypes));
}

std::optional<std::uint64_t> byte_count(DType dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t bits = dtype_bits(dtype);
  bool empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0) return std::nullopt;
    if (size == 0) {
      empty = true;  // the other sizes must not overflow even then
    } else if (__builtin_mul_overflow(bits, size, &bits)) {
      return std::nullopt;
    }
  }
  if (empty) return 0;
  if (bits % 8 != 0) return std::nullopt;
  return std::uint64_t(bits) / 8;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path.string()) {
  // O_NONBLOCK: a named pipe without a writer must give an error, not a wait.
  file_ = Descriptor(::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  check(bool(file_), "[safetensors] cannot open \"{}\": {}; check the path and its permissions", path_,
        std::generic_category().message(errno));
  struct stat status;
  check(::fstat(file_.get(), &status) == 0, "[safetensors] cannot examine \"{}\": {}; check the disk", path_,
        std::generic_category().message(errno));
  check(S_ISREG(status.st_mode), "[safetensors] \"{}\" is {}, expected a regular file; give the path of a file", path_,
        S_ISDIR(status.st_mode) ? "a folder" : "no regular file");
  const std::uint64_t size = std::uint64_t(status.st_size);
  check(size > 0, "[safetensors] \"{}\" is empty; save or fetch it again", path_);
  check(size >= 8,
        "[safetensors] \"{}\" is truncated: got {} bytes, expected 8 for the header's length alone; save or "
        "fetch it again",
        path_, size);

  std::uint64_t header_size;
  read_bytes(&header_size, 8, 0);
  check(header_size <= kMaxHeader,
        "[safetensors] \"{}\": got a header of {} bytes, expected at most {}; this is no "
        "safetensors file, or it is damaged",
        path_, header_size, kMaxHeader);
  check(header_size <= size - 8,
        "[safetensors] \"{}\" is truncated: got {} bytes after the header's length, expected "
        "a header of {}; save or fetch it again",
        path_, size - 8, header_size);
  data_ = 8 + header_size;
  std::string text(header_size, '\0');
  read_bytes(text.data(), header_size, 8);
  SafetensorsHeader header = parse_safetensors_header(text, size - data_, path_);
  entries_ = std::move(header.entries);
  metadata_ = std::move(header.metadata);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  result.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) result.push_back(name);
  return result;
}

const Entry& SafetensorsFile::entry(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found != entries_.end()) return found->second;
  constexpr int kShown = 8;
  std::string shown;
  auto other = entries_.begin();
  for (int i = 0; i < kShown && other != entries_.end(); i++, ++other)
    shown += (i > 0 ? ", " : "") + quote(other->first);
  if (other != entries_.end()) shown += ", …";
  fail("[safetensors] \"{}\" has no entry {}: got {} entries ({}); {}", path_, quote(name), entries_.size(), shown,
       kOther);
}

const std::string& SafetensorsFile::metadata(std::string_view key) const {
  const auto found = metadata_.find(key);
  check(found != metadata_.end(), "[safetensors] \"{}\" has no metadata {}: got {} texts; {}", path_, quote(key),
        metadata_.size(), kOther);
  return found->second;
}

std::string SafetensorsFile::where(std::string_view name) const {
  return fmt::format("[safetensors] \"{}\": entry {}: ", path_, quote(name));
}

void SafetensorsFile::check_shape(std::string_view name, const Entry& entry,
                                  const std::vector<std::int64_t>& shape) const {
  check(entry.shape == shape, "{}got shape {}, expected {}; {}", where(name), shape_text(entry.shape),
        shape_text(shape), kOther);
}

void SafetensorsFile::read_bytes(void* dst, std::uint64_t n, std::uint64_t offset) const {
  char* p = static_cast<char*>(dst);
  while (n > 0) {
    const std::size_t wanted = std::min<std::uint64_t>(n, std::uint64_t{1} << 30);
    const ssize_t got = ::pread(file_.get(), p, wanted, off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    check(got >= 0, "[safetensors] cannot read \"{}\": {}; check the disk", path_,
          std::generic_category().message(errno));
    check(got > 0,
          "[safetensors] \"{}\" became shorter while it was read: got its end at byte {}, expected {} bytes "
          "more; open it again when it is whole",
          path_, offset, n);
    p += got;
    n -= std::uint64_t(got);
    offset += std::uint64_t(got);
  }
}

void SafetensorsFile::read(std::string_view name, void* dst, DType dtype,
                           const std::vector<std::int64_t>& shape) const {
  const Entry& found = entry(name);
  check(found.dtype == dtype, "{}got dtype {}, expected {}; {}", where(name), dtype_name(found.dtype),
        dtype_name(dtype), kOther);
  check_shape(name, found, shape);
  read_bytes(dst, found.end - found.begin, data_ + found.begin);
}

template <class To, class From>
void SafetensorsFile::read_converted(std::string_view name, To* dst, const Entry& found) const {
  constexpr std::uint64_t kChunk = 4096;
  From chunk[kChunk];
  const std::uint64_t n = (found.end - found.begin) / sizeof(From);
  for (std::uint64_t done = 0; done < n; done += kChunk) {
    const std::uint64_t some = std::min(kChunk, n - done);
    read_bytes(chunk, some * sizeof(From), data_ + found.begin + done * sizeof(From));
    for (std::uint64_t i = 0; i < some; i++) {
      const To value = static_cast<To>(chunk[i]);
      if (!std::isfinite(value) && std::isfinite(chunk[i]))
        fail("{}element {}: got {}, expected a number that fits {}; read it as {}", where(name), done + i, chunk[i],
             dtype_name(dtype_of<To>()), dtype_name(dtype_of<From>()));
      dst[done + i] = value;
    }
  }
}

template <class T>
void SafetensorsFile::read_as(std::string_view name, T* dst, const std::vector<std::int64_t>& shape) const {
  const Entry& found = entry(name);
  check(found.dtype == DType::F32 || found.dtype == DType::F64,
        "{}got dtype {}, expected F32 or F64; save the array as one of these", where(name), dtype_name(found.dtype));
  check_shape(name, found, shape);
  if (found.dtype == dtype_of<T>())
    read_bytes(dst, found.end - found.begin, data_ + found.begin);
  else if (found.dtype == DType::F32)
    read_converted<T, float>(name, dst, found);
  else
    read_converted<T, double>(name, dst, found);
}

template void SafetensorsFile::read_as(std::string_view, float*, const std::vector<std::int64_t>&) const;
template void SafetensorsFile::read_as(std::string_view, double*, const std::vector<std::int64_t>&) const;

}  // namespace lem
