#include "data/sorting.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "tensor/error.h"
#include "tensor/random.h"

namespace lem {
namespace {

constexpr int32_t kMostSymbols = 10000;

/// The draws of one sample, in order. Its stream's number holds the split and the index under a set top bit, which no
/// other user of the same seed reaches (Random hands out streams from 0 upwards).
class Draws {
 public:
  Draws(uint64_t seed, Split split, int64_t index)
      : seed_(seed), stream_(uint64_t(1) << 63 | uint64_t(split) << 60 | uint64_t(index)) {}

  /// An integer in [0, n): the upper half of n times 32 random bits.
  uint32_t below(uint64_t n) {
    if (next_ % 4 == 0) block_ = philox4x32(seed_, stream_, next_ / 4);
    return uint32_t(n * block_[next_++ % 4] >> 32);
  }

 private:
  uint64_t seed_, stream_, next_ = 0;
  std::array<uint32_t, 4> block_{};
};

/// Weights 1 … 9 for every symbol, as an urn that holds each symbol as often as it weighs.
std::vector<int32_t> draw_urn(Draws& draws, int32_t symbols) {
  std::vector<int32_t> urn;
  for (int32_t s = 0; s < symbols; ++s) urn.insert(urn.end(), 1 + draws.below(9), s);
  return urn;
}

void check_sizes(int32_t symbols, int64_t length) {
  check(symbols >= 2 && symbols <= kMostSymbols, "[sorting] symbols: got {}, expected 2 … {}", symbols, kMostSymbols);
  check(length >= 1 && length < int64_t(1) << 32, "[sorting] length: got {}, expected 1 … 2^32 − 1", length);
}

/// The counter of SortingCeilings: reads tokens and answer, names the most frequent symbol that the answer lacks so
/// far.
class Counter {
 public:
  explicit Counter(int32_t symbols) : counts_(symbols, 0) {}
  void read(int32_t token) { ++counts_[token]; }
  void strike(int32_t named) { counts_[named] = -1; }
  int32_t guess() const { return int32_t(std::max_element(counts_.begin(), counts_.end()) - counts_.begin()); }

 private:
  std::vector<int64_t> counts_;
};

}  // namespace

SortingSample sorting_sample(uint64_t seed, Split split, int64_t index, int32_t symbols, int64_t length) {
  check_sizes(symbols, length);
  check(index >= 0 && index < int64_t(1) << 60, "[sorting] sample number: got {}, expected 0 … 2^60 − 1", index);
  Draws draws(seed, split, index);
  const std::vector<int32_t> urn0 = draw_urn(draws, symbols), urn1 = draw_urn(draws, symbols);  // p_0, p_1

  SortingSample sample;
  sample.tokens.resize(length);
  for (int64_t j = 0; j < length; ++j) {
    // (1 − ρ) p_0 + ρ p_1: one of the two with probability ρ = j / n, then a symbol from it.
    const std::vector<int32_t>& urn = draws.below(uint64_t(length)) < uint64_t(j) ? urn1 : urn0;
    sample.tokens[j] = urn[draws.below(urn.size())];
  }
  sample.sorted = sort_by_count(sample.tokens, symbols);
  return sample;
}

std::vector<int32_t> sort_by_count(std::span<const int32_t> tokens, int32_t symbols) {
  std::vector<int64_t> counts(symbols, 0), first(symbols, int64_t(tokens.size()));
  for (size_t j = 0; j < tokens.size(); ++j) {
    check(tokens[j] >= 0 && tokens[j] < symbols, "[sorting] symbol {} at place {}: expected 0 … {}", tokens[j], j,
          symbols - 1);
    if (counts[tokens[j]]++ == 0) first[tokens[j]] = int64_t(j);
  }
  std::vector<int32_t> order(symbols);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return counts[a] != counts[b] ? counts[a] > counts[b] : first[a] < first[b];
  });
  return order;
}

std::vector<int32_t> model_input(const SortingSample& sample) {
  std::vector<int32_t> input = sample.tokens;
  input.push_back(sorting_separator(int32_t(sample.sorted.size())));
  input.insert(input.end(), sample.sorted.begin(), sample.sorted.end());
  return input;
}

std::vector<int32_t> model_targets(const SortingSample& sample) {
  std::vector<int32_t> targets(sample.tokens.size(), -1);
  targets.insert(targets.end(), sample.sorted.begin(), sample.sorted.end());
  targets.push_back(-1);
  return targets;
}

SortingCeilings::SortingCeilings(int32_t symbols, int64_t T, int64_t S) : symbols_(symbols), T_(T), S_(S) {
  check(T >= 1 && S >= 0, "[sorting] ceilings of segments of {} tokens after {} remembered: expected T ≥ 1 and S ≥ 0",
        T, S);
}

void SortingCeilings::add(const SortingSample& sample) {
  check(int32_t(sample.sorted.size()) == symbols_, "[sorting] ceilings: got a sample of {} symbols, expected {}",
        sample.sorted.size(), symbols_);
  const int64_t length = int64_t(sample.tokens.size());
  Counter all(symbols_), visible(symbols_);
  for (const int32_t token : sample.tokens) all.read(token);

  int64_t counted_from = -1;
  for (int32_t i = 0; i < symbols_; ++i) {
    // Position length + i predicts sorted[i]; the model reads sorted[i] at position length + 1 + i.
    const int64_t from = std::max<int64_t>((length + i) / T_ * T_ - S_, 0);
    if (from != counted_from) {  // a new segment: it sees less of the past
      visible = Counter(symbols_);
      for (int64_t j = from; j < length; ++j) visible.read(sample.tokens[j]);
      for (int64_t k = std::max<int64_t>(from - length - 1, 0); k < i; ++k) visible.strike(sample.sorted[k]);
      counted_from = from;
    }
    const int32_t truth = sample.sorted[i];
    right_all_ += all.guess() == truth;
    right_visible_ += visible.guess() == truth;
    all.strike(truth);
    visible.strike(truth);
  }
  places_ += symbols_;
}

}  // namespace lem
