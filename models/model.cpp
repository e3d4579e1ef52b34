#include "models/model.h"

#include <algorithm>

namespace lem {

std::vector<int64_t> begin_segment(const Segment& s, State& state, int64_t outputs) {
  check(s.tokens.shape().rank() == 2 && s.tokens.dim(0) == state.rows() && s.tokens.dim(1) > 0,
        "[model] tokens must be ({}, T > 0): got {}", state.rows(), s.tokens.shape());
  const int64_t T = s.tokens.dim(1);
  check(outputs >= 0 && outputs <= T, "[model] {} outputs asked of a segment of {}", outputs, T);
  const auto fits = [&](size_t rows) { return rows == 0 || int64_t(rows) == state.rows(); };
  check(fits(s.lengths.size()) && fits(s.begins.size()),
        "[model] a segment's lengths and begins are one a row, {}, or none: got {} and {}", state.rows(),
        s.lengths.size(), s.begins.size());
  for (int64_t length : s.lengths)
    check(0 <= length && length <= T, "[model] a row's length must lie in [0, {}], the segment's: got {}", T, length);
  state.clear_rows(s.begins);
  return s.lengths.empty() ? std::vector<int64_t>(size_t(state.rows()), T) : s.lengths;
}

void end_segment(const Segment& s, const std::vector<int64_t>& lengths, State& state) {
  std::vector<uint8_t> over;
  for (int64_t& age : state.age) age += s.tokens.dim(1);
  for (int64_t length : lengths) over.push_back(length < s.tokens.dim(1));
  state.clear_rows(over);
}

std::unique_ptr<State> read_state(const SafetensorsFile& file, const Model& model) {
  std::unique_ptr<State> state = model.new_state(saved_rows(file));
  state->load(file, model.device());
  return state;
}

}  // namespace lem
