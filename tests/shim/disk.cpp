// Loaded before a program (LD_PRELOAD), makes its disk fail: from the call number LEM_DISK_FAILS on, everything that
// writes to a disk fails with the error number LEM_DISK_ERROR; with LEM_DISK_ONCE=1 that call alone. 0: nothing fails.
// At the end the number of calls goes to LEM_DISK_COUNT. Standard streams and reading are left alone.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace {

int number(const char* name) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : 0;
}

std::atomic<int> calls{0};

bool fails() {
  static const int first = number("LEM_DISK_FAILS"), error = number("LEM_DISK_ERROR"), once = number("LEM_DISK_ONCE");
  const int call = ++calls;
  if (first == 0 || call < first || (once && call > first)) return false;
  errno = error;
  return true;
}

template <class Function>
Function* real_call(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

struct Report {
  ~Report() {
    const char* path = std::getenv("LEM_DISK_COUNT");
    std::FILE* file = path ? std::fopen(path, "w") : nullptr;
    if (!file) return;
    std::fprintf(file, "%d\n", calls.load());
    std::fclose(file);
  }
} report;

int open_or_fail(const char* name, const char* path, int flags, mode_t mode) {
  static const auto real = real_call<int(const char*, int, ...)>(name);
  const bool writes = (flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0;
  return writes && fails() ? -1 : real(path, flags, mode);
}

mode_t mode_of(int flags, va_list arguments) { return flags & O_CREAT ? va_arg(arguments, mode_t) : 0; }

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_or_fail("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_or_fail("open64", path, flags, mode);
}

ssize_t write(int descriptor, const void* data, size_t size) {
  static const auto real = real_call<ssize_t(int, const void*, size_t)>("write");
  if (descriptor > STDERR_FILENO && fails()) return -1;
  return real(descriptor, data, size);
}

int fsync(int descriptor) {
  static const auto real = real_call<int(int)>("fsync");
  return fails() ? -1 : real(descriptor);
}

int rename(const char* from, const char* to) {
  static const auto real = real_call<int(const char*, const char*)>("rename");
  return fails() ? -1 : real(from, to);
}

int mkdir(const char* path, mode_t mode) {
  static const auto real = real_call<int(const char*, mode_t)>("mkdir");
  return fails() ? -1 : real(path, mode);
}

}  // extern "C"
