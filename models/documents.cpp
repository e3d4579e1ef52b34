#include "models/documents.h"

#include <algorithm>
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

BatchResult read_documents(TransformerXL& model, const DocumentBatch& batch, int64_t T, const Pass& pass, bool learn,
                           double lambda_kl, State* state) {
  const int64_t B = batch.B, n = batch.n;
  check(T > 0 && int64_t(batch.tokens.size()) == B * n && int64_t(batch.targets.size()) == B * n,
        "[documents] a batch of {} × {} needs as many tokens and targets: got {} and {}, segments of {}", B, n,
        batch.tokens.size(), batch.targets.size(), T);
  Pass own = pass;
  own.weights = new_weights_number();  // the same from the first segment to the last
  own.first = batch.first;
  State fresh;
  if (state == nullptr) {
    fresh = model.new_state(B), state = &fresh;
    std::vector<Random> documents;
    if (pass.random != nullptr) {
      for (int64_t b = 0; b < B; ++b) documents.push_back(pass.random->child(batch.first + uint64_t(b)));
      fresh.draw_from(documents);
    }
  }
  const Device device = model.device();
  BatchResult result;
  result.kl_ = zeros({1}, device);
  result.tokens_ = B * n;
  result.scored_ = std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t t) { return t >= 0; });

  for (int64_t begin = 0; begin < n; begin += T) {
    const int64_t end = std::min(n, begin + T), outputs = end - first_target(batch, begin, end);
    const Tokens tokens = Tokens::from(columns(batch.tokens, B, n, begin, end - begin), {B, end - begin}, device);
    std::optional<NoGrad> no_grad;
    if (!learn || outputs == 0) no_grad.emplace();
    const TransformerXL::Output out = model.forward(tokens, *state, own, outputs);
    if (outputs == 0) continue;

    std::vector<int32_t> targets = columns(batch.targets, B, n, end - outputs, outputs);
    const Variable loss = cross_entropy(out.logits, Tokens::from(targets, {B * outputs}, device),
                                        real(1.0 / double(result.scored_)), &result.losses_.emplace_back());
    if (out.kl.defined()) on(device).axpy(result.kl_.data(), 1, out.kl.data(), 1);
    const Tokens predicted({B, outputs}, device);
    on(device).argmax(predicted.data(), out.logits.data(), B * outputs, out.logits.dim(-1));
    result.predicted_.push_back(predicted);
    result.targets_.push_back(std::move(targets));
    if (learn) backward(out.kl.defined() && lambda_kl > 0 ? add(loss, scale(out.kl, real(lambda_kl))) : loss);
  }
  return result;
}

}  // namespace lem
