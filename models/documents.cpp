#include "models/documents.h"

#include <algorithm>
#include <memory>
#include <optional>

namespace lem {
namespace {

/// Columns [begin, begin + count) of a (B, n) array.
std::vector<int32_t> columns(const std::vector<int32_t>& x, int64_t B, int64_t n, int64_t begin, int64_t count) {
  std::vector<int32_t> part;
  part.reserve(size_t(B * count));
  for (int64_t b = 0; b < B; ++b) part.insert(part.end(), x.begin() + b * n + begin, x.begin() + b * n + begin + count);
  return part;
}

/// The first column in [begin, end) that some row has a target in; end if there is none.
int64_t first_target(const DocumentBatch& batch, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; ++j)
    for (int64_t b = 0; b < batch.B; ++b)
      if (batch.targets[size_t(b * batch.n + j)] >= 0) return j;
  return end;
}

}  // namespace

double BatchResult::loss() const {
  double sum = 0;
  for (const Tensor& losses : losses_)
    for (real loss : losses.to_vector()) sum += loss;
  return scored_ > 0 ? sum / double(scored_) : 0;
}

int64_t BatchResult::correct() const {
  int64_t right = 0;
  for (size_t s = 0; s < predicted_.size(); ++s) {
    const std::vector<int32_t> predicted = predicted_[s].to_vector();
    for (size_t i = 0; i < predicted.size(); ++i) right += targets_[s][i] >= 0 && predicted[i] == targets_[s][i];
  }
  return right;
}

double BatchResult::auxiliary(const std::string& name) const {
  for (const Sum& sum : auxiliary_)
    if (sum.name == name) return item(sum.value);
  return 0;
}

BatchResult read_documents(const Model& model, const DocumentBatch& batch, int64_t T, const Pass& pass, bool learn,
                           State* state) {
  const int64_t B = batch.B, n = batch.n;
  check(T > 0 && int64_t(batch.tokens.size()) == B * n && int64_t(batch.targets.size()) == B * n,
        "[documents] a batch of {} × {} needs as many tokens and targets: got {} and {}, segments of {}", B, n,
        batch.tokens.size(), batch.targets.size(), T);
  Pass own = pass;
  own.weights = new_weights_number();  // the same from the first segment to the last
  own.first = batch.first;
  std::unique_ptr<State> fresh;
  if (state == nullptr) {
    fresh = model.new_state(B), state = fresh.get();
    std::vector<Random> documents;
    if (pass.random != nullptr) {
      for (int64_t b = 0; b < B; ++b) documents.push_back(pass.random->child(batch.first + uint64_t(b)));
      fresh->draw_from(documents);
    }
  }
  const Device device = model.device();
  BatchResult result;
  result.tokens_ = B * n;
  result.scored_ = std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t t) { return t >= 0; });

  for (int64_t begin = 0; begin < n; begin += T) {
    const int64_t end = std::min(n, begin + T), outputs = end - first_target(batch, begin, end);
    const Tokens tokens = Tokens::from(columns(batch.tokens, B, n, begin, end - begin), {B, end - begin}, device);
    std::optional<NoGrad> no_grad;
    if (!learn || outputs == 0) no_grad.emplace();
    Losses auxiliary;
    const Variable hidden = model.forward({tokens}, *state, own, outputs, auxiliary);
    if (outputs == 0) continue;

    std::vector<int32_t> targets = columns(batch.targets, B, n, end - outputs, outputs);
    const Head::Score score =
        model.head.score(hidden, Tokens::from(targets, {B * outputs}, device), 1.0 / double(result.scored_));
    result.losses_.push_back(score.each), result.predicted_.push_back(score.predicted);
    result.targets_.push_back(std::move(targets));
    Variable loss = score.loss;
    for (const Losses::Term& term : auxiliary.terms) {
      auto sum = std::find_if(result.auxiliary_.begin(), result.auxiliary_.end(),
                              [&](const BatchResult::Sum& s) { return s.name == term.name; });
      if (sum == result.auxiliary_.end()) sum = result.auxiliary_.insert(sum, {term.name, zeros({1}, device)});
      on(device).axpy(sum->value.data(), 1, term.value.data(), 1);
      if (learn && term.weight > 0) loss = add(loss, scale(term.value, real(term.weight)));
    }
    if (learn) backward(loss);
  }
  return result;
}

}  // namespace lem
