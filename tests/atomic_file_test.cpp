// A file that appears whole or not at all: its life, its errors, its neighbours.
#include "data/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/file_helpers.h"

using namespace lem;
using namespace lem::test;
using Catch::Contains;

namespace {

void save(const std::filesystem::path& path, const std::string& bytes) {
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size() / 2);
  file.write(bytes.data() + bytes.size() / 2, bytes.size() - bytes.size() / 2);
  file.commit();
}

}  // namespace

TEST_CASE("atomic file: appears at commit and not before", "[files]") {
  const TempFolder folder;
  {
    AtomicFile file(folder / "x");
    file.write("half", 4);
    CHECK_FALSE(std::filesystem::exists(folder / "x"));
    file.commit();
    CHECK(read_whole(folder / "x") == "half");
    CHECK_THAT(error_of([&] { file.write("more", 4); }), Contains("committed already"));
    CHECK_THAT(error_of([&] { file.commit(); }), Contains("committed already"));
  }
  CHECK(folder.count() == 1);
  save(folder / "x", "");
  CHECK(read_whole(folder / "x").empty());
  const std::string large(3'000'001, 'l');
  save(folder / "x", large);
  CHECK(read_whole(folder / "x") == large);
}

TEST_CASE("atomic file: without a commit the previous file stays", "[files]") {
  const TempFolder folder;
  save(folder / "x", "previous");
  { AtomicFile(folder / "x").write("new", 3); }
  CHECK(read_whole(folder / "x") == "previous");
  CHECK(folder.count() == 1);
}

TEST_CASE("atomic file: paths that cannot be written", "[files]") {
  const TempFolder folder;
  const auto error = [](const std::filesystem::path& path) { return error_of([&] { AtomicFile file(path); }); };
  const std::string missing = (folder / "no/such").string();
  CHECK(error(missing) ==
        "[file] cannot open the folder of \"" + missing + "\": No such file or directory; create the folder first");
  save(folder / "file", "");
  CHECK_THAT(error(folder / "file/x"), Contains("Not a directory; choose a path whose parent is a folder"));
  CHECK_THAT(error(folder.path() / ""), Contains("it names a folder; give the name of a file"));
  CHECK_THAT(error(folder.path()), Contains("it exists and is not a regular file"));
  CHECK_THAT(error("/dev/full"), Contains("\"/dev/full\": it exists and is not a regular file"));
  CHECK_THAT(error(folder / std::string(300, 'n')), Contains("File name too long; choose a shorter name"));
  if (geteuid() != 0) {  // root may write everywhere
    std::filesystem::permissions(folder.path(), std::filesystem::perms(0555));
    CHECK_THAT(error(folder / "x"), Contains("Permission denied; check the permissions, or choose another folder"));
    std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  }
  CHECK(folder.count() == 1);
}

TEST_CASE("atomic file: links stay links, permissions stay", "[files]") {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "far");
  save(folder / "far/file", "old");
  std::filesystem::permissions(folder / "far/file", std::filesystem::perms(0600));
  std::filesystem::create_symlink(folder / "far/file", folder / "link");
  save(folder / "link", "new");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_whole(folder / "far/file") == "new");
  CHECK(std::filesystem::status(folder / "far/file").permissions() == std::filesystem::perms(0600));
}

TEST_CASE("atomic file: one writer at a time", "[files]") {
  const TempFolder folder;
  save(folder / "x", "previous");
  AtomicFile first(folder / "x");
  first.write("first", 5);
  CHECK_THAT(error_of([&] { AtomicFile second(folder / "x"); }), Contains("another process is writing it right now"));
  save(folder / "y", "unrelated");
  first.commit();
  CHECK(read_whole(folder / "x") == "first");
  save(folder / "x", "second");
  CHECK(read_whole(folder / "x") == "second");
}

TEST_CASE("atomic file: a full disk is reported", "[files]") {
  const Descriptor full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  REQUIRE(bool(full));
  CHECK(error_of([&] { write_all(full.get(), "x", 1, "run/last.safetensors"); }) ==
        "[file] cannot write \"run/last.safetensors\": No space left on device; free some space there and save again");
}
