// Files that are whole or not there at all, and errors that say what to do about them.
//
// A file that must survive a kill or a full disk is written as `name.partial` in the same folder, forced to the disk,
// and renamed over `name`: whoever looks sees the old file or the new one, never half of either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lem {

/// Throws an Error for the system's error `code` (errno): "[files] cannot <verb> <path>: <reason>; <what to do>".
[[noreturn]] void fail_file(std::string_view verb, const std::string& path, int code);

/// Writes all of `data` to an open descriptor: short writes and interruptions are continued, errors name `path`.
void write_all(int descriptor, const void* data, size_t size, const std::string& path);

/// Replaces a file as a whole. Nothing is visible under `path` before commit(); without it the partial file is removed.
///
///     AtomicFile file("runs/demo/last.safetensors");
///     file.write(header.data(), header.size());
///     file.write(weights, bytes);
///     file.commit();
class AtomicFile {
 public:
  /// Opens `path`.partial beside it. Refuses folders, devices, and a file that another process is writing right now.
  /// What a killed process left of its partial file is overwritten.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Forces the bytes to the disk, then renames. After it the new file is complete, even if the power fails.
  void commit();

 private:
  void flush();

  std::string path_, partial_;
  std::string buffer_;  // small writes are gathered
  int descriptor_ = -1;
};

/// Writes a whole file at once through AtomicFile.
void write_text(const std::string& path, std::string_view text);

/// Reads a whole file; an Error if it is missing, a folder, or larger than `limit` bytes.
std::string read_text(const std::string& path, int64_t limit = int64_t(1) << 30);

/// Makes a folder and those above it; nothing if it is there.
void make_folder(const std::string& path);

/// Forces a folder's entries (a rename, a new file) to the disk.
void sync_folder(const std::string& path);

/// "runs/demo" of "runs/demo/curves.svg", "." of "curves.svg".
std::string parent_folder(const std::string& path);

}  // namespace lem
