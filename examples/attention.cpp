// One head of Transformer-XL's attention, looked at: the values are unit vectors, so that the output of a query *is*
// its attention to each key. docs/relative-attention.md derives the scores.
#include <fmt/core.h>

#include <algorithm>

#include "autograd/ops.h"
#include "nn/layers.h"

using namespace lem;

namespace {

// One query a line: the share of its attention, in percent, that each key gets. Keys that it may not see are exact
// zeros.
void show(const char* title, const Variable& attention) {
  fmt::print("{}\n", title);
  const std::vector<real> shares = attention.value().to_vector();
  const int64_t T = attention.dim(1), K = attention.dim(2);
  for (int64_t i = 0; i < T; ++i) {
    fmt::print("  query at {:2} ", K - T + i);
    for (int64_t j = 0; j < K; ++j) {
      const real share = shares[size_t(i * K + j)];
      fmt::print("{:>5}", share > 0 ? fmt::format("{:.0f}", 100 * share) : ".");
    }
    fmt::print("\n");
  }
}

}  // namespace

int main() {
  const int64_t T = 4, K = 10, D = K;  // six keys remembered, four of this segment
  const Device cpu = Device::cpu;
  std::vector<real> identity(size_t(K * D)), favourite(size_t(K * D)), looking(size_t(T * D)), near(size_t(D), 0);
  for (int64_t j = 0; j < K; ++j) identity[size_t(j * D + j)] = 1;
  favourite[2 * size_t(D)] = 12;  // key 2 has what these queries look for
  for (int64_t i = 0; i < T; ++i) looking[size_t(i * D)] = 1;

  const Variable q = Tensor::from(looking, {1, T, D}), k = Tensor::from(favourite, {1, K, D});
  const Variable v = Tensor::from(identity, {1, K, D}), nothing = zeros({1, D}, cpu);
  const Variable r = distance_sinusoids(K, D, 0, cpu);
  // The cosine of f_1 = 10000^(-2/D) falls slowly from its peak at distance 0: a head that looks at its neighbours.
  near[size_t(D / 2 + 1)] = 60;

  show("by content: everyone looks at key 2", relative_attention(q, k, v, zeros({K, D}, cpu), nothing, nothing));
  show("by distance: everyone looks close by",
       relative_attention(zeros({1, T, D}, cpu), k, v, r, nothing, Tensor::from(near, {1, D})));
  RelativeAttentionOptions window;
  window.window = 3;
  show("the same, with a window of three keys",
       relative_attention(zeros({1, T, D}, cpu), k, v, r, nothing, Tensor::from(near, {1, D}), window));
}
