#include "tensor/io/files.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;

TEST_CASE("a file is replaced as a whole", "[files]") {
  const ScratchFolder folder;
  const std::string path = folder / "weights";
  write_text(path, "old");
  {
    AtomicFile file(path);
    file.write("new ");
    CHECK(read_text(path) == "old");
    file.write(std::string(3 << 20, 'x'));  // larger than the buffer
    CHECK(read_text(path) == "old");
    file.write(" end");
    file.commit();
    CHECK(read_text(path) == "new " + std::string(3 << 20, 'x') + " end");
  }
  CHECK(folder.entries() == 1);
}

TEST_CASE("many small writes arrive in order", "[files]") {
  const ScratchFolder folder;
  std::string expected;
  AtomicFile file(folder / "numbers");
  for (int i = 0; i < 400000; ++i) {
    const std::string line = std::to_string(i) + "\n";
    file.write(line);
    expected += line;
  }
  file.commit();
  CHECK(read_text(folder / "numbers") == expected);
}

TEST_CASE("without commit the old file stays and nothing is left behind", "[files]") {
  const ScratchFolder folder;
  write_text(folder / "a", "old");
  { AtomicFile(folder / "a").write("half of the new"); }
  CHECK(read_text(folder / "a") == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("what a killed process left is overwritten", "[files]") {
  const ScratchFolder folder;
  const std::string path = folder / "a";
  const pid_t child = fork();
  if (child == 0) {  // writes more than the parent will, and dies without destructors
    AtomicFile file(path);
    file.write(std::string(2 << 20, 'x'));
    kill(getpid(), SIGKILL);
  }
  waitpid(child, nullptr, 0);
  CHECK(folder.entries() == 1);  // its partial file
  CHECK_THAT(error_of([&] { read_text(path); }), Contains("No such file"));
  write_text(path, "short");
  CHECK(read_text(path) == "short");
  CHECK(folder.entries() == 1);
}

TEST_CASE("two writers of one file are told apart", "[files]") {
  const ScratchFolder folder;
  AtomicFile first(folder / "a");
  CHECK_THAT(error_of([&] { AtomicFile second(folder / "a"); }), Contains("another process is writing it"));
  first.write("first");
  first.commit();
  CHECK(read_text(folder / "a") == "first");
  AtomicFile third(folder / "a");
  CHECK_THAT(error_of([&] { first.write("more"); }), Contains("after commit"));
  CHECK_THAT(error_of([&] { first.commit(); }), Contains("second commit"));
}

TEST_CASE("a symbolic link keeps pointing at the replaced file", "[files]") {
  const ScratchFolder folder;
  write_text(folder / "real", "old");
  std::filesystem::create_symlink("real", folder / "link");
  write_text(folder / "link", "new");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_text(folder / "real") == "new");
  std::filesystem::create_symlink("loop", folder / "loop");
  CHECK_THAT(error_of([&] { write_text(folder / "loop", "x"); }), Contains("lead in a circle"));
}

TEST_CASE("paths that cannot be written say why and what to do", "[files]") {
  const ScratchFolder folder;
  write_text(folder / "file", "x");
  CHECK_THAT(error_of([&] { write_text(folder / "file/below", "x"); }),
             Contains("[files] cannot write " + (folder / "file/below") + ": Not a directory; a part of this path"));
  CHECK_THAT(error_of([&] { write_text(folder / "missing/a", "x"); }),
             Contains("No such file or directory; check the spelling"));
  CHECK_THAT(error_of([&] { write_text(folder.path(), "x"); }), Contains("Is a directory; that is a folder"));
  CHECK_THAT(error_of([&] { write_text(folder / std::string(300, 'n'), "x"); }), Contains("choose a shorter one"));
  CHECK_THAT(error_of([&] { write_text("/dev/null", "x"); }), Contains("it is a device or a pipe"));
  CHECK_THAT(error_of([&] { write_text("", "x"); }), Contains("[files] cannot write"));
  CHECK(folder.entries() == 1);
}

TEST_CASE("paths that cannot be read say why and what to do", "[files]") {
  const ScratchFolder folder;
  CHECK_THAT(error_of([&] { read_text(folder / "none"); }),
             Contains("[files] cannot read " + (folder / "none") + ": No such file"));
  CHECK_THAT(error_of([&] { read_text(folder.path()); }), Contains("Is a directory"));
  write_text(folder / "big", std::string(1000, 'x'));
  CHECK_THAT(error_of([&] { read_text(folder / "big", 999); }), Contains("larger than 999 bytes"));
  CHECK(read_text(folder / "big", 1000).size() == 1000);
  write_text(folder / "empty", "");
  CHECK(read_text(folder / "empty").empty());
}

TEST_CASE("a full disk is an error and leaves the old file whole", "[files]") {
  const int full = open("/dev/full", O_WRONLY);
  REQUIRE(full >= 0);
  CHECK_THAT(error_of([&] { write_all(full, "x", 1, "results.txt"); }),
             Contains("[files] cannot write results.txt: No space left on device; the disk") &&
                 Contains("free some space or choose another folder"));
  close(full);

  // A limit on the size of files fails in the middle of the data, as a disk does that fills up.
  const ScratchFolder folder;
  write_text(folder / "a", "old");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{100000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  const std::string at_once = error_of([&] { write_text(folder / "a", std::string(5 << 20, 'x')); });
  const std::string at_commit = error_of([&] { write_text(folder / "a", std::string(200000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(at_once, Contains("File too large"));
  CHECK_THAT(at_commit, Contains("File too large"));
  CHECK(read_text(folder / "a") == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("folders are made with all above them", "[files]") {
  const ScratchFolder folder;
  make_folder(folder / "a/b/c");
  make_folder(folder / "a/b/c");
  CHECK(std::filesystem::is_directory(folder / "a/b/c"));
  write_text(folder / "file", "x");
  CHECK_THAT(error_of([&] { make_folder(folder / "file"); }), Contains("cannot make the folder " + (folder / "file")));
  CHECK_THAT(error_of([&] { make_folder(folder / "file/below"); }), Contains("Not a directory"));
  CHECK_THAT(error_of([&] { sync_folder(folder / "none"); }), Contains("No such file"));
  CHECK(parent_folder("runs/demo/x") == "runs/demo");
  CHECK(parent_folder("x") == ".");
  CHECK(parent_folder("/x") == "/");
}
