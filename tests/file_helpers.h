// What the tests of files share beside scratch.h: whole files as strings, and child processes.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "tensor/error.h"
#include "tensor/io/safetensors.h"
#include "tests/catch.h"

namespace lem::test {

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

/// Every tensor of a safetensors file, as bytes.
inline std::map<std::string, std::string> tensors(const std::string& path) {
  const SafetensorsFile file(path);
  std::map<std::string, std::string> all;
  for (const std::string& name : file.names()) {
    const Entry& e = file.entry(name);
    std::string bytes(size_t(e.end - e.begin), '\0');
    file.read(name, bytes.data(), e.dtype, e.shape);
    all[name] = std::move(bytes);
  }
  return all;
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
