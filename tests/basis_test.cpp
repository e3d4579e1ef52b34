#include "nn/basis.h"

#include "tensor/error.h"
#include "tests/catch.h"
#include "tests/numeric.h"

using namespace lem;
using Catch::Contains;

TEST_CASE("Gaussians: centres crossed with widths", "[basis]") {
  const Basis basis = make_basis(BasisKind::gaussian, 6, {.01, .05});
  CHECK(basis.size() == 6);
  CHECK(basis.a == std::vector<double>{0, 0, .5, .5, 1, 1});
  CHECK(basis.b == std::vector<double>{.01, .05, .01, .05, .01, .05});
  CHECK(basis.evaluate(2, .5) == Approx(39.894228040143268));
  CHECK(basis.evaluate(3, .45) == Approx(4.8394144903828673));
  // One centre stands where linspace(0, 1, 1) puts it.
  CHECK(make_basis(BasisKind::gaussian, 2, {.01, .05}).a == std::vector<double>{0, 0});
  for (int64_t j = 0; j < 6; ++j) {
    long double mass = 0;
    test::for_each_node(-1, 2, 3000,
                        [&](long double t, long double weight) { mass += weight * basis.evaluate(j, double(t)); });
    CHECK(double(mass) == Approx(1).epsilon(1e-9));
  }
}

TEST_CASE("the other bases", "[basis]") {
  const double pi = 3.14159265358979323846;
  CHECK(make_basis(BasisKind::power, 4).evaluate(.5) == std::vector<double>{1, .5, .25, .125});
  CHECK(make_basis(BasisKind::power, 3).evaluate(0) == std::vector<double>{1, 0, 0});
  const Basis sine = make_basis(BasisKind::sine, 3), cosine = make_basis(BasisKind::cosine, 3);
  for (double t : {0.0, .25, 1.0})
    for (int64_t j = 0; j < 3; ++j) {
      CHECK(sine.evaluate(j, t) == Approx(std::sin(pi * double(j + 1) * t)).margin(1e-15));
      CHECK(cosine.evaluate(j, t) == Approx(std::cos(pi * double(j) * t)).margin(1e-15));
    }
  const Basis boxes = make_basis(BasisKind::rectangle, 4);
  for (double t : {0.0, .1, .25, .6, .99, 1.0}) {  // exactly one box holds a point of [0, 1]
    const std::vector<double> psi = boxes.evaluate(t);
    for (int64_t j = 0; j < 4; ++j) CHECK(psi[j] == (j == std::min(int64_t(4 * t), int64_t(3))));
  }
  for (double t : {-1e-9, 1 + 1e-9}) CHECK(boxes.evaluate(t) == std::vector<double>(4));
}

TEST_CASE("what makes no basis says so", "[basis]") {
  CHECK_THROWS_WITH(make_basis(BasisKind::gaussian, 7, {.01, .05}),
                    Contains("multiple of the number of widths") && Contains("N = 7") && Contains("6 or 8"));
  CHECK_THROWS_WITH(make_basis(BasisKind::gaussian, 1, {.01, .05}), Contains("take N = 2"));
  CHECK_THROWS_WITH(make_basis(BasisKind::gaussian, 8), Contains("widths"));
  CHECK_THROWS_WITH(make_basis(BasisKind::gaussian, 8, {.01, -.05}), Contains("positive") && Contains("-0.05"));
  CHECK_THROWS_WITH(make_basis(BasisKind::gaussian, 8, {NAN}), Contains("positive"));
  CHECK_THROWS_WITH(make_basis(BasisKind::sine, 0), Contains("N = 0"));
  CHECK_THROWS_WITH(make_basis(BasisKind::sine, 4, {.1}), Contains("only Gaussians have widths"));
}
