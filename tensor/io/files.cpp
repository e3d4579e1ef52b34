#include "tensor/io/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "tensor/error.h"

namespace lem {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

/// What a person can do about a system error.
const char* advice(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return "the disk (or your share of it) is full: free some space or choose another folder";
    case EFBIG:
      return "the file is larger than this system allows: raise the limit (ulimit -f) or choose another disk";
    case EROFS:
      return "that disk is mounted read-only: choose another folder";
    case EACCES:
    case EPERM:
      return "you have no right to do that there: choose another folder or ask its owner";
    case ENOENT:
      return "check the spelling and that its folder exists";
    case ENOTDIR:
      return "a part of this path is a file, not a folder: choose another path";
    case EISDIR:
      return "that is a folder: name a file";
    case EEXIST:
      return "a file of that name is in the way: move it or choose another path";
    case ENAMETOOLONG:
      return "the name is too long: choose a shorter one";
    case ELOOP:
      return "its symbolic links lead in a circle: name the file itself";
    case EMFILE:
    case ENFILE:
      return "too many files are open: close some or raise the limit (ulimit -n)";
    case EIO:
      return "the disk reports a fault: check it and choose another one";
    default:
      return "check the path and the disk";
  }
}

/// Closes a descriptor at the end of a scope.
struct Closing {
  int descriptor;
  ~Closing() { ::close(descriptor); }
};

/// The file that a symbolic link leads to, so that replacing it leaves the link alone; other paths as they are.
std::string follow_link(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const auto target = std::filesystem::weakly_canonical(path, error);
  if (error) fail_file("write", path, error.value());
  return target.string();
}

/// Opens and locks the partial file. The lock ends with the descriptor, so a killed process leaves none behind.
int open_partial(const std::string& partial, const std::string& path) {
  for (;;) {
    const int descriptor = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor < 0) fail_file("write", path, errno);
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(descriptor);
      fail("[files] cannot write {}: another process is writing it; wait for it or choose another path", path);
    }
    // Between open and lock the other process may have renamed the file away: then this one is the finished file.
    struct stat mine {
    }, there{};
    const bool same = ::fstat(descriptor, &mine) == 0 && ::lstat(partial.c_str(), &there) == 0 &&
                      mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
    if (same) {
      if (::ftruncate(descriptor, 0) == 0) return descriptor;
      const int code = errno;
      ::close(descriptor);
      fail_file("write", path, code);
    }
    ::close(descriptor);
  }
}

/// fsync, begun again when a signal (Ctrl-C) breaks into it.
bool force(int descriptor) {
  int result = 0;
  do result = ::fsync(descriptor);
  while (result != 0 && errno == EINTR);
  return result == 0;
}

}  // namespace

void fail_file(std::string_view verb, const std::string& path, int code) {
  fail("[files] cannot {} {}: {}; {}", verb, path, std::strerror(code), advice(code));
}

void write_all(int descriptor, const void* data, size_t size, const std::string& path) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor, p, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_file("write", path, errno);
    p += written, size -= size_t(written);
  }
}

AtomicFile::AtomicFile(const std::string& path) : path_(follow_link(path)), partial_(path_ + ".partial") {
  struct stat there {};
  if (::stat(path_.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
    if (S_ISDIR(there.st_mode)) fail_file("write", path, EISDIR);
    fail("[files] cannot write {}: it is a device or a pipe, which cannot be replaced; name a file", path);
  }
  descriptor_ = open_partial(partial_, path_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::unlink(partial_.c_str());
  ::close(descriptor_);
}

void AtomicFile::flush() {
  write_all(descriptor_, buffer_.data(), buffer_.size(), path_);
  buffer_.clear();
}

void AtomicFile::write(const void* data, size_t size) {
  check(descriptor_ >= 0, "[files] write to {} after commit: the file is finished; open a new AtomicFile", path_);
  if (buffer_.size() + size > kBufferBytes) flush();
  if (size > kBufferBytes)
    write_all(descriptor_, data, size, path_);
  else
    buffer_.append(static_cast<const char*>(data), size);
}

void AtomicFile::commit() {
  check(descriptor_ >= 0, "[files] second commit of {}: the file is finished; open a new AtomicFile", path_);
  flush();
  if (!force(descriptor_)) fail_file("write", path_, errno);
  // The rename comes before the close, so that the lock covers it. The close cannot lose anything after the fsync.
  if (::rename(partial_.c_str(), path_.c_str()) != 0) fail_file("write", path_, errno);
  ::close(std::exchange(descriptor_, -1));
  sync_folder(parent_folder(path_));
}

void write_text(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_text(const std::string& path, int64_t limit) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_file("read", path, errno);
  const Closing closing{descriptor};
  std::string text;
  std::string chunk(1 << 16, '\0');
  for (;;) {
    const ssize_t got = ::read(descriptor, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file("read", path, errno);
    if (got == 0) return text;
    text.append(chunk.data(), size_t(got));
    check(int64_t(text.size()) <= limit, "[files] cannot read {}: larger than {} bytes; is it the right file?", path,
          limit);
  }
}

void make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail_file("make the folder", path, error.value());
  if (!std::filesystem::is_directory(path, error)) fail_file("make the folder", path, EEXIST);
}

void sync_folder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_file("write to the folder", path, errno);
  const Closing closing{descriptor};
  // Some file systems have no such operation for folders and say so; they order renames themselves.
  if (!force(descriptor) && errno != EINVAL && errno != ENOTSUP) fail_file("write to the folder", path, errno);
}

std::string parent_folder(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace lem
