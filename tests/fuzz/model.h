// A small model for parsers of what models save.
#pragma once

#include "tests/small_model.h"

namespace lem::fuzz {

struct Net {
  Net() : parameters(Device::cpu, 5), model(transformer(), memory(), parameters) { parameters.pack(); }

  static TransformerOptions transformer() {
    return {.vocab = 5, .layers = 1, .width = 4, .heads = 2, .ff = 4, .stm = 3, .dropout = 0, .init_std = .4};
  }
  static MemoryOptions memory() {
    MemoryOptions m;
    m.N = 4, m.widths = {.1, .3}, m.R = 5, m.sticky = true, m.grad_updates = 3;
    return m;
  }
  /// Reads a segment of four tokens a row.
  void read_segment(State& state) {
    const NoGrad no_grad;
    const int64_t rows = state.rows();
    test::read(model, {Tokens::from(std::vector<int32_t>(size_t(rows * 4), 1), {rows, 4})}, state, {}, 4);
  }

  Parameters parameters;
  InfinityFormer model;
};

}  // namespace lem::fuzz
