// Variables, the tape, and what they say when they are used wrongly.
#include <cmath>

#include "autograd/ops.h"
#include "tensor/pool.h"
#include "tests/catch.h"

namespace lem {
namespace {

using Catch::Contains;
constexpr Device kDevice = Device::cpu;
using Reals = std::vector<real>;

Variable leaf(const Reals& values) { return Variable::leaf(Tensor::from(values, {int64_t(values.size())}, kDevice)); }
Variable sum(const Variable& x) { return weighted_sum(x, full(x.shape(), 1, kDevice)); }
Reals grad(const Variable& x) { return x.grad().to_vector(); }

// ---- gradients

TEST_CASE("a value used twice gets both gradients", "[tape]") {
  const Variable x = leaf({1, 2, 3});
  const Variable y = scale(x, 2);
  backward(sum(add(scale(y, 5), add(y, y))));
  CHECK(grad(x) == Reals{14, 14, 14});
}

TEST_CASE("gradients of leaves add up over two backwards, and the tape starts anew", "[tape]") {
  const Variable x = leaf({1, 2});
  backward(sum(scale(x, 3)));
  CHECK(tape().size() == 0);
  CHECK(grad(x) == Reals{3, 3});
  const real* const where = x.grad().data();
  backward(sum(scale(x, 4)));
  CHECK(grad(x) == Reals{7, 7});
  CHECK(x.grad().data() == where);  // in place: an optimiser holds on to it
}

TEST_CASE("a gradient with a place of its own gathers there", "[tape]") {
  const Tensor arena = full({4}, 10, kDevice);
  const Variable x(Tensor::from({1, 2}, {2}, kDevice), std::make_shared<Gradient>(arena.slice(1, 3)));
  backward(sum(scale(x, 3)));
  CHECK(arena.to_vector() == Reals{10, 13, 13, 10});
}

TEST_CASE("a branch that the loss does not use costs and changes nothing", "[tape]") {
  const Variable x = leaf({1, 2}), y = leaf({3, 4});
  const Variable unused = sigmoid_gate(x, y), dead_end = scale(unused, 7);
  backward(sum(scale(x, 2)));
  CHECK(grad(x) == Reals{2, 2});
  CHECK_FALSE(y.slot()->made());
  CHECK_THROWS_WITH(y.grad(), Contains("[grad] this gradient was never made: call backward()"));
  CHECK(tape().size() == 0);
}

TEST_CASE("constants and detached values get no gradient", "[tape]") {
  const Variable x = leaf({1, 2}), constant(Tensor::from({5, 5}, {2}, kDevice));
  const Variable y = scale(x, 2);
  backward(sum(add(add(y.detach(), x), constant)));
  CHECK(grad(x) == Reals{1, 1});
  CHECK_FALSE(y.detach().needs_grad());
  CHECK(y.detach().data() == y.data());
  CHECK_THROWS_WITH(constant.grad(), Contains("[grad] this value wants no gradient: it is a constant"));
  CHECK_THROWS_WITH(y.grad(), Contains("never made"));  // only leaves keep theirs
}

// ---- misuse

TEST_CASE("a second backward is a clear error", "[tape]") {
  const Variable x = leaf({1, 2});
  const Variable loss = sum(scale(x, 3));
  backward(loss);
  CHECK_THROWS_WITH(backward(loss), Contains("[backward] the tape no longer holds this loss") &&
                                        Contains("backward was already called"));
  CHECK(grad(x) == Reals{3, 3});  // untouched by the attempt
}

TEST_CASE("backward wants one number that depends on something", "[tape]") {
  const Variable x = leaf({1, 2});
  CHECK_THROWS_WITH(backward(scale(x, 3)), "[backward] needs a loss of one element: got shape (2)");
  CHECK_THROWS_WITH(backward(Variable(full({1}, 1, kDevice))),
                    Contains("[backward] this loss depends on no parameter"));
  CHECK_THROWS_WITH(backward(leaf({1})), Contains("[backward] the tape no longer holds this loss"));
  tape().clear();
}

TEST_CASE("a gradient of the wrong shape is refused", "[tape]") {
  Gradient g({2, 3}, kDevice);
  CHECK_THROWS_WITH(g.add(zeros({3, 2}, kDevice)), "[grad] gradient has shape (3, 2), its value (2, 3)");
  CHECK_THROWS_WITH(g.value(), Contains("never made"));
}

TEST_CASE("nothing is recorded under NoGrad, to any depth", "[tape]") {
  const Variable x = leaf({1, 2});
  {
    const NoGrad outer;
    {
      const NoGrad inner;
      CHECK_FALSE(scale(x, 2).needs_grad());
    }
    CHECK_FALSE(tape().recording);
    CHECK_THROWS_WITH(backward(sum(x)), Contains("under NoGrad"));
  }
  CHECK(tape().recording);
  CHECK(tape().size() == 0);
  CHECK(scale(x, 2).needs_grad());
  CHECK(tape().size() == 1);
  tape().clear();
}

TEST_CASE("inputs on different devices are refused by name", "[tape]") {
  if (simt::backend() == nullptr) {
    CHECK_THROWS_WITH(Variable::leaf(zeros({2}, Device::simt)), Contains(simt::absence()));
    return;
  }
  const Variable here = leaf({1, 2}), there = Variable::leaf(zeros({2}, Device::simt));
  CHECK_THROWS_WITH(add(here, there), "[add] inputs are on different devices: cpu and simt; move them with to()");
  CHECK_THROWS_WITH(weighted_sum(here, there.value()), Contains("[weighted_sum] inputs are on different devices"));
}

// ---- who made the NaN?

/// detect_anomaly while it lives.
struct Detecting {
  Detecting() { tape().detect_anomaly = true; }
  ~Detecting() {
    tape().detect_anomaly = false;
    tape().clear();
  }
};

/// x itself; its gradient becomes NaN on the way back.
Variable spoil_backward(const Variable& x) {
  const Variable y = scale(x, 1);
  Variable z = result("spoil_backward", x.shape(), {&y});
  z.value().copy_from(y.value());
  return tape().record("spoil_backward", z,
                       [gy = y.slot()](const Tensor& dz) { gy->add(full(dz.shape(), real(NAN), kDevice)); });
}

TEST_CASE("the first operation that makes a NaN is named, with its place in the model", "[tape]") {
  const Variable x = leaf({1, real(INFINITY)});
  CHECK_NOTHROW(scale(scale(x, 0), 2));  // 0 · ∞: nobody looks
  tape().clear();
  const Detecting on;
  const NameScope model("layers.1");
  const Variable y = [&] {
    const NameScope inner("attention");
    return leaf({1, 2});
  }();
  CHECK_THROWS_WITH(scale(x, 0),
                    "[anomaly] layers.1 / scale made 1 values that are not finite, of 2 in its result (2)");
  CHECK_NOTHROW(scale(y, 2));
}

TEST_CASE("the first backward that makes a NaN is named, with its place in the model", "[tape]") {
  const Detecting on;
  const Variable x = leaf({1, 2});
  Variable y;
  {
    const NameScope outer("layers.0");
    const NameScope inner("feed_forward");
    y = spoil_backward(scale(x, 2));
  }
  const Variable loss = sum(scale(y, 3));
  CHECK_THROWS_WITH(backward(loss),
                    "[anomaly] backward of layers.0 / feed_forward / spoil_backward made 2 values that are not finite, "
                    "in a gradient of shape (2)");
  CHECK_FALSE(x.slot()->made());  // it went no further
}

TEST_CASE("after an anomaly the next step starts clean", "[tape]") {
  const Variable x = leaf({1, 2});
  {
    const Detecting on;
    CHECK_THROWS(backward(sum(spoil_backward(x))));
    CHECK(tape().size() == 0);
  }
  backward(sum(scale(x, 3)));
  CHECK(grad(x) == Reals{3, 3});
}

TEST_CASE("a NaN that was found only on the way back is named although nobody looked before", "[tape]") {
  const Variable x = leaf({1, 2});
  const Variable loss = sum(spoil_backward(x));
  const Detecting on;  // switched on between forward and backward
  CHECK_THROWS_WITH(backward(loss), Contains("backward of spoil_backward made 2 values"));
}

// ---- activations die early

/// Bytes in use when backward reaches the first operation of a chain of `n`, beyond those before the chain was made.
size_t bytes_at_the_end_of_backward(int n, bool keep) {
  constexpr int64_t kSize = 1 << 16;
  const Variable x = Variable::leaf(full({kSize}, real(0.5), kDevice));
  const size_t before = pool_counters(kDevice).in_use;
  size_t at_end = 0;
  Variable y = result("probe", x.shape(), {&x});
  y.value().copy_from(x.value());
  tape().record("probe", y, [&at_end, gx = x.slot()](const Tensor& dy) {
    at_end = pool_counters(kDevice).in_use;
    gx->add(dy);
  });
  std::vector<Variable> kept;
  for (int i = 0; i < n; ++i) {
    y = bias_act(y, {}, Activation::gelu);  // backward needs its input
    if (keep) kept.push_back(y);
  }
  const Variable loss = sum(y);
  y = Variable();
  CHECK(pool_counters(kDevice).in_use - before > size_t(n) * kSize * sizeof(real));
  backward(loss);
  return (at_end - before) / (kSize * sizeof(real));
}

TEST_CASE("activations die as the tape is walked", "[tape]") {
  CHECK(bytes_at_the_end_of_backward(20, false) <= 3);  // the gradient that came, and what the allocator rounds
  CHECK(bytes_at_the_end_of_backward(20, true) >= 19);  // planted: someone holds on to them
}

TEST_CASE("backward needs little more memory than forward left behind", "[tape]") {
  constexpr int64_t kSize = 1 << 16;
  Variable y = Variable::leaf(full({kSize}, real(0.5), kDevice));
  for (int i = 0; i < 20; ++i) y = bias_act(y, {}, Activation::gelu);
  const Variable loss = sum(y);
  y = Variable();
  reset_pool_peak(kDevice);
  const size_t forward = pool_counters(kDevice).in_use;
  backward(loss);
  CHECK(pool_counters(kDevice).peak <= forward + 4 * kSize * sizeof(real));
}

}  // namespace
}  // namespace lem
