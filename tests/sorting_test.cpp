#include "data/sorting.h"

#include <numeric>
#include <set>

#include "tensor/random.h"
#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;
using Tokens = std::vector<int32_t>;

TEST_CASE("the answer: falling count, ties by first occurrence, missing symbols last in order", "[sorting]") {
  CHECK(sort_by_count(Tokens{3, 1, 1, 3, 2}, 6) == Tokens{3, 1, 2, 0, 4, 5});
  CHECK(sort_by_count(Tokens{1, 3, 1, 3, 2}, 6) == Tokens{1, 3, 2, 0, 4, 5});
  CHECK(sort_by_count(Tokens{4, 0, 0, 0, 4, 2, 2}, 5) == Tokens{0, 4, 2, 1, 3});
  CHECK(sort_by_count(Tokens{5}, 6) == Tokens{5, 0, 1, 2, 3, 4});
  CHECK(sort_by_count(Tokens{}, 3) == Tokens{0, 1, 2});
  CHECK_THAT(error_of([] { sort_by_count(Tokens{0, 6}, 6); }), Contains("symbol 6 at place 1: expected 0 … 5"));
  CHECK_THAT(error_of([] { sort_by_count(Tokens{-1}, 6); }), Contains("symbol -1 at place 0"));
}

TEST_CASE("what the model reads and what it is scored on", "[sorting]") {
  const SortingSample sample{{2, 2, 0, 2}, {2, 0, 1}};
  CHECK(model_input(sample) == Tokens{2, 2, 0, 2, 3, 2, 0, 1});
  CHECK(model_targets(sample) == Tokens{-1, -1, -1, -1, 2, 0, 1, -1});
  CHECK(int64_t(model_input(sample).size()) == sorting_positions(3, 4));
  CHECK(sorting_separator(20) == 20);
  CHECK(sorting_ignore(20) == 21);
  CHECK(sorting_vocabulary(20) == 22);
}

TEST_CASE("a sample is a function of seed, split and number", "[sorting]") {
  for (const auto& [symbols, length] : {std::pair{2, 1}, {8, 31}, {8, 500}, {20, 4000}, {300, 257}}) {
    const SortingSample sample = sorting_sample(7, Split::train, 5, symbols, length);
    CHECK(sample.tokens == sorting_sample(7, Split::train, 5, symbols, length).tokens);
    CHECK(int64_t(sample.tokens.size()) == length);
    CHECK(sample.sorted == sort_by_count(sample.tokens, symbols));
    Tokens symbols_named = sample.sorted, all_symbols(symbols);
    std::iota(all_symbols.begin(), all_symbols.end(), 0);
    std::sort(symbols_named.begin(), symbols_named.end());
    CHECK(symbols_named == all_symbols);
  }
}

TEST_CASE("samples never change: these are what a seed has always meant", "[sorting]") {
  CHECK(sorting_sample(1, Split::train, 0, 8, 16).tokens == Tokens{6, 7, 2, 2, 7, 4, 1, 1, 3, 6, 7, 2, 1, 4, 3, 2});
  CHECK(sorting_sample(1, Split::test, 3, 20, 12).tokens == Tokens{14, 14, 5, 14, 1, 0, 4, 0, 4, 12, 6, 19});
}

TEST_CASE("train, validation and test never repeat each other, nor does a seed another", "[sorting]") {
  std::set<Tokens> seen;
  int64_t drawn = 0;
  for (const uint64_t seed : {0, 1, 2})
    for (const Split split : {Split::train, Split::validation, Split::test})
      for (const int64_t first : {int64_t(0), int64_t(1) << 40})
        for (int64_t i = first; i < first + 200; ++i, ++drawn)
          seen.insert(sorting_sample(seed, split, i, 8, 60).tokens);
  CHECK(int64_t(seen.size()) == drawn);
}

TEST_CASE("tokens follow the drifting mixture", "[sorting]") {
  // The weights are drawn first, p_0's and then p_1's; taken here straight from the stream, they predict the counts in
  // each eighth of the sequence. Chi-square over all samples, eighths and symbols.
  constexpr int kSymbols = 6, kLength = 8000, kParts = 8, kSamples = 40;
  double chi2 = 0;
  std::vector<double> weight_counts(10, 0);
  for (int64_t index = 0; index < kSamples; ++index) {
    const Stream stream{3, uint64_t(1) << 63 | uint64_t(1) << 60 | uint64_t(index)};
    double weight[2][kSymbols], total[2] = {0, 0};
    for (int p = 0; p < 2; ++p)
      for (int s = 0; s < kSymbols; ++s) {
        weight[p][s] = 1 + std::floor(9 * (stream.bits(p * kSymbols + s) / 4294967296.0));
        total[p] += weight[p][s];
        ++weight_counts[int(weight[p][s])];
      }
    std::vector<double> expected(kParts * kSymbols, 0), found(kParts * kSymbols, 0);
    const Tokens tokens = sorting_sample(3, Split::validation, index, kSymbols, kLength).tokens;
    for (int j = 0; j < kLength; ++j) {
      const double rho = double(j) / kLength;
      const int part = j * kParts / kLength;
      for (int s = 0; s < kSymbols; ++s)
        expected[part * kSymbols + s] += (1 - rho) * weight[0][s] / total[0] + rho * weight[1][s] / total[1];
      ++found[part * kSymbols + tokens[j]];
    }
    for (int i = 0; i < kParts * kSymbols; ++i)
      chi2 += (found[i] - expected[i]) * (found[i] - expected[i]) / expected[i];
  }
  const double freedom = kSamples * kParts * (kSymbols - 1);  // 1600: mean 1600, deviation √3200 = 57
  CHECK(std::abs(chi2 - freedom) <= 5 * std::sqrt(2 * freedom));
  CHECK(weight_counts[0] == 0);
  for (int w = 1; w <= 9; ++w) CHECK(std::abs(weight_counts[w] - 480 / 9.0) <= 5 * std::sqrt(480 / 9.0));
}

TEST_CASE("ceilings count what can be seen", "[sorting]") {
  // 0 is the most frequent overall, 1 in the second half; there is no tie.
  const SortingSample sample{{0, 0, 0, 0, 2, 1, 1, 1}, {0, 1, 2}};
  const auto visible = [&](int64_t T, int64_t S) {
    SortingCeilings ceilings(3, T, S);
    ceilings.add(sample);
    CHECK(ceilings.all() == 1);
    return ceilings.visible();
  };
  CHECK(visible(100, 0) == 1);              // one segment holds all
  CHECK(visible(4, 8) == 1);                // the answer is read in [8, 12), which sees the 8 before it
  CHECK(visible(4, 4) == Approx(2 / 3.));   // sees 2 1 1 1: names 1, then (told 0) 1, then 2
  CHECK(visible(4, 3) == Approx(2 / 3.));   // sees 1 1 1: the same
  CHECK(visible(4, 0) == Approx(1));        // sees nothing: 0, then 1, then 2, by number
  CHECK(visible(10, 0) == Approx(2 / 3.));  // position 10 begins a segment that has seen only answer 1: names 0
}

TEST_CASE("a visible ceiling forgets answers that have left the window", "[sorting]") {
  const SortingSample sample{{0, 0, 0, 1, 1, 2}, {0, 1, 2}};
  SortingCeilings none(3, 1, 0), one(3, 1, 1), two(3, 1, 2);  // one token a segment
  for (SortingCeilings* ceilings : {&none, &one, &two}) ceilings->add(sample);
  CHECK(none.visible() == Approx(2 / 3.));  // sees the separator: 0; is told 0: 1; is told 1 and no more: 0
  CHECK(one.visible() == Approx(2 / 3.));   // sees 2: 2; is told 0: 1; is told 0 and 1: 2
  CHECK(two.visible() == Approx(1 / 3.));   // sees 1 2: 1; sees 2, is told 0: 2; is told 0 and 1: 2
}

TEST_CASE("counts alone don't break ties", "[sorting]") {
  const SortingSample sample{{2, 1, 2, 1, 0}, {2, 1, 0}};  // guesses 1; told 2, guesses 1; told 1, guesses 0
  SortingCeilings ceilings(3, 100, 0);
  ceilings.add(sample);
  CHECK(ceilings.all() == Approx(2 / 3.));
}

TEST_CASE("the demo's ceilings: 98 % with all tokens, 54 % with the last two segments", "[sorting]") {
  SortingCeilings ceilings(8, 64, 64);
  CHECK(ceilings.all() == 0);
  for (int64_t i = 0; i < 2000; ++i) ceilings.add(sorting_sample(1, Split::test, i, 8, 500));
  CHECK(ceilings.all() == Approx(0.98).margin(0.005));
  CHECK(ceilings.visible() == Approx(0.545).margin(0.015));
}

TEST_CASE("impossible sizes are refused", "[sorting]") {
  CHECK_THAT(error_of([] { sorting_sample(0, Split::train, 0, 1, 10); }), Contains("[sorting] symbols: got 1"));
  CHECK_THAT(error_of([] { sorting_sample(0, Split::train, 0, 20000, 10); }), Contains("symbols: got 20000"));
  CHECK_THAT(error_of([] { sorting_sample(0, Split::train, 0, 8, 0); }), Contains("length: got 0"));
  CHECK_THAT(error_of([] { sorting_sample(0, Split::train, -1, 8, 10); }), Contains("sample number: got -1"));
  CHECK_THAT(error_of([] { sorting_sample(0, Split::train, int64_t(1) << 60, 8, 9); }), Contains("sample number"));
  CHECK_THAT(error_of([] { SortingCeilings(8, 0, 1); }), Contains("expected T ≥ 1 and S ≥ 0"));
  CHECK_THAT(error_of([] { SortingCeilings(8, 4, 4).add({{0, 1}, {0, 1}}); }), Contains("a sample of 2 symbols"));
  CHECK_THAT(error_of([] { parse_split("tests"); }), Contains("got \"tests\", expected train, validation or test"));
  CHECK(parse_split("train") == Split::train);
  CHECK(parse_split("validation") == Split::validation);
  CHECK(parse_split("test") == Split::test);
}
