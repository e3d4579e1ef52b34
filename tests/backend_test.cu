// The host's side of the CUDA backend (cuda/backend.cu, cuda/gemm.cu) on the interpreter, which lets a test see what a
// GPU hides: what is queued, who waits, how much memory is left.
#include <catch2/catch.hpp>
#include <numeric>

#include "cuda/device.h"
#include "cuda/simt/stream.h"
#include "tensor/pool.h"
#include "tensor/tensor.h"

namespace lem {
namespace {

using Catch::Contains;
constexpr Device kDevice = Device::simt;
constexpr size_t kMiB = size_t{1} << 20;

/// The stream of all kernels, copies and products. Its work is done when somebody waits for it, and only then.
const ::simt::Stream& queue() { return ::simt::Queues::instance().stream(simt::stream(), "test"); }

Tensor mebibytes(double n) { return Tensor({int64_t(n * double(kMiB) / sizeof(real))}, kDevice); }

// ---- launches

TEST_CASE("steps of all batch rows are one copy", "[device]") {
  const Tensor x = zeros({16, 5, 3}, kDevice), y = zeros({16, 7, 3}, kDevice);
  const uint64_t before = queue().submitted;
  copy_time(y, 2, x, 1, 4);
  CHECK(queue().submitted == before + 1);
}

}  // namespace
}  // namespace lem
