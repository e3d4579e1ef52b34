// What grows must have a bound, and what can fail must fail as an Error: caches, allocations in parallel loops, sizes
// that do not fit the BLAS, tables that others hold.
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <new>

#include "nn/parameters.h"
#include "nn/ridge_operators.h"
#include "tensor/cpu/parallel.h"
#include "tensor/pool.h"
#include "tests/catch.h"
#include "tests/kernel_check.h"
#include "tests/numeric.h"

namespace lem {
namespace {

using Catch::Contains;

#if !defined(__SANITIZE_ADDRESS__)  // which caches nothing
TEST_CASE("what the pool keeps is bounded by what was once in use", "[bounds][pool]") {
  pool_trim(Device::cpu);
  const size_t start = pool_counters(Device::cpu).in_use, slack = 16 << 20;
  // Token by token: every past has another length. Unbounded, this would keep 4 GB.
  size_t most = start;
  for (int64_t n = 1; n <= 2000; ++n) {
    const Tensor past({n, 1 << 10}, Device::cpu);
    most = std::max(most, pool_counters(Device::cpu).in_use);
    const PoolCounters now = pool_counters(Device::cpu);
    REQUIRE(now.in_use + now.cached <= most + most / 2 + slack);
  }
  // A size that comes again and again stays.
  { const Tensor again({2000, 1 << 10}, Device::cpu); }
  const size_t cached = pool_counters(Device::cpu).cached;
  for (int i = 0; i < 10; ++i) {
    const Tensor again({2000, 1 << 10}, Device::cpu);
    CHECK(pool_counters(Device::cpu).cached < cached);
  }
  CHECK(pool_counters(Device::cpu).cached == cached);
  pool_trim(Device::cpu);
  CHECK(pool_counters(Device::cpu).cached == 0);
}

TEST_CASE("a packed model is in memory once", "[bounds][pool]") {
  pool_trim(Device::cpu);
  const size_t before = pool_counters(Device::cpu).in_use;
  Parameters parameters(Device::cpu, 1);
  for (int i = 0; i < 8; ++i) parameters.add(fmt::format("w{}", i), {300, 300}, {.init = Init::normal(1)});
  parameters.pack();
  const PoolCounters after = pool_counters(Device::cpu);
  const size_t twice = 2 * 8 * 300 * 300 * sizeof(real);  // values and gradients
  CHECK(after.in_use - before <= twice + twice / 8 + 4096);
  CHECK(after.cached == 0);
}
#endif

TEST_CASE("ridge operators are made when they are wanted, and the last 64 kept", "[bounds][ridge]") {
  const Basis basis = make_basis(BasisKind::gaussian, 8, {.1, .3});
  RidgeOperators operators(basis, 16, .75, .5, true, Device::cpu);
  CHECK(operators.held() == 0);
  const Tensor first = operators.first(5);
  CHECK(operators.held() == 1);
  CHECK(operators.first(5).storage() == first.storage());
  for (int64_t L = 1; L <= 100; ++L) operators.next(L, L % 2 == 0);
  CHECK(operators.held() == RidgeOperators::kMost);
  CHECK(operators.first(5).storage() != first.storage());  // dropped, and made again to the same numbers
  CHECK(operators.first(5).to_vector() == first.to_vector());
  for (const bool uniform : {false, true}) {
    const Contraction c = contraction(basis, 16, .75, 7, .5, true);
    const RidgeOperators::Next next = operators.next(7, uniform);
    CHECK(test::relative_error(next.G_new.to_vector(), c.G_new) <= (kDouble ? 0 : 1e-7));
    CHECK(test::relative_error(next.G_old_or_A.to_vector(), uniform ? c.A : c.G_old) <= (kDouble ? 0 : 1e-7));
  }
}

TEST_CASE("sizes that the BLAS cannot count are refused before anything is touched", "[bounds]") {
  const int64_t large = int64_t(1) << 31;
  for (int field = 0; field < 3; ++field) {
    Gemm g{};
    g.m = field == 0 ? large : 1, g.n = field == 1 ? large : 1, g.k = field == 2 ? large : 1;
    g.lda = g.k, g.ldb = g.n, g.ldc = g.n, g.batch = 1, g.alpha = 1;
    CHECK_THROWS_WITH(on(Device::cpu).gemm(nullptr, nullptr, nullptr, g),
                      Contains("[gemm] the BLAS counts in 32 bits"));
  }
}

TEST_CASE("what is thrown in a parallel loop is thrown where it was called", "[bounds]") {
  for (const int threads : {1, 2, 5}) {
    const auto loop = [&](int64_t bad) {
      std::vector<int> times(20);
      cpu::parallel_items(20, threads, [&](int64_t i, int thread) {
        if (i == bad || thread < 0 || thread >= threads) throw Error("body");
        ++times[size_t(i)];
      });
      CHECK(times == std::vector<int>(20, 1));
    };
    CHECK_NOTHROW(loop(-1));
    CHECK_THROWS_WITH(loop(0), "body");
    CHECK_THROWS_WITH(loop(19), "body");
  }
  CHECK_THROWS_WITH(cpu::parallel_for(1 << 20, 8,
                                      [](int64_t begin, int64_t) {
                                        if (begin > 0 || omp_get_max_threads() == 1) throw Error("piece");
                                      }),
                    "piece");
}

#if !defined(__SANITIZE_ADDRESS__)  // which reserves terabytes
TEST_CASE("a parallel loop that gets no memory throws, it does not end the program", "[bounds]") {
  const int64_t N = 4 << 20, n = 4;
  const Tensor r({n, N}, Device::cpu), mu_sigma2 = full({2, n}, real(.5), Device::cpu), a = zeros({N}, Device::cpu),
                                       b = full({N}, 1, Device::cpu);
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  rlimit limit = before;
  limit.rlim_cur = rlim_t(pages * sysconf(_SC_PAGESIZE)) + (8 << 20);  // a row of expectations takes 96 MiB
  REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
  bool thrown = false;
  try {
    on(Device::cpu)
        .basis_expectation(r.data(), mu_sigma2.data(), {BasisKind::gaussian, N, a.data(), b.data()},
                           DensityKind::gaussian, n);
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  CHECK(thrown);
}
#endif

TEST_CASE("the table of kernels that somebody holds stays as it was", "[bounds]") {
  const Backend& plain = backend(Device::cpu);
  const auto plain_fill = plain.kernels.fill;
  profile_kernels(true);
  const Backend& timed = backend(Device::cpu);
  const auto timed_fill = timed.kernels.fill;
  CHECK(timed_fill != plain_fill);
  for (Device device : test::devices()) backend(device);  // another device's table is another table
  CHECK(timed.kernels.fill == timed_fill);
  CHECK(&backend(Device::cpu) == &timed);
  profile_kernels(false);
  CHECK(&backend(Device::cpu) == &plain);
  CHECK(plain.kernels.fill == plain_fill);
  real x = 0;
  timed.kernels.fill(&x, 3, 1);  // of the device it was made for, and still at work
  CHECK(x == 3);
}

TEST_CASE("tokens are checked on every device", "[bounds]") {
  for (Device device : test::devices()) {
    CAPTURE(name(device));
    const Variable table = zeros({3, 2}, device), logits = zeros({2, 3}, device);
    CHECK_NOTHROW(embedding(Tokens::from({0, 2}, {1, 2}, device), table, 1));
    CHECK_THROWS_WITH(embedding(Tokens::from({0, 3}, {1, 2}, device), table, 1),
                      "[embedding] token 3 at position 1 is outside the vocabulary of 3");
    CHECK_THROWS_WITH(embedding(Tokens::from({-1, 0}, {1, 2}, device), table, 1), Contains("token -1 at position 0"));
    CHECK_NOTHROW(cross_entropy(logits, Tokens::from({-1, 2}, {2}, device), 1));
    CHECK_THROWS_WITH(cross_entropy(logits, Tokens::from({0, 3}, {2}, device), 1),
                      Contains("[cross_entropy] target 3 at position 1"));
  }
}

}  // namespace
}  // namespace lem
