// Sticky memories: the histogram against exact masses, the sampled points against the histogram.
#include "tensor/backend.h"
#include "tests/catch.h"
#include "tests/naive_continuous.h"
#include "tests/numeric.h"

using namespace lem;
using test::random_fill;

namespace {

using Array = std::vector<real>;

Array histogram(const Array& density, int64_t B, int64_t n, int64_t bins) {
  Array mass(B * bins, real(NAN));
  cpu::sticky_histogram(mass.data(), density.data(), B, n, bins);
  return mass;
}

Array join(Array a, const Array& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Points drawn from one row of masses.
Array points(const Array& mass, StickyDraw draw, StickyPlace place, Stream stream, int64_t R,
             int32_t* fallbacks = nullptr) {
  Array u(R, real(NAN));
  int32_t fallback = -1;
  cpu::sticky_points(u.data(), &fallback, mass.data(), draw, place, &stream, 1, int64_t(mass.size()), R);
  if (fallbacks) *fallbacks = fallback;
  return u;
}

const StickyDraw kDraws[] = {StickyDraw::stratified, StickyDraw::multinomial};
const StickyPlace kPlaces[] = {StickyPlace::left, StickyPlace::centre, StickyPlace::uniform};

}  // namespace

TEST_CASE("the sticky histogram is the exact mass", "[sticky]") {
  const double tolerance = kDouble ? 1e-9 : 2e-6;  // per density
  for (int64_t bins : {1, 7, 128})
    for (double high : {2e-6, 1e-3, .3, 40.0})  // σ from a tenth of a bin to far wider than [0, 1]
      for (int64_t n : {0, 1, 33, 257}) {
        const int64_t B = 3;
        const Array density = join(random_fill(B * n, 1, 0, 1), random_fill(B * n, 2, 1e-6, high));
        const Array mass = histogram(density, B, n, bins);
        const std::vector<double> expected = naive::sticky_histogram({density.begin(), density.end()}, B, n, bins);
        INFO("bins " << bins << ", n " << n << ", sigma2 up to " << high);
        for (size_t k = 0; k < mass.size(); ++k) {
          CHECK(mass[k] >= 0);
          CHECK(std::abs(mass[k] - expected[k]) <= tolerance * double(n));
        }
      }
}

TEST_CASE("densities on the rim of [0, 1] count", "[sticky]") {
  const Array density = {0, 1, real(1e-14), real(1e-14)};  // μ = 0 and 1, σ a tenth of 1e-6
  const Array mass = histogram(density, 1, 2, 4);
  if (kDouble) CHECK((mass[0] == Approx(1) && mass[3] == Approx(1)));  // the outer edges stand 10 σ outside
  CHECK((mass[1] == 0 && mass[2] == 0));
}

TEST_CASE("a NaN density makes the histogram unusable, and that is noticed", "[sticky]") {
  for (size_t at : {0, 3}) {
    Array density = {real(.2), real(.3), real(.01), real(.01)};
    density[at] = real(NAN);
    const Array mass = histogram(density, 1, 2, 8);
    int32_t fallbacks = 0;
    points(mass, StickyDraw::stratified, StickyPlace::left, {1, 2}, 4, &fallbacks);
    CHECK(fallbacks == 1);
  }
}

TEST_CASE("unusable masses give uniform points", "[sticky]") {
  const int64_t R = 5;
  for (real bad : {real(0), real(NAN), real(INFINITY)})
    for (StickyDraw draw : kDraws)
      for (StickyPlace place : kPlaces) {
        // Two rows: the second is in order and not disturbed by the first.
        Array mass(16, 0), u(2 * R, real(NAN));
        mass[3] = bad, mass[12] = 1;
        int32_t fallbacks[2] = {-1, -1};
        const Stream streams[2] = {{1, 2}, {1, 3}};
        cpu::sticky_points(u.data(), fallbacks, mass.data(), draw, place, streams, 2, 8, R);
        CHECK((fallbacks[0] == 1 && fallbacks[1] == 0));
        for (int64_t i = 0; i < R; ++i) {
          CHECK(u[i] == real(double(i + 1) / double(R)));
          CHECK((u[R + i] >= real(.5) && u[R + i] <= real(.625)));
        }
      }
}

TEST_CASE("sampled points follow the histogram", "[sticky]") {
  const int64_t bins = 16, R = 512, runs = 40;
  Array mass = random_fill(bins, 3, 0, 1);
  mass[0] = 0, mass[5] = 0, mass[bins - 1] = 0;  // never to be drawn
  double total = 0;
  for (real m : mass) total += m;
  for (StickyDraw draw : kDraws)
    for (StickyPlace place : kPlaces) {
      INFO("draw " << int(draw) << ", place " << int(place));
      std::vector<double> count(bins), inside(4);
      for (int64_t run = 0; run < runs; ++run) {
        int32_t fallbacks = -1;
        const Array u = points(mass, draw, place, {7, uint64_t(run)}, R, &fallbacks);
        CHECK(fallbacks == 0);
        CHECK(std::is_sorted(u.begin(), u.end()));
        std::vector<int64_t> drawn(bins);
        for (real ui : u) {
          REQUIRE((ui >= 0 && ui <= 1));
          const double x = double(ui) * double(bins);
          const auto k = std::min(int64_t(x), bins - 1);
          const double within = x - double(k);
          if (place == StickyPlace::left) CHECK(within == 0);
          if (place == StickyPlace::centre) CHECK(within == 0.5);
          inside[std::min(int64_t(within * 4), int64_t(3))] += 1;
          drawn[k] += 1;
        }
        for (int64_t k = 0; k < bins; ++k) {
          count[k] += double(drawn[k]);
          // Stratified: a bin's share R p is met to within one draw, every time.
          if (draw == StickyDraw::stratified) CHECK(std::abs(double(drawn[k]) - mass[k] / total * R) < 1 + 1e-9);
        }
      }
      double chi2 = 0;
      for (int64_t k = 0; k < bins; ++k) {
        const double expected = mass[k] / total * double(R * runs);
        if (mass[k] == 0) CHECK(count[k] == 0);
        if (mass[k] > 0) chi2 += std::pow(count[k] - expected, 2) / expected;
      }
      CHECK(chi2 <= 34.5);                                      // 12 degrees of freedom: exceeded once in 2,000
      if (draw == StickyDraw::multinomial) CHECK(chi2 >= 1.9);  // and below that, too
      if (place == StickyPlace::uniform) {
        double spread = 0;
        for (double c : inside) spread += std::pow(c - double(R * runs) / 4, 2) / (double(R * runs) / 4);
        CHECK(spread <= 17.7);  // 3 degrees of freedom
      }
    }
}

TEST_CASE("sampled points depend on the stream and on nothing else", "[sticky]") {
  const Array mass = random_fill(128, 4, 0, 1);
  for (StickyDraw draw : kDraws) {
    const Array first = points(mass, draw, StickyPlace::uniform, {1, 2}, 64);
    CHECK(points(mass, draw, StickyPlace::uniform, {1, 2}, 64) == first);
    CHECK(points(mass, draw, StickyPlace::uniform, {1, 3}, 64) != first);
    CHECK(points(mass, draw, StickyPlace::uniform, {2, 2}, 64) != first);
  }
}

TEST_CASE("a row's points depend on its stream, not on its place among other rows", "[sticky]") {
  const int64_t bins = 128, R = 64;
  const Array masses = random_fill(3 * bins, 5, 0, 1);
  const Stream streams[3] = {{1, 2}, {1, 3}, {4, 2}};
  const auto row = [](const Array& x, int64_t b, int64_t n) {
    return Array(x.begin() + b * n, x.begin() + (b + 1) * n);
  };
  for (StickyDraw draw : kDraws)
    for (StickyPlace place : kPlaces) {
      Array u(3 * R);
      int32_t fallbacks[3];
      cpu::sticky_points(u.data(), fallbacks, masses.data(), draw, place, streams, 3, bins, R);
      for (int64_t b = 0; b < 3; ++b) CHECK(row(u, b, R) == points(row(masses, b, bins), draw, place, streams[b], R));
    }
}

TEST_CASE("one bin with all the mass gets all the points", "[sticky]") {
  for (StickyDraw draw : kDraws)
    for (int64_t k : {0, 3, 7}) {
      Array mass(8, 0);
      mass[k] = real(1e-20);
      for (real u : points(mass, draw, StickyPlace::left, {3, 4}, 9)) CHECK(u == real(k) / 8);
    }
}
