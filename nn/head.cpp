#include "nn/head.h"

namespace lem {

Head::Head(Parameters& p, int64_t vocab, int64_t width, double init_std, const Variable& table)
    : weight(table.defined() ? table : p.add("head.weight", {width, vocab}, {.init = Init::normal(init_std)})),
      bias(p.add("head.bias", {vocab}, {.init = Init::constant(0), .decay = false})),
      tied(table.defined()) {}

Variable Head::logits(const Variable& hidden) const {
  return bias_act(linear(hidden, weight, tied), bias, Activation::identity);
}

Head::Score Head::score(const Variable& hidden, const Tokens& targets, double scale) const {
  const Variable y = logits(hidden);
  Score score;
  score.loss = cross_entropy(y, targets, real(scale), &score.each);
  score.predicted = Tokens({y.dim(0), y.dim(1)}, y.device());
  on(y.device()).argmax(score.predicted.data(), y.data(), y.dim(0) * y.dim(1), y.dim(2));
  return score;
}

}  // namespace lem
