// Every kernel of tensor/kernels.h on every device that there is.
#include <omp.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "tests/catch.h"
#include "tests/kernel_check.h"

namespace lem::test {
namespace {

TEST_CASE("every kernel is in the table", "[kernel]") {
  std::set<std::string> tested;
  for (const KernelCase& c : kernel_table()) tested.insert(c.kernel);
  tested.insert("relative_attention_backward");  // runs inside the forward's cases
#define KERNEL(name, ...) CHECK(tested.count(#name) == 1);
#include "tensor/kernels.h"
#undef KERNEL
}

TEST_CASE("kernels compute what they say, write nothing else, and give the same bits again", "[kernel]") {
  // One kernel on one device while it is being written: LEM_KERNEL=softmax LEM_DEVICE=simt build/release/tests/run
  // "[kernel]". LEM_SMALL=1 leaves out what takes the thread sanitizer minutes.
  const char *only = std::getenv("LEM_KERNEL"), *small = std::getenv("LEM_SMALL");
  for (Device device : devices())
    for (const KernelCase& c : kernel_table())
      if ((!only || std::string(c.kernel).find(only) != std::string::npos) && !(small && c.large))
        CHECK(check_kernel(c, device) == "");
}

// ---- planted faults: each must be found, and named

std::string found_in(const std::function<void(KernelCall&)>& faulty) {
  return check_kernel({"planted", "", faulty}, Device::cpu);
}

TEST_CASE("a kernel that writes where it must not is found", "[kernel]") {
  using Catch::Contains;
  const auto fill_beyond = [](int64_t from, int64_t n) {
    return [=](KernelCall& c) {
      const Reals y = c.output("y", 33);
      on(c.device).fill(y, 1, 33);
      on(c.device).fill(y + from, 1, n);
    };
  };
  CHECK(found_in(fill_beyond(0, 33)) == "");
  CHECK_THAT(found_in(fill_beyond(0, 34)), Contains("y: wrote at byte 0 behind the array"));
  CHECK_THAT(found_in(fill_beyond(40, 1)), Contains("behind the array"));
  CHECK_THAT(found_in(fill_beyond(-1, 1)), Contains("y: wrote") && Contains("before the array"));
  CHECK_THAT(found_in([](KernelCall& c) {
               const Reals x = c.input("x", 5);
               on(c.device).fill(x + 4, 1, 1);
             }),
             Contains("x: an input was changed"));
  CHECK_THAT(found_in([](KernelCall& c) {
               const Reals y = c.output("y", 5);
               on(c.device).fill(y, 1, 5);
               c.expect(y, [](int64_t i) { return i == 2 ? NAN : 1; });
             }),
             Contains("y[2]: written, must not be"));
}

TEST_CASE("a kernel that leaves out, adds where it must write, or computes something else is found", "[kernel]") {
  using Catch::Contains;
  CHECK_THAT(found_in([](KernelCall& c) { on(c.device).fill(c.output("y", 5), 1, 4); }),
             Contains("y[4]: never written"));
  CHECK_THAT(found_in([](KernelCall& c) {
               const Reals y = c.output("y", 33);
               on(c.device).fill(y, 1, 32);
               c.expect(y, [](int64_t) { return 1; });
             }),
             Contains("worst at 32: got nan, expected 1"));
  CHECK_THAT(found_in([](KernelCall& c) {
               const Reals y = c.output("y", 5), x = c.input("x", 5);
               on(c.device).axpy(y, 1, x, 5);  // += on an output that is only to be written
               c.expect(y, [&](int64_t i) { return x[i]; });
             }),
             Contains("got nan"));
  CHECK_THAT(found_in([](KernelCall& c) {
               const Reals y = c.output("y", 257), x = c.input("x", 257);
               on(c.device).scale(y, real(1 + 1e-4), x, 257);
               c.expect(y, [&](int64_t i) { return x[i]; });
             }),
             Contains("relative error 0.0001"));
  CHECK_THAT(found_in([](KernelCall& c) {
               const Reals y = c.output("y", 5);
               on(c.device).fill(y, 1, 5);
               c.expect(y, [](int64_t i) { return i == 2 ? -INFINITY : 1; });
             }),
             Contains("worst at 2: got 1, expected -inf"));
}

TEST_CASE("a kernel whose bits change from run to run, or with the threads, is found", "[kernel]") {
  using Catch::Contains;
  int calls = 0;
  CHECK_THAT(found_in([&](KernelCall& c) { on(c.device).fill(c.output("y", 1), real(++calls), 1); }),
             Contains("other bits in a second run"));
  CHECK_THAT(found_in([](KernelCall& c) { on(c.device).fill(c.output("y", 1), real(omp_get_max_threads()), 1); }),
             Contains("other bits on") && Contains("threads"));
}

// ---- the clock around kernels

TEST_CASE("profiling names the kernels that ran", "[kernel]") {
  profile_kernels(true);
  Tensor x = full({257}, 2, Device::cpu);
  on(Device::cpu).scale(x.data(), 2, x.data(), 257);
  on(Device::cpu).scale(x.data(), 2, x.data(), 257);
  profile_kernels(false);
  on(Device::cpu).scale(x.data(), 2, x.data(), 257);  // not counted
  int count = 0;
  const KernelTime* times = kernel_times(&count);
  REQUIRE(count == 2);
  for (int i = 0; i < count; ++i) {
    const std::string kernel = times[i].name;
    CHECK(times[i].calls == (kernel == "scale" ? 2 : 1));
    CHECK((kernel == "scale" || kernel == "fill"));
    CHECK(times[i].seconds >= 0);
  }
  CHECK(times[0].seconds >= times[1].seconds);
  CHECK(x.to_vector()[256] == 16);
}

}  // namespace
}  // namespace lem::test
