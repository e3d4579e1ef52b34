// The host's side of the CUDA backend (cuda/backend.cu, cuda/gemm.cu). Most of it on the interpreter alone, which lets
// a test see what a GPU hides: what is queued, who waits, how much memory is left.
#include <numeric>

#include "cuda/device.h"
#include "cuda/simt/stream.h"
#include "tensor/pool.h"
#include "tensor/tensor.h"
#include "tests/catch.h"
#include "tests/kernel_check.h"

namespace lem {
namespace {

using Catch::Contains;
constexpr Device kDevice = Device::simt;
constexpr size_t kMiB = size_t{1} << 20;

/// The stream of all kernels, copies and products. Its work is done when somebody waits for it, and only then.
const ::simt::Stream& queue() { return ::simt::Queues::instance().stream(simt::stream(), "test"); }

Tensor mebibytes(double n) { return Tensor({int64_t(n * double(kMiB) / sizeof(real))}, kDevice); }

// ---- uploads

TEST_CASE("after a small upload the host's memory may be changed at once", "[device]") {
  for (const Device where : test::devices()) {
    CAPTURE(name(where));
    const Backend& device = backend(where);
    const int64_t n = 1000;
    const Tensor x = zeros({16, n}, where);
    device.synchronize();
    const uint64_t done = where == Device::simt ? queue().done : 0;
    std::vector<real> host(n);
    for (int64_t row = 0; row < 16; ++row) {
      std::fill(host.begin(), host.end(), real(row));
      device.upload(x.data() + row * n, host.data(), host.size() * sizeof(real));
    }
    std::fill(host.begin(), host.end(), real(-1));
    if (where == Device::simt) CHECK(queue().done == done);  // nobody waited
    const std::vector<real> got = x.to_vector();
    if (where == Device::simt) CHECK(queue().done == queue().submitted);
    for (int64_t i = 0; i < 16 * n; ++i) REQUIRE(got[size_t(i)] == real(i / n));
  }
}

TEST_CASE("uploads of any size and number arrive in order with the kernels", "[device]") {
  for (const Device where : test::devices()) {
    CAPTURE(name(where));
    const Backend& device = backend(where);
    const int64_t n = (80 << 10) / sizeof(real);  // the largest ones are too large for a slot
    const Tensor x = zeros({n}, where), y = zeros({n}, where);
    std::vector<real> host(size_t(n), 0), now(size_t(n), 0), sum(size_t(n), 0);
    for (int i = 1; i <= 100; ++i) {
      const size_t part = i == 1 ? 0 : i == 2 ? 1 : i == 3 ? size_t(64 << 10) / sizeof(real) : size_t(n * i / 100);
      std::fill(host.begin(), host.end(), real(i));
      device.upload(x.data(), host.data(), part * sizeof(real));
      device.kernels.axpy(y.data(), 1, x.data(), n);
      std::fill_n(now.begin(), part, real(i));
      for (size_t j = 0; j < sum.size(); ++j) sum[j] += now[j];
    }
    CHECK(x.to_vector() == now);
    CHECK(y.to_vector() == sum);
  }
}

// ---- a GPU that this build has no code for

TEST_CASE("a GPU that the build has no code for is named, and what to build", "[device]") {
  CHECK(simt::missing() == "");
  struct NoCode {
    NoCode() { ::simt::set_device_code(false); }
    ~NoCode() { ::simt::set_device_code(true); }
  };
  {
    const NoCode no_code;
    CHECK_THAT(simt::missing(), Contains("no code for this machine's GPU, of compute capability ") &&
                                    Contains("build again with CUDA_ARCHS="));
  }
  CHECK(simt::missing() == "");
  CHECK(cudaGetLastError() == cudaSuccess);
}

// ---- launches

TEST_CASE("steps of all batch rows are one copy", "[device]") {
  const Tensor x = zeros({16, 5, 3}, kDevice), y = zeros({16, 7, 3}, kDevice);
  const uint64_t before = queue().submitted;
  copy_time(y, 2, x, 1, 4);
  CHECK(queue().submitted == before + 1);
}

TEST_CASE("products that add up to one C are two launches, or one by one where memory would be large", "[device]") {
  struct Case {
    int64_t m, n, batch;
    uint64_t launches;
  };
  for (const auto& [m, n, batch, launches] : {Case{65, 31, 8, 2}, {1448, 1448, 8, 2}, {1449, 1449, 8, 8}}) {
    std::vector<real> a(size_t(batch * m)), b(size_t(batch * n)), expected(size_t(m * n));
    for (size_t i = 0; i < a.size(); ++i) a[i] = real(int(i % 7) - 3);
    for (size_t i = 0; i < b.size(); ++i) b[i] = real(int(i % 5) - 2);
    const Tensor A = Tensor::from(a, {batch, m}, kDevice), B = Tensor::from(b, {batch, n}, kDevice);
    const Tensor C = full({m, n}, 4, kDevice);
    Gemm g{.m = m, .n = n, .k = 1, .lda = 1, .ldb = n, .ldc = n};
    g.alpha = 2, g.beta = real(0.5), g.batch = batch, g.stride_a = m, g.stride_b = n;
    reset_pool_peak(kDevice);
    const size_t in_use = pool_counters(kDevice).in_use;
    const uint64_t before = queue().submitted;
    on(kDevice).gemm(C.data(), A.data(), B.data(), g);
    CHECK(queue().submitted == before + launches);
    CHECK(pool_counters(kDevice).peak - in_use <= 64 * kMiB);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        real sum = 2;
        for (int64_t s = 0; s < batch; ++s) sum += 2 * a[size_t(s * m + i)] * b[size_t(s * n + j)];
        expected[size_t(i * n + j)] = sum;
      }
    CHECK(C.to_vector() == expected);
  }
}

// ---- memory

TEST_CASE("a device whose memory is used up says what of, after the cache has been given back", "[device][pool]") {
  pool_trim(kDevice);
  const DeviceMemory start = backend(kDevice).memory();
  struct Limit {
    explicit Limit(size_t bytes) { ::simt::set_device_memory(bytes); }
    ~Limit() { ::simt::set_device_memory(0); }
  } const limit(start.total - start.free + 4 * kMiB);
  const auto mib = [](size_t bytes) { return fmt::format("{:.1f} MiB", double(bytes) / double(kMiB)); };

  // Three pieces lie in the cache (which there is none of with the address sanitizer); the whole fits without them
  // only.
  { const Tensor a = mebibytes(2), b = mebibytes(1); }
  { const Tensor whole = mebibytes(4); }

  const Tensor held = mebibytes(1);
  { const Tensor cached = mebibytes(2); }
  const PoolCounters before = pool_counters(kDevice);
  std::string message;
  try {
    mebibytes(3.5);
  } catch (const Error& e) {
    message = e.what();
  }
  CHECK(message == fmt::format("[memory] simt has no memory left: asked for 3.5 MiB, {} in use, {} were cached and are "
                               "given back, 3.0 MiB of {} free; use a smaller batch or segment",
                               mib(before.in_use), mib(before.cached), mib(backend(kDevice).memory().total)));
  CHECK(pool_counters(kDevice).cached == 0);
  CHECK(pool_counters(kDevice).in_use == before.in_use);

  // What is smaller still fits, and can be computed with.
  const Tensor rest = mebibytes(3);
  on(kDevice).fill(rest.data(), 7, rest.numel());
  CHECK(rest.to_vector().back() == 7);
}

}  // namespace
}  // namespace lem
