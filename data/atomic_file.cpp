#include "data/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "tensor/error.h"

namespace lem {
namespace {

namespace fs = std::filesystem;

std::string_view advice(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "free some space there and save again";
    case EFBIG:
      return "raise the limit on file sizes (ulimit -f) and save again";
    case EACCES:
    case EPERM:
      return "check the permissions, or choose another folder";
    case EROFS:
      return "choose a folder on a file system that can be written";
    case ENOENT:
      return "create the folder first";
    case ENOTDIR:
      return "choose a path whose parent is a folder";
    case ENAMETOOLONG:
      return "choose a shorter name";
    default:
      return "check the disk, or choose another folder";
  }
}

/// [file] cannot <action> "<path>": <what errno says>; <what to do>
[[noreturn]] void fail_with_errno(std::string_view action, const fs::path& path) {
  const int error = errno;
  fail("[file] cannot {} \"{}\": {}; {}", action, path.string(), std::generic_category().message(error), advice(error));
}

/// A symbolic link's target, so that the rename replaces the file it points to and not the link.
fs::path follow(const fs::path& path) {
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;
  const fs::path target = fs::weakly_canonical(path, error);
  return error ? path : target;
}

bool sync(int fd) {
  int result;
  do result = ::fsync(fd);
  while (result != 0 && errno == EINTR);
  return result == 0;
}

}  // namespace

void write_all(int fd, const void* data, std::size_t n, const fs::path& path) {
  constexpr std::size_t kMostPerCall = std::size_t{1} << 30;  // Linux writes at most 2 GiB - 4 KiB a call
  const char* p = static_cast<const char*>(data);
  while (n > 0) {
    const ssize_t written = ::write(fd, p, std::min(n, kMostPerCall));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("write", path);
    p += written;
    n -= static_cast<std::size_t>(written);
  }
}

AtomicFile::AtomicFile(const fs::path& path) : path_(follow(path)), temporary_(path_.filename().string() + ".tmp") {
  check(path_.has_filename(), "[file] cannot write \"{}\": it names a folder; give the name of a file", path_.string());
  const fs::path parent = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
  folder_ = Descriptor(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder_) fail_with_errno("open the folder of", path_);
  check_target();
  open_temporary();
}

AtomicFile::~AtomicFile() {
  if (file_) ::unlinkat(folder_.get(), temporary_.c_str(), 0);
}

/// Renaming over a device or a pipe would destroy it.
void AtomicFile::check_target() {
  struct stat status;
  if (::fstatat(folder_.get(), path_.filename().c_str(), &status, 0) != 0) return;
  check(S_ISREG(status.st_mode),
        "[file] cannot write \"{}\": it exists and is not a regular file; choose another name, or remove it",
        path_.string());
}

void AtomicFile::open_temporary() {
  struct stat opened, named;
  do {
    file_.close();
    Descriptor file(
        ::openat(folder_.get(), temporary_.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666));
    if (!file || ::fstat(file.get(), &opened) != 0) fail_with_errno("create a temporary file for", path_);
    check(S_ISREG(opened.st_mode),
          "[file] cannot write \"{}\": \"{}\" beside it is not a regular file; remove that one", path_.string(),
          temporary_);
    // File systems without locks answer with other errors than EWOULDBLOCK; there we go on without.
    check(::flock(file.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK,
          "[file] cannot write \"{}\": another process is writing it right now; stop that one, or choose another path",
          path_.string());
    file_ = std::move(file);
    // Between our open and our lock its previous owner may have renamed it: then we hold the finished file, not a
    // temporary one, and must not touch it.
  } while (::fstatat(folder_.get(), temporary_.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0 ||
           named.st_ino != opened.st_ino || named.st_dev != opened.st_dev);
  if (::ftruncate(file_.get(), 0) != 0) fail_with_errno("empty the temporary file of", path_);
  // The new file may be read by whoever might read the old one, and by nobody else.
  if (::fstatat(folder_.get(), path_.filename().c_str(), &named, 0) == 0 &&
      ::fchmod(file_.get(), named.st_mode & 0777) != 0)
    fail_with_errno("keep the permissions of", path_);
}

void AtomicFile::write(const void* data, std::size_t n) {
  check(bool(file_), "[file] cannot write \"{}\": it was committed already; open a new AtomicFile", path_.string());
  write_all(file_.get(), data, n, path_);
}

void AtomicFile::commit() {
  check(bool(file_), "[file] cannot commit \"{}\": it was committed already; open a new AtomicFile", path_.string());
  if (!sync(file_.get())) fail_with_errno("write", path_);
  const std::string name = path_.filename().string();
  if (::renameat(folder_.get(), temporary_.c_str(), folder_.get(), name.c_str()) != 0)
    fail_with_errno("rename the temporary file to", path_);
  file_.close();  // only now: the lock must outlive the rename
  // Some file systems cannot sync a folder and say so with EINVAL or ENOTSUP; they promise no more than the rename.
  if (!sync(folder_.get()) && errno != EINVAL && errno != ENOTSUP) fail_with_errno("sync the folder of", path_);
}

}  // namespace lem
