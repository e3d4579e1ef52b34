// The exponential that the compiler vectorises, against the library's.
#include "tensor/cpu/simd.h"

#include <cmath>
#include <limits>

#include "tests/catch.h"
#include "tests/numeric.h"

namespace lem {
namespace {

/// The distance of `got` from `exact` in units of the last place of `exact`'s own format.
template <class T>
double ulps(T got, long double exact) {
  const T nearest = static_cast<T>(exact);
  const long double unit =
      std::nextafter(nearest, std::numeric_limits<T>::infinity()) - static_cast<long double>(nearest);
  return double(std::abs(static_cast<long double>(got) - exact) / unit);
}

template <class T>
void check_exp(T lowest, T highest, T smallest_normal_log) {
  constexpr T infinity = std::numeric_limits<T>::infinity(), tiny = std::numeric_limits<T>::denorm_min();
  constexpr int kSteps = 400001;
  test::Largest worst;
  for (int i = 0; i < kSteps; ++i) {
    const T x = lowest + (highest - lowest) * T(i) / T(kSteps - 1);
    worst.add(ulps(cpu::exp(x), std::exp(static_cast<long double>(x))));
  }
  for (T x = highest; x > tiny; x /= T(1.37))  // ever closer to zero, from both sides, down to denormal numbers
    for (T signed_x : {x, -x})
      if (signed_x >= lowest) worst.add(ulps(cpu::exp(signed_x), std::exp(static_cast<long double>(signed_x))));
  CHECK(worst.value <= 2);

  CHECK(cpu::exp(T(0)) == 1);
  CHECK(cpu::exp(T(-0.0)) == 1);
  CHECK(cpu::exp(tiny) == 1);
  CHECK(cpu::exp(-tiny) == 1);
  CHECK(std::isnan(cpu::exp(std::numeric_limits<T>::quiet_NaN())));
  CHECK(std::isnan(cpu::exp(-std::numeric_limits<T>::quiet_NaN())));

  // Below the range: 0, never denormal, never garbage.
  for (T x : {std::nextafter(lowest, -infinity), smallest_normal_log, 2 * lowest, T(-1e30),
              -std::numeric_limits<T>::max(), -infinity})
    CHECK(cpu::exp(x) == 0);
  // Above it: the value at its end, so that nothing downstream overflows.
  for (T x : {std::nextafter(highest, infinity), 2 * highest, T(1e30), std::numeric_limits<T>::max(), infinity})
    CHECK(cpu::exp(x) == cpu::exp(highest));
}

TEST_CASE("exp in float is right to two units in the last place", "[simd]") { check_exp<float>(-87, 88, -87.34f); }
TEST_CASE("exp in double is right to two units in the last place", "[simd]") { check_exp<double>(-708, 709, -708.4); }

TEST_CASE("exp grows with its argument", "[simd]") {
  float before = 0;
  for (int i = -8700000; i <= 8800000; i += 37) {
    const float y = cpu::exp(float(i) * 1e-5f);
    REQUIRE(y >= before * (1 - 1e-6f));
    before = y;
  }
}

TEST_CASE("sigmoid stays in [0, 1] and is symmetric", "[simd]") {
  for (int i = -1000; i <= 1000; ++i) {
    const real x = real(i) / 10, y = cpu::sigmoid(x);
    REQUIRE((y >= 0 && y <= 1));
    REQUIRE(double(y) == Approx(1 / (1 + std::exp(-double(x)))).epsilon(kDouble ? 1e-14 : 1e-6).margin(1e-37));
    REQUIRE(double(y + cpu::sigmoid(-x)) == Approx(1).epsilon(1e-6));
  }
  CHECK(cpu::sigmoid(std::numeric_limits<real>::infinity()) == 1);
  CHECK(std::isnan(cpu::sigmoid(std::numeric_limits<real>::quiet_NaN())));
}

}  // namespace
}  // namespace lem
