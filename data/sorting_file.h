// The sorting task's text format, as the paper's code writes it: one sequence a line, symbols separated by spaces. The
// answer is not in the file: it follows from the sequence. And SortingData: samples by number, from a file or drawn.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "data/sorting.h"

namespace lem {

/// Writes samples 0 … count − 1 of a split, a line each: to a file, whole or not at all, or to standard output ("-").
/// written(i): called when i of them are.
void write_sorting_file(
    const std::string& path, uint64_t seed, Split split, int64_t count, int32_t symbols, int64_t length,
    const std::function<void(int64_t)>& written = [](int64_t) {});

/// A file of sequences, of any size: opening it reads it once, checks every symbol and remembers where lines begin
/// (eight bytes a line); samples are then read as they are asked for. All lines must be equally long. Spaces or tabs
/// separate; lines may end as on Windows, a byte-order mark may begin the file and empty lines end it. Errors name file
/// and line.
class SortingFile {
 public:
  SortingFile(const std::string& path, int32_t symbols);
  ~SortingFile();
  SortingFile(const SortingFile&) = delete;
  SortingFile& operator=(const SortingFile&) = delete;

  int64_t size() const { return int64_t(line_starts_.size()) - 1; }
  int64_t length() const { return length_; }
  /// The content in brief, to tell whether it has changed: "1234 bytes, hash 0123456789abcdef".
  std::string identity() const;
  /// Line index + 1 with its answer. Safe to call from several threads.
  SortingSample sample(int64_t index) const;

 private:
  void scan();

  std::string path_;
  int32_t symbols_;
  int descriptor_ = -1;
  int64_t length_ = 0;
  std::vector<int64_t> line_starts_;  // (lines + 1); the last is where the last sequence's line ends
  int64_t bytes_ = 0;
  uint64_t hash_ = 0;  // FNV-1a of all bytes
};

/// Samples by number, wherever they come from; sample(i) is a pure function, so a place in the data is one integer.
class SortingData {
 public:
  /// Drawn as they are needed, without end.
  static SortingData drawn(uint64_t seed, Split split, int32_t symbols, int64_t length);
  /// The lines of a file, over and over: sample i is line i mod size, or, given a seed, epoch i / size in an order of
  /// its own, each line once an epoch.
  static SortingData file(const std::string& path, int32_t symbols, std::optional<uint64_t> shuffle_seed = {});

  /// Tokens in a sequence, without separator and answer.
  int64_t length() const { return length_; }
  /// Samples before they repeat; 0: they never do.
  int64_t size() const { return file_ ? file_->size() : 0; }
  SortingSample sample(int64_t index) const;
  /// What a run must find again to go on exactly: a file's content in brief; "drawn".
  std::string identity() const { return file_ ? file_->identity() : "drawn"; }

 private:
  std::shared_ptr<const SortingFile> file_;  // none: drawn
  std::optional<uint64_t> shuffle_seed_;
  uint64_t seed_ = 0;
  Split split_ = Split::train;
  int32_t symbols_ = 0;
  int64_t length_ = 0;
};

/// Place `index` of permutation number `which` of 0 … n − 1 under a seed: a pure function, no table.
int64_t shuffled(uint64_t seed, uint64_t which, int64_t index, int64_t n);

}  // namespace lem
