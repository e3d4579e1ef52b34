// What every device computes in the CPU's very bits: random numbers, and what is drawn with them.
#include <cmath>

#include "tests/catch.h"
#include "tests/kernel_check.h"

namespace lem::test {
namespace {

constexpr Stream kStreams[] = {{0, 0},
                               {42, uint64_t(1) << 32},  // as training's dropout
                               {0x123456789abcdef0, 0xfedcba9876543210},
                               {~uint64_t(0), ~uint64_t(0)}};

TEST_CASE("dropout masks are the same on every device", "[device]") {
  constexpr int64_t rows = 33, cols = 1000;
  for (Device device : devices())
    for (const Stream& stream : kStreams)
      for (const auto& [p, first] :
           {std::pair{real(0.1), uint64_t(0)}, {real(0.5), uint64_t(6)}, {real(0.5), (uint64_t(1) << 40) + 3}}) {
        const Tensor x = full({rows, cols}, 1, device), y(x.shape(), device);
        on(device).bias_act_forward(y.data(), x.data(), nullptr, Activation::identity, {p, stream, first}, rows, cols);
        const std::vector<real> got = y.to_vector();
        int64_t wrong = 0;
        for (size_t i = 0; i < got.size(); ++i) wrong += (got[i] != 0) != (stream.uniform(first + i) >= double(p));
        INFO(name(device) << ", seed " << stream.seed << ", stream " << stream.stream << ", p = " << p
                          << ", first draw " << first);
        CHECK(wrong == 0);
      }
}

// A value that is not finite must reach the loss, where the trainer looks for it, on every device.
TEST_CASE("NaN passes through every activation", "[device]") {
  for (Device device : devices())
    for (Activation act : {Activation::identity, Activation::relu, Activation::gelu}) {
      INFO(name(device) << ", activation " << int(act));
      const Tensor x = Tensor::from(std::vector<real>(9, NAN), {1, 9}, device), y(x.shape(), device);
      on(device).bias_act_forward(y.data(), x.data(), nullptr, act, {}, 1, 9);
      for (real v : y.to_vector()) CHECK(std::isnan(v));
    }
}

TEST_CASE("sticky points are the same on every device", "[device][sticky]") {
  constexpr int64_t B = 3, bins = 129, R = 257;
  const auto points = [](Device device, StickyDraw draw, StickyPlace place, const Stream& stream) {
    KernelCall c(device);
    const Reals points = c.output("points", B * R), mass = c.input("mass", B * bins, between(0, 1));
    const Streams streams = Streams::from({stream, {stream.seed, 7}, {8, stream.stream}}, {B}, device);
    on(device).sticky_points(points, c.int_output("fallbacks", B), mass, draw, place, streams.data(), B, bins, R);
    CHECK(c.finish() == "");
    return c.output_bytes();
  };
  for (Device device : devices())
    for (const Stream& stream : kStreams)
      for (StickyDraw draw : {StickyDraw::stratified, StickyDraw::multinomial})
        for (StickyPlace place : {StickyPlace::left, StickyPlace::centre, StickyPlace::uniform}) {
          INFO(name(device) << ", draw " << int(draw) << ", place " << int(place));
          CHECK(points(device, draw, place, stream) == points(Device::cpu, draw, place, stream));
        }
}

}  // namespace
}  // namespace lem::test
