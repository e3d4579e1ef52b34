// A file that appears whole or not at all. A full disk, an exception or a kill at any moment leaves the previous
// file of that name as it was.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "data/descriptor.h"

namespace lem {

/// Writes go to `<path>.tmp` in the same folder; commit() makes them durable and renames it over `path`.
///
/// The temporary file has one fixed name and is locked while it is written: what a killed process left behind is
/// overwritten by the next save instead of piling up, and two processes that save to one path at the same time get a
/// clear error instead of a mixture. A `path` that is a symbolic link is followed, so that the link stays a link.
class AtomicFile {
 public:
  /// Creates the temporary file. Throws when the folder is missing or unwritable, when `path` exists and is not a
  /// regular file, and when somebody else is writing it.
  explicit AtomicFile(const std::filesystem::path& path);

  /// Removes the temporary file unless it was committed.
  ~AtomicFile();

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends `n` bytes.
  void write(const void* data, std::size_t n);

  /// fsync, rename, fsync of the folder. Nothing can be written afterwards.
  void commit();

 private:
  void check_target();
  void open_temporary();

  std::filesystem::path path_;
  std::string temporary_;  // its name inside the folder
  Descriptor folder_;
  Descriptor file_;  // open, and locked, from the constructor to the rename
};

/// Writes all `n` bytes to `fd`, however many calls that takes; on failure throws an error that names `path`.
void write_all(int fd, const void* data, std::size_t n, const std::filesystem::path& path);

}  // namespace lem
