#include "tasks/common/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "tensor/error.h"
#include "tensor/io/files.h"

namespace lem {

RunFolder::RunFolder(const std::string& path) : path_(path) {
  make_folder(path);
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ < 0) fail_file("open the folder", path, errno);
  // File systems that cannot lock a folder say something else than EWOULDBLOCK: there nobody is kept out.
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(descriptor_);
  fail("[run] {}: another program is at work in this folder; wait until it has ended, stop it, or choose another --out",
       path);
}

RunFolder::~RunFolder() { ::close(descriptor_); }

void RunFolder::check_in_place() const {
  struct stat mine {
  }, there{};
  const bool same = ::fstat(descriptor_, &mine) == 0 && ::stat(path_.c_str(), &there) == 0 &&
                    mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
  check(same,
        "[run] {} was moved or removed while the run was on; what was saved last is where it went: go on with --resume "
        "and its new name",
        path_);
}

}  // namespace lem
