// What every fuzzing program shares. libFuzzer calls LLVMFuzzerTestOneInput with one input after another, which it
// makes of the seeds that the program writes first; an Error is the right answer to most of them, everything else that
// is thrown or goes wrong ends the program. A program is one file: it includes this one, and defines seeds().
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/error.h"
#include "tensor/io/files.h"
#include "tests/scratch.h"

namespace lem::fuzz {

/// Inputs that are right, by the project's own writers where there are some.
std::vector<std::string> seeds();

/// A file in memory that holds an input, for parsers that read files.
class InputFile {
 public:
  explicit InputFile(std::string_view bytes) : descriptor_(memfd_create("input", MFD_CLOEXEC)) {
    if (descriptor_ < 0 || write(descriptor_, bytes.data(), bytes.size()) != ssize_t(bytes.size())) std::abort();
  }
  ~InputFile() { close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// What write(path) writes into a file.
template <class Write>
std::string written(Write write) {
  const ScratchFolder folder;
  write(folder / "file");
  return read_text(folder / "file");
}

/// An Error's message is for people: some lines, not what a whole file holds.
inline constexpr size_t kLongestMessage = 1000;

/// Ends the program unless what must hold does.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// Calls read(); true if it came to its end, false if it threw an Error.
template <class Read>
bool succeeds(Read read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    require(std::string_view(error.what()).size() <= kLongestMessage);
    return false;
  }
}

}  // namespace lem::fuzz

/// Puts the seeds into the first corpus folder on libFuzzer's command line.
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  for (int i = 1; i < *count; ++i) {
    const std::string folder = (*arguments)[i];
    struct stat status;
    if (stat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) continue;
    int n = 0;
    for (const std::string& seed : lem::fuzz::seeds()) lem::write_text(folder + "/seed-" + std::to_string(n++), seed);
    break;
  }
  return 0;
}
