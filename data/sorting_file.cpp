#include "data/sorting_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <utility>

#include "tensor/error.h"
#include "tensor/io/files.h"
#include "tensor/random.h"

namespace lem {
namespace {

constexpr size_t kChunkBytes = 1 << 20;
constexpr size_t kWordBytes = 24;  // no symbol is longer; what is longer is cut for the message

/// Reads sequences character by character, so that not even one line needs to fit in memory. For each line that ends it
/// has checked every symbol and knows how many there were; `tokens`, if given, receives them.
class Scanner {
 public:
  Scanner(const std::string& path, int32_t symbols, int64_t first_line, std::vector<int32_t>* tokens)
      : path_(path), symbols_(symbols), line_(first_line), tokens_(tokens) {}

  /// True when `c` has ended a line: count() holds its length until next_line().
  bool read(char c) {
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
      if (!word_.empty()) end_word();
      return c == '\n';
    }
    if (word_.size() <= kWordBytes) word_ += c;
    return false;
  }
  /// The end of the file ends the last word.
  void end() {
    if (!word_.empty()) end_word();
  }
  int64_t count() const { return count_; }
  int64_t line() const { return line_; }
  void next_line() { ++line_, count_ = 0; }

 private:
  void end_word() {
    int64_t symbol = 0;
    const char* last = word_.data() + word_.size();
    const auto [end, error] = std::from_chars(word_.data(), last, symbol);
    check(end == last && error != std::errc::invalid_argument,
          "[sorting] {}:{}: not a number: got \"{}\" as symbol {}, expected 0 … {} separated by spaces", path_, line_,
          printable(), count_ + 1, symbols_ - 1);
    check(error == std::errc() && symbol >= 0 && symbol < symbols_,
          "[sorting] {}:{}: symbol out of range: got {} as symbol {}, expected 0 … {}; does --symbols match the file?",
          path_, line_, word_, count_ + 1, symbols_ - 1);
    if (tokens_) tokens_->push_back(int32_t(symbol));
    ++count_;
    word_.clear();
  }

  /// The word with what a terminal could choke on replaced, shortened if it goes on.
  std::string printable() const {
    std::string text;
    for (const char c : word_.substr(0, kWordBytes)) text += c >= 32 && c < 127 ? c : '?';
    return word_.size() > kWordBytes ? text + "…" : text;
  }

  const std::string& path_;
  int32_t symbols_;
  int64_t line_, count_ = 0;
  std::vector<int32_t>* tokens_;
  std::string word_;
};

/// Calls use(chunk) for the bytes [from, to) of a file; to < 0: up to its end.
template <class Use>
void read_chunks(int descriptor, const std::string& path, int64_t from, int64_t to, Use use) {
  std::string chunk(size_t(to < 0 ? int64_t(kChunkBytes) : std::min(int64_t(kChunkBytes), to - from)), '\0');
  while (to < 0 || from < to) {
    const size_t want = to < 0 ? chunk.size() : std::min(chunk.size(), size_t(to - from));
    const ssize_t got = ::pread(descriptor, chunk.data(), want, from);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file("read", path, errno);
    if (got == 0) return;
    use(std::string_view(chunk.data(), size_t(got)));
    from += got;
  }
}

/// Length of the byte-order mark that some editors put before UTF-8 text; 0 if there is none.
int64_t bom_bytes(int descriptor) {
  char start[3];
  return ::pread(descriptor, start, 3, 0) == 3 && std::string_view(start, 3) == "\xEF\xBB\xBF" ? 3 : 0;
}

}  // namespace

void write_sorting_file(const std::string& path, uint64_t seed, Split split, int64_t count, int32_t symbols,
                        int64_t length, const std::function<void(int64_t)>& written) {
  check(count >= 1, "[sorting] sequences to generate: got {}, expected at least 1", count);
  std::optional<AtomicFile> file;
  if (path != "-") file.emplace(path);
  std::string line;
  for (int64_t i = 0; i < count; ++i) {
    line.clear();
    for (const int32_t token : sorting_sample(seed, split, i, symbols, length).tokens)
      fmt::format_to(std::back_inserter(line), "{} ", token);
    line.back() = '\n';
    if (file)
      file->write(line);
    else
      write_all(STDOUT_FILENO, line.data(), line.size(), "standard output");
    written(i + 1);
  }
  if (file) file->commit();
}

SortingFile::SortingFile(const std::string& path, int32_t symbols) : path_(path), symbols_(symbols) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: don't wait for a pipe's writer
  if (descriptor_ < 0) fail_file("read", path, errno);
  try {
    struct stat there {};
    if (::fstat(descriptor_, &there) != 0) fail_file("read", path, errno);
    if (S_ISDIR(there.st_mode)) fail_file("read", path, EISDIR);
    check(S_ISREG(there.st_mode), "[sorting] {} is not a plain file: sequences are read more than once; save it first",
          path);
    scan();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

SortingFile::~SortingFile() { ::close(descriptor_); }

void SortingFile::scan() {
  Scanner scanner(path_, symbols_, 1, nullptr);
  int64_t empty = 0;  // the first of the empty lines just read: all right at the end of the file
  bytes_ = bom_bytes(descriptor_);
  line_starts_ = {bytes_};
  const auto end_line = [&] {
    const int64_t count = scanner.count();
    if (count == 0) {
      if (empty == 0) empty = scanner.line();
    } else {
      check(empty == 0, "[sorting] {}:{}: empty line; expected a sequence of symbols: remove the line", path_, empty);
      if (length_ == 0) length_ = count;
      check(count == length_,
            "[sorting] {}:{}: got {} symbols, expected {} as in line 1: all lines must be equally long", path_,
            scanner.line(), count, length_);
      line_starts_.push_back(bytes_);
    }
    scanner.next_line();
  };
  hash_ = 14695981039346656037u;
  read_chunks(descriptor_, path_, bytes_, -1, [&](std::string_view chunk) {
    for (const char c : chunk) {
      ++bytes_;
      hash_ = (hash_ ^ uint8_t(c)) * 1099511628211u;
      if (scanner.read(c)) end_line();
    }
  });
  scanner.end();
  if (scanner.count() > 0) end_line();  // a last line without its line end
  check(size() > 0, "[sorting] {}: the file is empty; expected one sequence a line", path_);
}

std::string SortingFile::identity() const { return fmt::format("{} bytes, hash {:016x}", bytes_, hash_); }

SortingSample SortingFile::sample(int64_t index) const {
  check(index >= 0 && index < size(), "[sorting] {}: sequence {} asked for, the file has {}", path_, index, size());
  SortingSample sample;
  sample.tokens.reserve(length_);
  Scanner scanner(path_, symbols_, index + 1, &sample.tokens);
  read_chunks(descriptor_, path_, line_starts_[index], line_starts_[index + 1], [&](std::string_view chunk) {
    for (const char c : chunk) scanner.read(c);
  });
  scanner.end();
  check(int64_t(sample.tokens.size()) == length_,
        "[sorting] {}:{}: the file has changed since it was opened: got {} symbols, expected {}; start again", path_,
        index + 1, sample.tokens.size(), length_);
  sample.sorted = sort_by_count(sample.tokens, symbols_);
  return sample;
}

SortingData SortingData::drawn(uint64_t seed, Split split, int32_t symbols, int64_t length) {
  SortingData data;
  data.seed_ = seed, data.split_ = split, data.symbols_ = symbols, data.length_ = length;
  return data;
}

SortingData SortingData::file(const std::string& path, int32_t symbols, std::optional<uint64_t> shuffle_seed) {
  SortingData data;
  data.file_ = std::make_shared<const SortingFile>(path, symbols);
  data.shuffle_seed_ = shuffle_seed, data.symbols_ = symbols, data.length_ = data.file_->length();
  return data;
}

SortingSample SortingData::sample(int64_t index) const {
  if (!file_) return sorting_sample(seed_, split_, index, symbols_, length_);
  const int64_t n = file_->size(), epoch = index / n, place = index % n;
  return file_->sample(shuffle_seed_ ? shuffled(*shuffle_seed_, uint64_t(epoch), place, n) : place);
}

// A Feistel network permutes the numbers of 2·half bits, the smallest such power of two that holds n; numbers that land
// beyond n are sent through again until they don't (each permutation's cycles lead back, so they must).
int64_t shuffled(uint64_t seed, uint64_t which, int64_t index, int64_t n) {
  check(index >= 0 && index < n, "[sorting] shuffle: got place {} of {}", index, n);
  const int half = (std::bit_width(uint64_t(n - 1)) + 1) / 2;
  const uint64_t mask = (uint64_t(1) << half) - 1, stream = uint64_t(7) << 61 | which;
  uint64_t x = uint64_t(index);
  do {
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t mixed = philox4x32(seed, stream, round << 60 | right)[0] & mask;
      left = std::exchange(right, left ^ mixed);
    }
    x = left << half | right;
  } while (x >= uint64_t(n));
  return int64_t(x);
}

}  // namespace lem
