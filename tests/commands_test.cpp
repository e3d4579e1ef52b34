// Every command of README and docs, as a reader would paste it: build/sort's one after another in a folder of their
// own, with settings that make them small; make's without doing what it would.
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tests/catch.h"
#include "tests/file_helpers.h"
#include "tests/program.h"
#include "tests/scratch.h"

namespace lem {
namespace {

using Words = std::vector<std::string>;

/// The commands of a page that begin with one of `programs`: lines of their own, and whole `quotations`.
Words commands(const std::string& page, const char* programs) {
  const std::string text = test::read_whole(page);
  const std::regex command("(?:^|\\n|`) *((?:[A-Z_]+=\\S+ )*(?:" + std::string(programs) + ") [^`\\n]*)");
  Words found;
  for (std::sregex_iterator at(text.begin(), text.end(), command), end; at != end; ++at) {
    std::string words = (*at)[1];
    words = words.substr(0, words.find(" #"));
    const bool pattern = words.find("…") != std::string::npos || words.find("NAME") != std::string::npos;
    if (!pattern) found.push_back(words.substr(0, words.find_last_not_of(' ') + 1));
  }
  return found;
}

Words pages() {
  Words all = {"README.md", "CONTRIBUTING.md"};
  for (const auto& entry : std::filesystem::directory_iterator("docs"))
    if (entry.path().extension() == ".md") all.push_back(entry.path());
  return all;
}

/// The command's words after build/sort, with settings that make it small.
Words made_small(const std::string& command) {
  std::istringstream in(command);
  Words words{std::istream_iterator<std::string>(in), {}};
  words.erase(words.begin());
  const auto given = [&](const std::string& flag) { return std::count(words.begin(), words.end(), flag) > 0; };
  const bool trains = words[0] == "train" || words[0] == "compare";
  if (trains && !given("--resume"))
    return with_flags(words, {"--width",
                              "16",
                              "--heads",
                              "2",
                              "--ff",
                              "16",
                              "--N",
                              "16",
                              "--R",
                              "16",
                              "--layers",
                              "1",
                              "--steps",
                              "3",
                              "--batch",
                              "2",
                              "--length",
                              "60",
                              "--segment",
                              "16",
                              "--stm",
                              "16",
                              "--test-samples",
                              "8",
                              "--validation-samples",
                              "8"});
  if (given("--steps")) words = with_flags(words, {"--steps", "5"});
  if (words[0] == "stream") words = with_flags(words, {"--tokens", "2000"});
  return words;
}

}  // namespace

TEST_CASE("commands are found in a page", "[commands]") {
  const ScratchFolder scratch;
  std::ofstream(scratch / "page.md")
      << "Say `make check`, or `make format X=1`, not make believe.\n```\nbuild/sort a --b   # why\n"
         "make …\n```\n    X=1 make c\n";
  CHECK(commands(scratch / "page.md", "build/sort|make") ==
        Words{"make check", "make format X=1", "build/sort a --b", "X=1 make c"});
}

TEST_CASE("every command of README and docs works, one after another", "[commands]") {
  const ScratchFolder scratch;
  const Words there = {"sh", "-c",
                       "program=$(realpath \"$0\"); cd '" + scratch.path() + "' && exec \"$program\" \"$@\""};
  int ran = 0;
  const auto run = [&](const std::string& command) {
    Program program(made_small(command), scratch / "log", {.environment = {}, .closed = {}, .wrapper = there});
    const int code = program.wait();
    CAPTURE(command, program.output());
    CHECK(code == 0);
    ++ran;
  };
  run("build/sort compare --preset demo");  // `make sort`, with which README begins
  for (const std::string& page : pages())
    for (const std::string& command : commands(page, "build/sort")) run(command);
  CHECK(ran > 7);
}

TEST_CASE("every make command of README and docs can be made", "[commands]") {
  const ScratchFolder scratch;
  std::set<std::string> all;
  for (const std::string& page : pages())
    for (const std::string& command : commands(page, "make")) all.insert(command);
  CHECK(all.size() > 15);
  for (const std::string& command : all) {
    CAPTURE(command);
    // In an environment without this build's settings (REAL=double), which make hands down.
    const std::string plain = "env -i PATH=\"$PATH\" " + command;
    const int code = std::system((plain + " -n SKIP_SETUP=1 >" + (scratch / "log") + " 2>&1").c_str());
    const std::string said = test::read_whole(scratch / "log");
    CAPTURE(said);
    const bool lacks_cuda = said.find("nvcc is not on this machine") != std::string::npos ||
                            said.find("needs CUDA's headers") != std::string::npos;
    CHECK((code == 0 || lacks_cuda));
  }
}

TEST_CASE("every choice of tests that README and docs name has tests", "[commands]") {
  const ScratchFolder scratch;
  const std::string tests = std::filesystem::read_symlink("/proc/self/exe"), name = "build/release/tests/run";
  int ran = 0;
  for (const std::string& page : pages())
    for (std::string command : commands(page, "build/release/tests/run")) {
      CAPTURE(page, command);
      command.replace(command.find(name), name.size(), tests);
      CHECK(std::system((command + " --list-tests >" + (scratch / "log") + " 2>&1").c_str()) != -1);
      CHECK(test::read_whole(scratch / "log").find("\n0 matching") == std::string::npos);
      CHECK(test::read_whole(scratch / "log").find("No test cases matched") == std::string::npos);
      ++ran;
    }
  CHECK(ran >= 3);
}

}  // namespace lem
