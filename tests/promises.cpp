// The tests are a program, too, and keep what every program promises of streams and threads. Catch's main is in the
// library that is linked; this listener hears when a run begins.
#include "tasks/common/program.h"
#include "tests/catch.h"

namespace {

struct Promises : Catch::EventListenerBase {
  using Catch::EventListenerBase::EventListenerBase;
  void testRunStarting(const Catch::TestRunInfo&) override {
    lem::open_standard_streams();
    lem::use_threads(0);
  }
};
CATCH_REGISTER_LISTENER(Promises)

}  // namespace
