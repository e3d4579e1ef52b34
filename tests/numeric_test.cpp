// The helpers that every comparison goes through: NaN passes none of them, wherever it stands.
#include "tests/numeric.h"

#include <array>
#include <cstdlib>

#include "tests/catch.h"

namespace lem::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

TEST_CASE("the largest of numbers with a NaN is infinite", "[numeric]") {
  for (size_t nan : {0, 1, 2}) {
    CAPTURE(nan);
    std::array<double, 3> numbers = {1, 5, 2};
    numbers[nan] = kNan;
    Largest largest;
    for (size_t i = 0; i < 3; ++i) largest.add(numbers[i], i);
    CHECK(largest.value == kInfinity);
    CHECK(largest.at == nan);
  }
  Largest largest;
  for (double x : {1., 5., 2.}) largest.add(x);
  CHECK(largest.value == 5);
}

TEST_CASE("arrays with a NaN differ without bound", "[numeric]") {
  const std::vector<double> numbers = {1, 2, 4};
  for (size_t nan : {0, 1, 2}) {
    CAPTURE(nan);
    std::vector<double> planted = numbers;
    planted[nan] = kNan;
    CHECK(relative_error(planted, numbers) == kInfinity);
    CHECK(relative_error(numbers, planted) == kInfinity);
    CHECK(relative_error(planted, planted) == kInfinity);
    CHECK(largest_difference(planted, numbers).at == nan);
    planted[nan] = kInfinity;
    CHECK(relative_error(planted, numbers) == kInfinity);
    CHECK(relative_error(numbers, planted) == kInfinity);
    CHECK(relative_error(planted, planted) == 0);  // the logarithm of a sum of nothing is −∞ in both
  }
}

TEST_CASE("arrays differ by their largest difference, as a share of the largest expected", "[numeric]") {
  const std::vector<double> got = {1, 2.5, 4}, expected = {1, 2, 4};
  CHECK(relative_error(got, expected) == .125);
  CHECK(relative_error(got, expected, 8) == .0625);
  CHECK(largest_difference(got, expected).at == 1);
  CHECK(relative_error(got, std::vector<double>{1, 2.5}) == kInfinity);
  CHECK(relative_error(got, std::vector<double>{1, 2.5, 4, 0}) == kInfinity);
}

TEST_CASE("the Python reference counts NaN the same way", "[numeric]") {
  if (std::system("python3 -c '' 2>/dev/null") != 0) {
    WARN("no python3 here: bench/reference/difference.py is not tested");
    return;
  }
  CHECK(std::system("python3 bench/reference/difference.py") == 0);
}

}  // namespace
}  // namespace lem::test
