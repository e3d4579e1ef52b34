// What a program's main does and Catch's, which is in the library that is linked, does not: this listener hears how a
// run begins and ends.
#include <cstdlib>
#include <fstream>

#include "tests/catch.h"

namespace {

/// Adds "passed failed" to the file that LEM_TEST_COUNTS names, so that `make test` can add up its runs.
struct Counter : Catch::EventListenerBase {
  using Catch::EventListenerBase::EventListenerBase;
  void testRunEnded(const Catch::TestRunStats& stats) override {
    if (const char* path = std::getenv("LEM_TEST_COUNTS"))
      std::ofstream(path, std::ios::app) << stats.totals.testCases.passed << " " << stats.totals.testCases.failed
                                         << "\n";
  }
};
CATCH_REGISTER_LISTENER(Counter)

}  // namespace
