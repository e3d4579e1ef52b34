// Nothing is lost: whatever happens while a file is written, the previous one stays whole.
#include <sys/resource.h>

#include <csignal>
#include <numeric>
#include <random>
#include <stdexcept>

#include "tensor/io/safetensors.h"
#include "tests/file_helpers.h"
#include "tests/scratch.h"

using namespace lem;
using namespace lem::test;

namespace {

/// Lets this process write no file beyond `bytes`; beyond them, a signal kills it or, if ignored, write() fails.
void limit_file_size(rlim_t bytes, bool killed) {
  signal(SIGXFSZ, killed ? SIG_DFL : SIG_IGN);
  const rlimit limit = {bytes, bytes}, none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0 || setrlimit(RLIMIT_FSIZE, &limit) != 0) throw 0;
}

constexpr std::int64_t kLength = 100'000;

/// A file in which everything says `version`.
void save_version(const std::filesystem::path& path, std::int64_t version) {
  std::vector<std::int64_t> values(kLength, version);
  SafetensorsWriter writer;
  writer.set_metadata("version", std::to_string(version));
  writer.add("x", {kLength}, values.data());
  writer.add("pieces", DType::I64, {kLength}, [&](const SafetensorsWriter::Sink& sink) {
    for (std::int64_t i = 0; i < kLength; i += 1000) sink(values.data() + i, 8000);
  });
  writer.write(path);
}

/// The file's version; throws unless every byte of it is there and agrees.
std::int64_t whole_version(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const std::int64_t version = std::stoll(file.metadata("version"));
  std::vector<std::int64_t> values(kLength);
  for (const char* name : {"x", "pieces"}) {
    file.read(name, values.data(), DType::I64, {kLength});
    for (const std::int64_t value : values) check(value == version, "[test] a mixture of versions");
  }
  return version;
}

}  // namespace

TEST_CASE("safetensors: a source that fails leaves the previous file whole", "[safetensors]") {
  const ScratchFolder folder;
  save_version(folder / "x", 1);
  SafetensorsWriter writer;
  writer.add("x", DType::U8, {1}, [](const SafetensorsWriter::Sink&) { throw std::runtime_error("the GPU is gone"); });
  CHECK_THROWS_WITH(writer.write(folder / "x"), "the GPU is gone");
  CHECK(whole_version(folder / "x") == 1);
  CHECK(folder.entries() == 1);
}

TEST_CASE("safetensors: a write that fails at any byte leaves the previous file whole", "[safetensors]") {
  const ScratchFolder folder;
  const std::filesystem::path path = folder / "x";
  std::vector<std::uint8_t> bytes(300);
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
  SafetensorsWriter writer;
  writer.add("x", {300}, bytes.data());
  writer.write(path);
  const std::string previous = read_whole(path);
  for (auto& byte : bytes) byte ^= 0xff;
  for (rlim_t limit = 0; limit < previous.size(); limit += 23) {
    // The write fails: an error, and the temporary file is gone.
    CHECK(wait_for(start_child([&] {
            limit_file_size(limit, false);
            writer.write(path);
          })) == 1);
    CHECK(folder.entries() == 1);
    CHECK(read_whole(path) == previous);
    // The process dies in the middle of the write; the next attempt takes over what it left.
    CHECK(wait_for(start_child([&] {
            limit_file_size(limit, true);
            writer.write(path);
          })) == -SIGXFSZ);
    CHECK(folder.entries() == 2);
    CHECK(read_whole(path) == previous);
  }
  CHECK(wait_for(start_child([&] {
          limit_file_size(previous.size(), true);
          writer.write(path);
        })) == 0);
  CHECK(folder.entries() == 1);
  std::vector<std::uint8_t> got(300);
  SafetensorsFile(path).read("x", got.data(), DType::U8, {300});
  CHECK(got == bytes);
}

TEST_CASE("safetensors: kill -9 at any moment leaves a whole file", "[safetensors]") {
  const ScratchFolder folder;
  const std::filesystem::path path = folder / "x";
  save_version(path, 0);
  std::int64_t version = 0;
  std::mt19937 random(7);
  for (int round = 0; round < 40; round++) {
    const pid_t child = start_child([&] {
      for (std::int64_t next = version + 1;; next++) save_version(path, next);
    });
    usleep(random() % 30'000);
    REQUIRE(kill(child, SIGKILL) == 0);
    REQUIRE(wait_for(child) == -SIGKILL);
    const std::int64_t found = whole_version(path);
    REQUIRE(found >= version);
    REQUIRE(folder.entries() <= 2);
    version = found;
  }
  CHECK(version > 0);
  save_version(path, version + 1);
  CHECK(whole_version(path) == version + 1);
  CHECK(folder.entries() == 1);
}
