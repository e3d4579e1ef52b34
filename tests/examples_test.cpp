// The programs in examples/ print what they say they print, and the chapters quote them.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

#include "tensor/error.h"
#include "tests/catch.h"

namespace lem {
namespace {

using Catch::Contains;

std::string output_of(const std::string& example) {
  const char* folder = std::getenv("LEM_BIN");
  const std::string program = std::string(folder ? folder : "build") + "/examples/" + example;
  FILE* pipe = popen(("timeout 60 " + program + " 2>&1").c_str(), "r");
  if (!pipe) fail("[test] cannot start {}", program);
  std::string output;
  std::array<char, 4096> part;
  while (const size_t n = std::fread(part.data(), 1, part.size(), pipe)) output.append(part.data(), n);
  INFO(output);
  REQUIRE(pclose(pipe) == 0);
  return output;
}

TEST_CASE("example: the tape by hand gives the chapter's numbers", "[examples]") {
  const std::string output = output_of("tape");
  CHECK_THAT(output, Contains("the tape holds 3 operations; loss = 0.7500"));
  CHECK_THAT(output, Contains("dx       0.3899  -0.6931"));
  CHECK_THAT(output, Contains("dW       0.2500   0.6250  -0.8750   0.1250   0.3125  -0.4375"));
  CHECK_THAT(output, Contains("/ 2h = 0.3899"));
}

TEST_CASE("example: a signal is read as it was written", "[examples]") {
  const std::string output = output_of("signal");
  // sin(20 · 0.28²) = 1.000: a narrow density reads that point, wide ones what is around it
  CHECK_THAT(output, Contains("200 numbers as 16 coefficients: off the true tone by 0.02"));
  CHECK_THAT(output, Contains("with sigma 0.01 it reads  1.0"));
  CHECK_THAT(output, Contains("with sigma 0.05 it reads  0.8"));
}

TEST_CASE("example: the memory gives every segment its share of time", "[examples]") {
  const std::string output = output_of("memory");
  CHECK_THAT(output, Contains("after 10 segments of 32 vectors: 64 coefficients"));
  // the newest has 1 − τ = 25 %, each older one τ times the next
  CHECK_THAT(output, Contains("|  24.") && Contains("|  18.") && Contains("|  13."));
}

TEST_CASE("example: attention by content, by distance, and within a window", "[examples]") {
  const std::string output = output_of("attention");
  CHECK_THAT(output, Contains("query at  6     2    2   88    2    2    2    2    .    .    ."));
  CHECK_THAT(output, Contains("query at  9     .    .    .    .    .    .    ."));
}

TEST_CASE("every example is run by a test", "[examples]") {
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator("examples")) names.insert(file.path().stem());
  CHECK(names == std::set<std::string>{"attention", "memory", "signal", "tape"});
}

}  // namespace
}  // namespace lem
