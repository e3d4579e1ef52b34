// Bases and what is read through them, and sticky memories, held against their plain loops.
#include "tests/kernel_table_basis.h"
#include "tests/naive_continuous.h"

namespace lem::test {
namespace {

constexpr BasisKind kBases[] = {BasisKind::gaussian, BasisKind::power, BasisKind::sine, BasisKind::cosine,
                                BasisKind::rectangle};
constexpr DensityKind kDensities[] = {DensityKind::gaussian, DensityKind::truncated_gaussian, DensityKind::parabola};

/// Functions and values are of order one: what is left of one in a far tail, and the gradient of a constant, which is
/// truly zero, are judged against that.
constexpr double kMagnitude = 1;

struct Size {
  int64_t B, T, H, D, N;
};

void add_basis_evaluate(std::vector<KernelCase>& table, BasisKind kind, int64_t n, int64_t N) {
  table.push_back({"basis_evaluate", fmt::format("basis {}, n {}, N {}", int(kind), n, N), [=](KernelCall& c) {
                     // Points inside [0, 1], and both ends.
                     const auto points = [](const Stream& s, uint64_t i) {
                       return i == 1 || i == 2 ? 2 - double(i) : s.uniform(i);
                     };
                     const Reals psi = c.output("psi", n * N), t = c.input("t", n, points);
                     const CallBasis basis = make_basis(c, kind, N);
                     on(c.device).basis_evaluate(psi, t, basis, n);
                     c.expect(psi, naive::basis_evaluate(t.doubles(), basis.on_host()));
                   }});
}

/// With the variances that models have, or with all from the smallest they may have up to that of a flat density.
void add_basis_expectation(std::vector<KernelCase>& table, BasisKind kind, DensityKind density, int64_t n, int64_t N,
                           bool all_variances = false) {
  const auto draw = [n](const Stream& s, uint64_t i) {
    return int64_t(i) < n ? s.uniform(i) : std::pow(10, -6 * s.uniform(i));
  };
  table.push_back({"basis_expectation",
                   fmt::format("basis {}, density {}, n {}, N {}{}", int(kind), int(density), n, N,
                               all_variances ? ", all variances" : ""),
                   [=](KernelCall& c) {
                     const Reals r = c.output("r", n * N),
                                 d = c.input("density", 2 * n, all_variances ? draw : location_and_variance(n));
                     const CallBasis basis = make_basis(c, kind, N);
                     on(c.device).basis_expectation(r, d, basis, density, n);
                     c.expect(r, naive::basis_expectation(d.doubles(), basis.on_host(), density), kMagnitude);
                   }});
}

void add_continuous_attention(std::vector<KernelCase>& table, BasisKind kind, DensityKind density, const Size& size) {
  const auto [B, T, H, D, N] = size;
  const std::string options =
      fmt::format("basis {}, density {}, B {}, T {}, H {}, D {}, N {}", int(kind), int(density), B, T, H, D, N);
  const int64_t n = B * H * T, queries = n * D, functions = B * N * H * D;
  const ContinuousAttention s{B, T, H, D, density};
  table.push_back(
      {"continuous_attention_forward", options,
       [=, N = N](KernelCall& c) {
         const Reals z = c.output("z", queries), d = c.input("density", 2 * n, location_and_variance(n)),
                     v = c.input("values", functions);
         const CallBasis basis = make_basis(c, kind, N);
         on(c.device).continuous_attention_forward(z, d, v, basis, s);
         if (!c.judged) return;
         c.expect(z, naive::continuous_attention_forward({s, basis.on_host(), d.doubles(), v.doubles()}), kMagnitude);
       },
       false});
  table.push_back({"continuous_attention_backward", options,
                   [=, N = N](KernelCall& c) {
                     const Reals dd = c.output("ddensity", 2 * n), dv = c.output("dvalues", functions),
                                 dz = c.input("dz", queries), v = c.input("values", functions),
                                 d = c.input("density", 2 * n, location_and_variance(n));
                     const CallBasis basis = make_basis(c, kind, N);
                     on(c.device).continuous_attention_backward(dd, dv, dz, d, v, basis, s);
                     if (!c.judged) return;
                     const auto g = naive::continuous_attention_backward(
                         dz.doubles(), {s, basis.on_host(), d.doubles(), v.doubles()});
                     c.expect(dd, g.ddensity, kMagnitude);
                     c.expect(dv, g.dvalues, kMagnitude);
                   },
                   false});
}

// ---- sticky memories

void add_sticky_histogram(std::vector<KernelCase>& table, int64_t B, int64_t n, int64_t bins) {
  table.push_back({"sticky_histogram", fmt::format("B {}, n {}, bins {}", B, n, bins), [=](KernelCall& c) {
                     const Reals mass = c.output("mass", B * bins),
                                 d = c.input("density", 2 * B * n, location_and_variance(B * n));
                     on(c.device).sticky_histogram(mass, d, B, n, bins);
                     if (!c.judged) return;
                     c.expect(mass, naive::sticky_histogram(d.doubles(), B, n, bins));
                   }});
}

/// Masses are small integers, some of them 0: their sums are exact, so that no rounding moves a draw to the next bin.
/// One of the first row's is `one_mass`, all of them if that is 0.
void add_sticky_points(std::vector<KernelCase>& table, int64_t B, int64_t bins, int64_t R, StickyDraw draw,
                       StickyPlace place, double one_mass) {
  const std::string options =
      fmt::format("B {}, bins {}, R {}, draw {}, place {}, one mass {}", B, bins, R, int(draw), int(place), one_mass);
  const auto some_mass = [=](const Stream& s, uint64_t i) {
    if (int64_t(i) == bins / 2 || (int64_t(i) < bins && one_mass == 0)) return one_mass;
    return i % 3 == 1 ? 0.0 : 1 + s.bits(i) % 4;
  };
  table.push_back({"sticky_points", options, [=](KernelCall& c) {
                     const Reals points = c.output("points", B * R), mass = c.input("mass", B * bins, some_mass);
                     const Ints fallbacks = c.int_output("fallbacks", B);
                     std::vector<Stream> streams;
                     for (int64_t b = 0; b < B; ++b)
                       streams.push_back({0x123456789abcdef0 + uint64_t(b), 0xfedcba9876543210});
                     const Streams on_device = Streams::from(streams, {B}, c.device);
                     on(c.device).sticky_points(points, fallbacks, mass, draw, place, on_device.data(), B, bins, R);
                     const auto y = naive::sticky_points(mass.doubles(), draw, place, streams, bins, R);
                     c.expect(points, y.points);
                     c.expect(fallbacks, [&](int64_t b) { return y.fallbacks[size_t(b)]; });
                   }});
}

}  // namespace

void add_continuous_kernels(std::vector<KernelCase>& table) {
  for (BasisKind basis : kBases) {
    for (const auto& [n, N] : {std::pair<int64_t, int64_t>{1, 1}, {33, 31}, {257, 8}, {32, 257}, {512, 64}, {1000, 33}})
      add_basis_evaluate(table, basis, n, N);
    for (DensityKind density : kDensities) {
      for (const auto& [n, N] : {std::pair<int64_t, int64_t>{1, 1}, {33, 31}, {257, 8}, {32, 64}})
        add_basis_expectation(table, basis, density, n, N);
      add_basis_expectation(table, basis, density, 200, 31, true);
      for (const Size& size : {Size{1, 1, 1, 1, 1}, {2, 33, 3, 5, 31}, {1, 257, 2, 4, 8}, {1, 64, 2, 16, 64}})
        add_continuous_attention(table, basis, density, size);
    }
  }
  for (const auto& [B, n, bins] :
       {std::array<int64_t, 3>{1, 1, 1}, {3, 33, 128}, {2, 500, 31}, {1, 1, 1000}, {2, 257, 33}})
    add_sticky_histogram(table, B, n, bins);
  for (StickyDraw draw : {StickyDraw::stratified, StickyDraw::multinomial})
    for (StickyPlace place : {StickyPlace::left, StickyPlace::centre, StickyPlace::uniform})
      for (const auto& [B, bins, R] :
           {std::array<int64_t, 3>{1, 1, 1}, {3, 128, 257}, {2, 31, 32}, {2, 33, 1000}, {1, 1000, 31}, {16, 128, 256}})
        for (double one_mass : {1.0, 0.0, double(NAN), double(INFINITY)})
          if (one_mass == 1 || B == 3) add_sticky_points(table, B, bins, R, draw, place, one_mass);

  const size_t small = table.size();
  // The models' own: the demo, and the paper's heads; and a long segment.
  for (const Size& size : {Size{16, 64, 4, 16, 64}, {1, 64, 6, 50, 512}, {1, 1000, 1, 3, 32}})
    add_continuous_attention(table, BasisKind::gaussian, DensityKind::gaussian, size);
  add_sticky_histogram(table, 16, 256, 128);
  add_sticky_histogram(table, 1, 1000, 257);
  mark_large(table, small);
}

}  // namespace lem::test
