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

std::map<std::string, double> BatchResult::auxiliary() const {
  std::map<std::string, double> sums;
  for (const auto& [name, values] : auxiliary_)
    for (const Tensor& value : values) sums[name] += item(value);
  return sums;
}

void BatchResult::add(const BatchResult& part) {
  scored_ += part.scored_, tokens_ += part.tokens_;
  for (const auto& [name, values] : part.auxiliary_)
    auxiliary_[name].insert(auxiliary_[name].end(), values.begin(), values.end());
  losses_.insert(losses_.end(), part.losses_.begin(), part.losses_.end());
  predicted_.insert(predicted_.end(), part.predicted_.begin(), part.predicted_.end());
  targets_.insert(targets_.end(), part.targets_.begin(), part.targets_.end());
}

BatchSize size_of(const DocumentBatch& batch) {
  return {batch.B, std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t t) { return t >= 0; })};
}

BatchResult read_documents(const Model& model, const DocumentBatch& batch, int64_t T, const Pass& pass, bool learn,
                           State* state, const BatchSize* whole) {
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
  const BatchSize own_size = size_of(batch), mean_over = whole != nullptr ? *whole : own_size;
  const real share = real(double(B) / double(std::max<int64_t>(1, mean_over.rows)));  // of a mean over rows
  result.tokens_ = B * n, result.scored_ = own_size.scored;

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
        model.head.score(hidden, Tokens::from(targets, {B * outputs}, device), 1.0 / double(mean_over.scored));
    result.losses_.push_back(score.each), result.predicted_.push_back(score.predicted);
    result.targets_.push_back(std::move(targets));
    Variable loss = score.loss;
    for (const Losses::Term& term : auxiliary.terms) {
      const Variable value = share == 1 ? term.value : scale(term.value, share);
      result.auxiliary_[term.name].push_back(value.value());
      if (learn && term.weight > 0) loss = add(loss, scale(value, real(term.weight)));
    }
    if (learn) backward(loss);
  }
  return result;
}

}  // namespace lem
