// What the tests of files share: a folder of their own, whole files as strings, errors as strings, child processes.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tensor/error.h"

namespace lem::test {

/// A new, empty folder, removed with all it holds at the end of the scope.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "lemniscate-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr)
      fail("[test] cannot create {}; set TMPDIR to a folder that can be written", name);
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  /// How many files it holds.
  std::ptrdiff_t count() const { return std::distance(std::filesystem::directory_iterator(path_), {}); }

 private:
  std::filesystem::path path_;
};

inline std::string read_whole(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_whole(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::remove(path);  // some file systems wait for the disk when a file is emptied and written again
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), std::streamsize(bytes.size()));
  if (!out.flush()) fail("[test] cannot write {}", path.string());
}

/// The text of the lem::Error that `action` throws; a sentence that no test expects when it throws none.
template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error was thrown)";
}

/// Starts `action` in a child process; it exits with 0, with 1 after a lem::Error, with 2 after anything else thrown.
template <class Action>
pid_t start_child(Action&& action) {
  const pid_t child = fork();
  if (child != 0) return child;
  int code = 0;
  alarm(60);  // an orphan must not live on when the test is interrupted
  try {
    action();
  } catch (const Error&) {
    code = 1;
  } catch (...) {
    code = 2;
  }
  _exit(code);
}

/// Waits for a child; its exit code, or minus the signal that killed it.
inline int wait_for(pid_t child) {
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace lem::test
