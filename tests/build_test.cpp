// The build as a stranger's machine has it: libraries in other places, no apt, settings that change from call to call.
// make and setup.sh run in an environment of their own, without what the tests' own make hands on.
#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include "tests/catch.h"
#include "tests/file_helpers.h"
#include "tests/scratch.h"

using namespace lem;
using namespace lem::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

struct Result {
  int code;
  std::string output;
};

Result run(const std::string& folder, const std::string& path, const std::string& command) {
  const std::string line =
      "cd '" + folder + "' && timeout 60 env -i PATH='" + path + "' " + command + " 2>&1 </dev/null";
  FILE* pipe = popen(line.c_str(), "r");
  REQUIRE(pipe);
  std::string output;
  std::array<char, 4096> part;
  while (const size_t n = std::fread(part.data(), 1, part.size(), pipe)) output.append(part.data(), n);
  const int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), output};
}

const std::string kPath = "/usr/local/bin:/usr/bin:/bin";

/// A folder with every program of `kPath` but apt and sudo.
class WithoutApt {
 public:
  WithoutApt() {
    for (const char* folder : {"/usr/local/bin", "/usr/bin", "/bin"})
      if (fs::exists(folder))
        for (const fs::directory_entry& program : fs::directory_iterator(folder)) {
          const std::string name = program.path().filename().string();
          std::error_code there_already;
          if (!name.starts_with("apt") && name != "sudo")
            fs::create_symlink(program.path(), folder_ / name, there_already);
        }
  }
  const std::string& path() const { return folder_.path(); }

 private:
  ScratchFolder folder_;
};

}  // namespace

TEST_CASE("setup finds libraries by building with the flags that it is given", "[build]") {
  const WithoutApt machine;
  const auto setup = [&](const std::string& settings) {
    return run(".", machine.path(), settings + " make --no-print-directory setup");
  };
  const Result there = setup("");
  CHECK(there.output == "");
  CHECK(there.code == 0);

  ScratchFolder elsewhere;  // a BLAS of one function, where Debian has none
  write_whole(elsewhere / "cblas.h", "extern \"C\" double cblas_sdot(int, const float*, int, const float*, int);\n");
  write_whole(elsewhere / "own.cpp",
              "#include \"cblas.h\"\ndouble cblas_sdot(int, const float*, int, const float*, int) { return 0; }\n");
  REQUIRE(run(elsewhere.path(), kPath, "g++ -shared -fPIC own.cpp -o libown.so").code == 0);
  const std::string flags = "BLAS_CFLAGS=-I" + elsewhere.path() + " BLAS_LIBS='-L" + elsewhere.path() + " -lown'";
  const Result own = setup(flags);
  CHECK(own.output == "");
  CHECK(own.code == 0);

  const Result missing = setup("BLAS_LIBS=-lnot_there");
  CHECK(missing.code != 0);
  CHECK_THAT(missing.output,
             Contains("missing: libopenblas-openmp-dev") && Contains("BLAS_LIBS") && Contains("lnot_there"));
  CHECK_THAT(missing.output, !Contains("installing") && !Contains("missing: libfmt-dev"));
  CHECK_THAT(missing.output, Contains("SKIP_SETUP=1"));
  CHECK(setup("SKIP_SETUP=1 BLAS_LIBS=-lnot_there").code == 0);
  CHECK_THAT(setup("CXX=no_compiler").output, Contains("missing: g++"));
}

TEST_CASE("setup refuses a compiler that is too old by name", "[build]") {
  const WithoutApt machine;
  const auto setup = [&](const std::string& compiler) {
    return run(".", machine.path(), "make --no-print-directory setup CXX='" + compiler + "'");
  };
  const Result old = setup("g++ -U__GNUC__ -D__GNUC__=11 -U__GNUC_MINOR__ -D__GNUC_MINOR__=4");
  CHECK(old.code != 0);
  CHECK_THAT(old.output, Contains("is g++ 11.4, which is too old") && Contains("CXX=g++-12"));
  CHECK_THAT(old.output, !Contains("missing"));
}

TEST_CASE("setup asks before it uses sudo, where someone is there to ask", "[build]") {
  if (std::system("script -qec true /dev/null >/dev/null 2>&1") != 0) return;  // what makes a terminal
  const WithoutApt machine;
  const ScratchFolder stranger;  // someone who is not root, and a sudo that only says that it was used
  const auto program = [&](const char* name, const std::string& text) {
    std::error_code none;
    fs::remove(machine.path() + "/" + name, none);
    write_whole(machine.path() + "/" + name, "#!/bin/sh\n" + text + "\n");
    fs::permissions(machine.path() + "/" + name, fs::perms::owner_all);
  };
  program("id", "echo 1000");
  program("apt-get", "exit 1");
  program("dpkg", "exit 1");  // nothing is installed
  program("sudo", "echo used \"$@\" >>'" + (stranger / "sudo") + "'; exit 1");
  const std::string setup = "make --no-print-directory setup BLAS_LIBS=-lnot_there CXX=g++";
  const auto answer = [&](const std::string& text) {
    fs::remove(stranger / "sudo");
    return run(".", machine.path(), "sh -c \"echo " + text + " | script -qec '" + setup + "' /dev/null\"");
  };
  CHECK_THAT(answer("n").output, Contains("with sudo apt-get? [Y/n]") && Contains("Nothing was installed"));
  CHECK_FALSE(fs::exists(stranger / "sudo"));
  answer("y");
  CHECK(fs::exists(stranger / "sudo"));
}

TEST_CASE("what was built with other settings is built again", "[build]") {
  ScratchFolder tree;  // the least that the Makefile can build
  for (const char* folder : {"tensor", "tasks/count", "cuda/absent", "cuda/simt"})
    fs::create_directories(tree / folder);
  fs::copy("Makefile", tree / "Makefile");
  fs::copy("cuda/simt/simt.mk", tree / "cuda/simt/simt.mk");
  write_whole(tree / "cuda/absent/simt.cpp", "");
  write_whole(tree / "cuda/absent/cuda.cpp", "");
  write_whole(tree / "cuda/simt/device.cpp", "");
  const std::string library = tree / "tensor", tasks = tree / "tasks";
  write_whole(library + "/one.cpp", "int one() { return 1; }\n");
  write_whole(library + "/two.cpp", "");
  write_whole(tasks + "/count/main.cpp", "int one();\nint main() { return one() - 1; }\n");
  const auto make = [&](const std::string& settings) {
    const Result result = run(tree.path(), kPath, "make programs SIMT= CUDA= BLAS_LIBS= " + settings);
    INFO(result.output);
    REQUIRE(result.code == 0);
    return result.output;
  };
  const std::string compiles = "/one.cpp", links = "link build/count";
  CHECK_THAT(make(""), Contains(compiles) && Contains(links));
  CHECK_THAT(make(""), !Contains(compiles) && !Contains(links));
  CHECK_THAT(make("CXX='g++ -DOTHER=\\\"quoted\\\"'"), Contains(compiles) && Contains(links));
  CHECK_THAT(make(""), Contains(compiles) && Contains(links));
  CHECK_THAT(make("BLAS_LIBS=-lm"), !Contains(compiles) && Contains(links));
  CHECK_THAT(make(""), !Contains(compiles) && Contains(links));
  CHECK_THAT(make("SIMT=1"), !Contains(compiles) && Contains("c++  cuda/simt/device.cpp") && Contains(links));
  CHECK_THAT(make(""), !Contains(compiles) && Contains(links));
  fs::remove(library + "/two.cpp");
  CHECK_THAT(make(""), !Contains(compiles) && Contains(links));
  CHECK_THAT(make(""), !Contains(compiles) && !Contains(links));
}
