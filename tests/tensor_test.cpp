// Shapes, tensors and their views, storages that move into an arena.
#include "tensor/tensor.h"

#include <cmath>

#include "tensor/pool.h"
#include "tests/catch.h"

namespace lem {
namespace {

using Catch::Contains;

Tensor counting(const Shape& shape) {
  std::vector<real> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = real(i);
  return Tensor::from(values, shape);
}

// ---- Shape

TEST_CASE("a shape knows its sizes", "[tensor]") {
  const Shape s{2, 3, 5};
  CHECK(s.rank() == 3);
  CHECK(s.numel() == 30);
  CHECK(s[0] == 2);
  CHECK(s[-1] == 5);
  CHECK(s[-3] == 2);
  CHECK(s.str() == "(2, 3, 5)");
  CHECK(s.vector() == std::vector<int64_t>{2, 3, 5});
  CHECK(s == Shape(std::vector<int64_t>{2, 3, 5}));
  CHECK_FALSE(s == Shape({2, 3}));
  CHECK_FALSE(s == Shape({2, 3, 4}));
  CHECK_FALSE(Shape({1}) == Shape());
  CHECK(Shape().numel() == 1);
  CHECK(Shape().str() == "()");
  CHECK(Shape({3, 0, 2}).numel() == 0);
  CHECK(Shape({1, 2, 3, 4, 5, 6}).rank() == 6);
}

TEST_CASE("a shape refuses what it cannot hold", "[tensor]") {
  CHECK_THROWS_WITH(Shape({1, 2, 3, 4, 5, 6, 7}), "[shape] too many axes: got 7, expected at most 6");
  CHECK_THROWS_WITH(Shape({2, -1}), Contains("[shape] sizes must not be negative") && Contains("axis 1 = -1"));
  const int64_t big = int64_t(1) << 32;
  CHECK_THROWS_WITH(Shape({big, big}), Contains("overflow") && Contains("axis 1 = 4294967296"));
  CHECK(Shape({big, big / 4}).numel() == int64_t(1) << 62);
  const Shape s{2, 3};
  CHECK_THROWS_WITH(s[2], "[shape] no axis 2 in shape (2, 3)");
  CHECK_THROWS_WITH(s[-3], "[shape] no axis -3 in shape (2, 3)");
  CHECK_THROWS_WITH(Shape()[-1], "[shape] no axis -1 in shape ()");
}

TEST_CASE("a tensor too large for any memory is refused, not wrapped around", "[tensor]") {
  CHECK_THROWS_WITH(Tensor(Shape{int64_t(1) << 62}, Device::cpu),
                    Contains("[tensor] shape (4611686018427387904) is larger than any memory"));
}

// ---- views

TEST_CASE("reshape shows the same numbers under another shape", "[tensor]") {
  const Tensor x = counting({2, 6});
  const Tensor y = x.reshape({3, 4});
  CHECK(y.shape() == Shape({3, 4}));
  CHECK(y.data() == x.data());
  CHECK(counting({1}).reshape({}).shape().rank() == 0);
  CHECK(counting({0, 3}).reshape({5, 0}).numel() == 0);
  CHECK_THROWS_WITH(x.reshape({5}), "[reshape] element counts differ: got (5) for (2, 6)");
}

TEST_CASE("slices cut the leading dimension", "[tensor]") {
  const Tensor x = counting({5, 2, 3});
  const Tensor middle = x.slice(1, 4);
  CHECK(middle.shape() == Shape({3, 2, 3}));
  CHECK(middle.data() == x.data() + 6);
  CHECK(middle.slice(1, 2).to_vector() == std::vector<real>{12, 13, 14, 15, 16, 17});
  CHECK(x.slice(0, 5).numel() == 30);
  CHECK(x.slice(5, 5).shape() == Shape({0, 2, 3}));
  CHECK(counting({0, 3}).slice(0, 0).numel() == 0);
  middle.copy_from(zeros({3, 2, 3}, Device::cpu));  // writes through
  CHECK(x.to_vector()[5] == 5);
  CHECK(x.to_vector()[6] == 0);
  CHECK(x.to_vector()[23] == 0);
  CHECK(x.to_vector()[24] == 24);
  for (auto [begin, end] : {std::pair<int64_t, int64_t>{-1, 2}, {3, 2}, {0, 6}, {6, 6}})
    CHECK_THROWS_WITH(x.slice(begin, end), Contains("[slice] rows") && Contains("(5, 2, 3)"));
  CHECK_THROWS_WITH(counting({1}).reshape({}).slice(0, 1), Contains("[slice]"));
}

TEST_CASE("copies are copies, handles are handles", "[tensor]") {
  const Tensor x = counting({4});
  const Tensor same = x, moved = x.to(Device::cpu), copy = x.clone();
  CHECK(same.data() == x.data());
  CHECK(moved.data() == x.data());
  CHECK(copy.data() != x.data());
  copy.copy_from(full({4}, 7, Device::cpu));
  CHECK(x.to_vector() == std::vector<real>{0, 1, 2, 3});
  CHECK(copy.to_vector() == std::vector<real>(4, 7));
  CHECK_THROWS_WITH(x.copy_from(counting({2, 2})), "[copy] shapes differ: got (2, 2), expected (4)");
  CHECK_THROWS_WITH(Tensor::from({1, 2, 3}, {2, 2}), "[tensor] 3 values do not fill shape (2, 2)");
  CHECK_FALSE(Tensor().defined());
  CHECK(Tensor().data() == nullptr);
  CHECK(Tokens::from({3, 1, 2}, {3}).slice(1, 3).to_vector() == std::vector<int32_t>{1, 2});
}

TEST_CASE("one number, and numbers that are none", "[tensor]") {
  CHECK(item(full({1, 1}, 3, Device::cpu)) == 3);
  CHECK_THROWS_WITH(item(counting({2})), "[item] needs a tensor of one element: got shape (2)");
  CHECK(count_nonfinite(counting({33})) == 0);
  CHECK(count_nonfinite(Tensor::from({1, real(NAN), real(INFINITY), real(-INFINITY), 0}, {5})) == 3);
  CHECK(count_nonfinite(counting({0})) == 0);
}

TEST_CASE("time is axis 1", "[tensor]") {
  const Tensor x = counting({2, 3, 2});
  CHECK(slice_time(x, 1, 2).to_vector() == std::vector<real>{2, 3, 4, 5, 8, 9, 10, 11});
  CHECK(slice_time(x, 3, 0).shape() == Shape({2, 0, 2}));
  CHECK_THROWS_WITH(slice_time(x, 2, 2), "[slice_time] steps [2, 4) are not inside axis 1 of (2, 3, 2)");
  CHECK_THROWS_WITH(slice_time(x, -1, 2), Contains("[slice_time]"));
  CHECK_THROWS_WITH(slice_time(counting({3}), 0, 1), Contains("[slice_time]"));
  CHECK_THROWS_WITH(copy_time(x, 2, counting({2, 4, 2}), 0, 2),
                    "[copy_time] 2 steps from step 0 of (2, 4, 2) on cpu do not fit from step 2 into (2, 3, 2) on cpu");
  CHECK_THROWS_WITH(copy_time(x, 0, counting({2, 4, 3}), 0, 2), Contains("[copy_time] shapes differ beyond axis 1"));

  const Tensor a = counting({2, 1, 2});
  CHECK(concat_time(a, x).to_vector() == std::vector<real>{0, 1, 0, 1, 2, 3, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11});
  CHECK(concat_time({}, x).data() == x.data());
  CHECK(concat_time(slice_time(x, 0, 0), x).to_vector() == x.to_vector());
  CHECK(concat_time(counting({0, 2, 3}), counting({0, 1, 3})).shape() == Shape({0, 3, 3}));  // no batch rows
  CHECK_THROWS_WITH(concat_time(counting({2, 1, 3}), x),
                    "[concat_time] shapes differ beyond axis 1: got (2, 1, 3) and (2, 3, 2)");
}

// ---- storage and arenas

TEST_CASE("a storage moves into an arena with all who hold it", "[tensor]") {
  const PoolCounters before = pool_counters(Device::cpu);
  {
    Tensor arena = zeros({64}, Device::cpu);
    const Tensor x = counting({2, 8}), row = x.slice(1, 2), other = counting({4});
    const real* old = x.data();
    x.storage()->move_into(arena.storage(), 16 * sizeof(real));
    CHECK(x.data() != old);
    CHECK(x.data() == arena.data() + 16);
    CHECK(row.data() == arena.data() + 24);
    CHECK(row.to_vector() == std::vector<real>{8, 9, 10, 11, 12, 13, 14, 15});
    CHECK(arena.slice(16, 32).to_vector() == x.to_vector());
    on(Device::cpu).fill(arena.data(), 5, 64);
    CHECK(x.to_vector() == std::vector<real>(16, 5));

    CHECK_THROWS_WITH(x.storage()->move_into(arena.storage(), 0), Contains("[storage]"));  // a second time
    CHECK_THROWS_WITH(other.storage()->move_into(arena.storage(), 61 * sizeof(real)),
                      "[storage] does not fit into the arena");
    CHECK_NOTHROW(other.storage()->move_into(arena.storage(), 60 * sizeof(real)));

    arena = Tensor();  // x still holds it
    CHECK(x.to_vector() == std::vector<real>(16, 5));
  }
  CHECK(pool_counters(Device::cpu).in_use == before.in_use);
}

// ---- devices

TEST_CASE("steps are copied on every device", "[tensor][device]") {
  for (Device device : {Device::cpu, Device::simt, Device::cuda}) {
    if ((device == Device::simt && !simt::backend()) || (device == Device::cuda && !cuda::backend())) continue;
    INFO(name(device));
    const Tensor x = counting({3, 4, 2}).to(device), y = full({3, 5, 2}, -1, device);
    copy_time(y, 1, x, 2, 2);
    CHECK(y.to_vector() == std::vector<real>{-1, -1, 4,  5,  6,  7,  -1, -1, -1, -1,  //
                                             -1, -1, 12, 13, 14, 15, -1, -1, -1, -1,  //
                                             -1, -1, 20, 21, 22, 23, -1, -1, -1, -1});
    copy_time(y, 0, x, 0, 0);
    copy_time(y, 1, x, 0, 4);
    CHECK(slice_time(y, 1, 4).to_vector() == x.to_vector());
    CHECK(concat_time(slice_time(x, 0, 1), slice_time(x, 1, 3)).to_vector() == x.to_vector());
    CHECK(concat_time(x.slice(0, 1), x.slice(2, 3)).to_vector() ==
          std::vector<real>{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23});
    CHECK(x.clone().to_vector() == x.to_vector());
  }
}

TEST_CASE("devices are parsed by name, and a missing one is named", "[tensor]") {
  for (Device device : {Device::cpu, Device::simt, Device::cuda}) CHECK(parse_device(name(device)) == device);
  CHECK_THROWS_WITH(parse_device("gpu"), "[device] unknown device: got \"gpu\", expected cpu, simt or cuda");
  if (simt::backend() == nullptr)
    CHECK_THROWS_WITH(zeros({3}, Device::simt), Contains(simt::absence()) && Contains("--device cpu"));
  if (cuda::backend() == nullptr)
    CHECK_THROWS_WITH(zeros({3}, Device::cuda), fmt::format("[device] cuda cannot be used: {}; --device {}cpu does the "
                                                            "same",
                                                            cuda::absence(), simt::backend() ? "simt or " : ""));
}

}  // namespace
}  // namespace lem
