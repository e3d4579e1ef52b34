// Random numbers: the generator against published vectors, and what is made of its bits.
#include "tensor/random.h"

#include <cmath>
#include <set>
#include <vector>

#include "autograd/ops.h"
#include "tests/catch.h"

namespace lem {
namespace {

using Block = std::array<uint32_t, 4>;

uint64_t join(uint32_t low, uint32_t high) { return uint64_t(high) << 32 | low; }

// Known answers of the authors' own implementation (Random123, kat_vectors): counter, key → output. Our counter's low
// half is the block and its high half the stream, as in cuRAND; the key is the seed.
TEST_CASE("philox4x32-10 gives the published answers", "[random]") {
  struct Answer {
    Block counter;
    std::array<uint32_t, 2> key;
    Block output;
  };
  const uint32_t ones = 0xffffffff;
  const Answer answers[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{ones, ones, ones, ones}, {ones, ones}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},  // digits of π
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Answer& a : answers) {
    const uint64_t block = join(a.counter[0], a.counter[1]), stream = join(a.counter[2], a.counter[3]);
    CHECK(philox4x32(join(a.key[0], a.key[1]), stream, block) == a.output);
  }
}

TEST_CASE("draw i of a stream is word i mod 4 of block i / 4", "[random]") {
  const Stream s{0x123456789abcdef0, 0xfedcba9876543210};
  for (uint64_t i : {uint64_t(0), uint64_t(3), uint64_t(4), uint64_t(1001), uint64_t(1) << 40})
    CHECK(s.bits(i) == philox4x32(s.seed, s.stream, i / 4)[i % 4]);
  CHECK(s.uniform(7) == (s.bits(7) >> 8) / 16777216.0);
}

TEST_CASE("streams are handed out in order, and from a saved place", "[random]") {
  Random random{42};
  const Stream a = random.stream(), b = random.stream();
  CHECK((a.seed == 42 && b.seed == 42 && a.stream == 0 && b.stream == 1));
  Random saved = random;
  CHECK(saved.stream().bits(0) == random.stream().bits(0));
  std::set<uint32_t> first;
  for (uint64_t seed = 0; seed < 32; ++seed)
    for (uint64_t stream = 0; stream < 32; ++stream) first.insert(Stream{seed, stream}.bits(0));
  CHECK(first.size() == 1024);
}

TEST_CASE("every item has random numbers of its own, whatever was handed out before", "[random]") {
  Random random{42};
  const Random before = random.child(7);
  random.stream();
  CHECK((random.child(7).seed == before.seed && before.next == 0));
  std::set<uint64_t> seeds;
  for (uint64_t seed = 0; seed < 32; ++seed)
    for (uint64_t item = 0; item < 32; ++item) seeds.insert(Random{seed}.child(item).seed);
  CHECK(seeds.size() == 1024);
}

TEST_CASE("uniform numbers fill [0, 1) evenly", "[random]") {
  constexpr int kDraws = 1 << 16, kBins = 64;
  for (uint64_t seed : {1, 2, 3}) {
    const Stream s{seed, 9};
    std::vector<double> counts(kBins);
    double product = 0;  // of neighbours: 1/4 if they know nothing of each other
    for (int i = 0; i < kDraws; ++i) {
      const double u = s.uniform(uint64_t(i));
      REQUIRE((u >= 0 && u < 1));
      counts[size_t(u * kBins)] += 1;
      product += u * s.uniform(uint64_t(i) + 1) / kDraws;
    }
    double chi2 = 0;
    for (double c : counts) chi2 += (c - kDraws / kBins) * (c - kDraws / kBins) / (kDraws / kBins);
    CHECK(chi2 < 120);  // 63 degrees of freedom: once in 20,000
    CHECK(chi2 > 25);   // and not too even either
    CHECK(product == Approx(0.25).margin(0.004));
  }
}

TEST_CASE("normal numbers have normal moments", "[random]") {
  constexpr int kDraws = 1 << 16;
  const Stream s{5, 6};
  double moment[5] = {}, beyond = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = s.normal(uint64_t(i));
    REQUIRE(std::isfinite(x));
    for (int k = 1; k <= 4; ++k) moment[k] += std::pow(x, k) / kDraws;
    beyond += std::abs(x) > 1.959964;
  }
  const double error = 1 / std::sqrt(kDraws);  // of the mean
  CHECK(moment[1] == Approx(0).margin(5 * error));
  CHECK(moment[2] == Approx(1).margin(5 * std::sqrt(2) * error));
  CHECK(moment[3] == Approx(0).margin(5 * std::sqrt(15) * error));
  CHECK(moment[4] == Approx(3).margin(5 * std::sqrt(96) * error));
  CHECK(beyond / kDraws == Approx(0.05).margin(5 * std::sqrt(0.05) * error));
}

// ---- dropout

Dropout with_rate(double p) { return {real(p), {7, 8}}; }

TEST_CASE("dropout keeps its share of the elements and their mean", "[random]") {
  constexpr int64_t n = 1 << 16;
  for (double p : {0.1, 0.5, 0.9}) {
    const std::vector<real> y = dropout(full({n}, 1, Device::cpu), with_rate(p)).value().to_vector();
    double kept = 0, sum = 0;
    for (real v : y) {
      kept += v != 0;
      sum += double(v);
      REQUIRE((v == 0 || v == Approx(1 / (1 - p))));
    }
    CHECK(kept / n == Approx(1 - p).margin(5 * std::sqrt(p * (1 - p) / n)));
    CHECK(sum / n == Approx(1).margin(5 * std::sqrt(p / (1 - p) / n)));
  }
}

TEST_CASE("at the ends dropout keeps everything, or nothing", "[random]") {
  const Variable x = full({257}, 3, Device::cpu);
  CHECK(dropout(x, with_rate(0)).data() == x.data());
  CHECK(dropout(x, with_rate(1)).value().to_vector() == std::vector<real>(257, 0));
}

TEST_CASE("the mask depends on seed, stream and place alone", "[random]") {
  const auto mask = [&](const Shape& shape, const Dropout& d) {
    return dropout(full(shape, 1, Device::cpu), d).value().to_vector();
  };
  const std::vector<real> m = mask({4, 1000}, with_rate(0.3));
  CHECK(m == mask({4, 1000}, with_rate(0.3)));
  CHECK(m == mask({4000}, with_rate(0.3)));
  CHECK(m == mask({1000, 4}, with_rate(0.3)));
  for (int64_t rows : {1, 2, 3}) {  // later rows of a batch are the first of another
    const Dropout later{real(0.3), {7, 8}, uint64_t(1000 * (4 - rows))};
    CHECK(mask({rows, 1000}, later) == std::vector<real>(m.end() - 1000 * rows, m.end()));
  }
  CHECK(m != mask({4, 1000}, {real(0.3), {7, 9}}));
  CHECK(m != mask({4, 1000}, {real(0.3), {8, 8}}));
  for (size_t i = 0; i < m.size(); ++i) REQUIRE((m[i] != 0) == (with_rate(0.3).stream.uniform(i) >= double(real(0.3))));
}

TEST_CASE("a first draw that no whole rows lie before is refused", "[random]") {
  const Variable x = full({2, 8}, 1, Device::cpu), gamma = full({8}, 1, Device::cpu);
  CHECK_NOTHROW(layer_norm(x, x, {}, gamma, gamma, {real(.1), {1, 2}, 16}));
  CHECK_THROWS_WITH(layer_norm(x, x, {}, gamma, gamma, {real(.1), {1, 2}, 6}),
                    Catch::Contains("[layer_norm]") && Catch::Contains("got 6"));
  const Variable q = full({1, 3, 4}, 1, Device::cpu), r = full({3, 4}, 1, Device::cpu),
                 u = full({2, 2}, 1, Device::cpu);
  CHECK_NOTHROW(relative_attention(q, q, q, r, u, u, {.first_key = {}, .dropout = {real(.1), {1, 2}, 18}}));
  CHECK_THROWS_WITH(relative_attention(q, q, q, r, u, u, {.first_key = {}, .dropout = {real(.1), {1, 2}, 12}}),
                    Catch::Contains("[relative_attention]") && Catch::Contains("3 × 3: got 12"));
}

TEST_CASE("backward drops what forward dropped", "[random]") {
  const Dropout d = with_rate(0.4);
  const Variable x = Variable::leaf(full({3, 333}, 1, Device::cpu));
  const Variable y = dropout(x, d);
  backward(weighted_sum(y, full({3, 333}, 1, Device::cpu)));
  CHECK(x.grad().to_vector() == y.value().to_vector());

  // Inside the layer norm: z's gradient is x's where z was kept, and zero elsewhere.
  const Variable a = Variable::leaf(full({3, 333}, 1, Device::cpu)), z = Variable::leaf(full({3, 333}, 1, Device::cpu));
  const Variable gamma = full({333}, 1, Device::cpu), beta = full({333}, 0, Device::cpu);
  std::vector<real> cotangent;
  for (uint64_t i = 0; i < 999; ++i) cotangent.push_back(real(Stream{1, 2}.normal(i)));
  backward(weighted_sum(layer_norm(a, z, {}, gamma, beta, d), Tensor::from(cotangent, {3, 333})));
  const std::vector<real> da = a.grad().to_vector(), dz = z.grad().to_vector(), kept = y.value().to_vector();
  for (size_t i = 0; i < dz.size(); ++i) REQUIRE(dz[i] == da[i] * kept[i]);
}

}  // namespace
}  // namespace lem
