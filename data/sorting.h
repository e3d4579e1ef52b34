// The sorting task of the ∞-former paper (§4.1): read a long sequence whose symbols' frequencies drift, then name the
// symbols by falling count. Whoever forgets the beginning counts wrongly.
//
//   vocabulary   0 … symbols − 1, then the separator, then "ignore"
//   tokens       for p_0, p_1 drawn per sequence, token j of n comes from (1 − ρ) p_0 + ρ p_1, ρ = j / n, j = 0 … n − 1
//   answer       the symbols by falling count, ties by first occurrence, symbols that never occur last, in order
//   model sees   tokens, separator, answer; it is scored on naming each symbol of the answer from what stands before it
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/split.h"

namespace lem {

struct SortingSample {
  std::vector<int32_t> tokens;  // (length)
  std::vector<int32_t> sorted;  // (symbols)
};

inline int32_t sorting_separator(int32_t symbols) { return symbols; }
inline int32_t sorting_ignore(int32_t symbols) { return symbols + 1; }
inline int32_t sorting_vocabulary(int32_t symbols) { return symbols + 2; }
/// How many tokens a model reads for one sample: the sequence, the separator, the answer.
inline int64_t sorting_positions(int32_t symbols, int64_t length) { return length + 1 + symbols; }

/// Sample number `index` ≥ 0 of a split, each of which draws from random streams of its own: a pure function, the same
/// on every machine, so that a place in the data is one integer. Drawn with integers only: no rounding can differ.
SortingSample sorting_sample(uint64_t seed, Split split, int64_t index, int32_t symbols, int64_t length);

/// The answer for given tokens, each in [0, symbols).
std::vector<int32_t> sort_by_count(std::span<const int32_t> tokens, int32_t symbols);

/// tokens, separator, sorted: (length + 1 + symbols).
std::vector<int32_t> model_input(const SortingSample& sample);

/// Beside model_input: the next symbol of the answer at the separator and at all but the last symbol; −1 elsewhere.
std::vector<int32_t> model_targets(const SortingSample& sample);

/// What counting alone can reach, as the share of the answer's places that are right, over all samples added. A counter
/// names, place by place, the most frequent symbol among those that the answer (which it reads along, as the model
/// does) has not named yet. Counts don't say which of two equally frequent symbols came first: ties go by symbol.
///   all      counts every token of the sequence: what a perfect memory of counts reaches, a little below 1
///   visible  counts, for each place, only what a model without long-term memory has before it: the segment (T tokens)
///            that predicts the place, up to it, and the S tokens before that segment. (The upper layers of a
///            Transformer-XL see further through the states that they remember, by up to S a layer.)
class SortingCeilings {
 public:
  SortingCeilings(int32_t symbols, int64_t T, int64_t S);
  void add(const SortingSample& sample);
  double all() const { return share(right_all_); }
  double visible() const { return share(right_visible_); }

 private:
  double share(int64_t right) const { return places_ == 0 ? 0 : double(right) / double(places_); }

  int32_t symbols_;
  int64_t T_, S_;
  int64_t right_all_ = 0, right_visible_ = 0, places_ = 0;
};

}  // namespace lem
