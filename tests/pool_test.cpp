// The caching pool: what it counts, what it gives out again, what it gives back.
#include "tensor/pool.h"

#include <cmath>
#include <thread>

#include "tensor/tensor.h"
#include "tests/catch.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace lem {
namespace {

using Catch::Contains;
constexpr Device kDevice = Device::cpu;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kCaching = false;  // so that the sanitizer sees the end of every buffer
#else
constexpr bool kCaching = true;
#endif

struct Buffer {
  size_t bytes;
  void* p;
  explicit Buffer(size_t bytes) : bytes(bytes), p(pool_allocate(kDevice, bytes)) {}
  ~Buffer() { pool_release(kDevice, p, bytes); }
  Buffer(const Buffer&) = delete;
};

TEST_CASE("the pool counts what is in use, what is cached and the peak", "[pool]") {
  pool_trim(kDevice);
  const PoolCounters start = pool_counters(kDevice);
  CHECK(start.cached == 0);
  reset_pool_peak(kDevice);
  CHECK(pool_counters(kDevice).peak == start.in_use);
  {
    const Buffer a(1 << 20), b(1 << 21);
    CHECK(pool_counters(kDevice).in_use == start.in_use + (3 << 20));
    CHECK(pool_counters(kDevice).cached == 0);
  }
  CHECK(pool_counters(kDevice).in_use == start.in_use);
  CHECK(pool_counters(kDevice).cached == (kCaching ? 3u << 20 : 0));
  CHECK(pool_counters(kDevice).peak == start.in_use + (3 << 20));
  {
    const Buffer again(1 << 20);
    CHECK(pool_counters(kDevice).cached == (kCaching ? 2u << 20 : 0));
  }
  CHECK(pool_counters(kDevice).peak == start.in_use + (3 << 20));
  reset_pool_peak(kDevice);
  CHECK(pool_counters(kDevice).peak == start.in_use);
  pool_trim(kDevice);
  CHECK(pool_counters(kDevice).cached == 0);
  CHECK(pool_counters(kDevice).in_use == start.in_use);
}

TEST_CASE("a freed buffer serves the next one of its size, and no other", "[pool]") {
  if (!kCaching) return;
  pool_trim(kDevice);
  const auto address_of = [](size_t bytes) { return Buffer(bytes).p; };
  for (size_t bytes : {size_t(1), size_t(64), size_t(100), size_t(4096), size_t(16384), size_t(1) << 20}) {
    void* const first = address_of(bytes);
    CHECK(address_of(bytes) == first);
  }
  // Nearly equal sizes share a bucket: powers of two when small, pages when large.
  CHECK(address_of(65) == address_of(128));
  CHECK(address_of(64) != address_of(65));
  CHECK(address_of(20481) == address_of(24576));
  CHECK(address_of(20480) != address_of(20481));
  // What is in use is not given out twice.
  const Buffer a(1000), b(1000);
  CHECK(a.p != b.p);
}

TEST_CASE("buffers are aligned for vectors, whatever their size", "[pool]") {
  for (size_t bytes : {0, 1, 63, 65, 1000, 16383, 16385, 100001}) {
    const Buffer a(bytes);
    REQUIRE(a.p != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(a.p) % 64 == 0);
    std::fill_n(static_cast<char*>(a.p), bytes, 'x');  // the sanitizer watches
  }
}

TEST_CASE("tensors return their memory, and a step of equal sizes allocates nothing new", "[pool]") {
  const auto step = [] {
    const Tensor a = zeros({100, 100}, kDevice), b = a.clone();
    return pool_counters(kDevice).in_use;
  };
  pool_trim(kDevice);
  const size_t start = pool_counters(kDevice).in_use;
  step();
  const size_t cached = pool_counters(kDevice).cached;
  const size_t during = step();
  CHECK(during >= start + 2 * 100 * 100 * sizeof(real));
  CHECK(pool_counters(kDevice).in_use == start);
  CHECK(pool_counters(kDevice).cached == cached);
  // Empty and undefined tensors are tensors too.
  { const Tensor empty({0, 5}, kDevice), undefined; }
  CHECK(pool_counters(kDevice).in_use == start);
}

#if defined(__SANITIZE_ADDRESS__)
TEST_CASE("the address sanitizer sees where a buffer ends", "[pool]") {
  for (size_t bytes : {1, 63, 64, 100, 16385}) {
    const Buffer a(bytes);
    CHECK_FALSE(__asan_address_is_poisoned(static_cast<char*>(a.p) + bytes - 1));
    CHECK(__asan_address_is_poisoned(static_cast<char*>(a.p) + bytes));
  }
}
#endif

#if !defined(__SANITIZE_ADDRESS__)  // which stops the program instead of returning null
TEST_CASE("memory that is not there is asked for twice, then refused in words", "[pool]") {
  { const Buffer cached(1 << 20); }
  const PoolCounters before = pool_counters(kDevice);
  CHECK(before.cached >= size_t(1) << 20);
  CHECK_THROWS_WITH(pool_allocate(kDevice, size_t(1) << 60),
                    Contains("[memory] cpu has no memory left: asked for 1099511627776.0 MiB, ") &&
                        Contains(" MiB in use, ") && Contains(" MiB were cached and are given back; use a smaller"));
  CHECK(pool_counters(kDevice).cached == 0);  // what was cached was given back before the second try
  CHECK(pool_counters(kDevice).in_use == before.in_use);
  CHECK(full({3}, 1, kDevice).to_vector()[2] == 1);  // and life goes on
}
#endif

TEST_CASE("threads may allocate at the same time", "[pool]") {
  const size_t start = pool_counters(kDevice).in_use;
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t, &wrong] {
      for (int i = 0; i < 1000; ++i) {
        const Buffer a(size_t(64 + i % 3 * 1000));
        auto* value = static_cast<volatile int*>(a.p);
        *value = t;
        wrong[size_t(t)] += *value != t;
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(wrong == std::vector<int>(4));
  CHECK(pool_counters(kDevice).in_use == start);
}

}  // namespace
}  // namespace lem
