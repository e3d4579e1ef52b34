#include "autograd/ops.h"

namespace lem {

Variable embedding(const Tokens& tokens, const Variable& table, real scale) {
  check(table.shape().rank() == 2, "[embedding] table must be (V, C): got {}", table.shape());
  check(tokens.device() == table.device(), "[embedding] tokens are on {}, the table on {}", name(tokens.device()),
        name(table.device()));
  const int64_t n = tokens.numel(), V = table.dim(0), C = table.dim(1);
  check_tokens("embedding", "token", tokens, V, true);
  std::vector<int64_t> sizes = tokens.shape().vector();
  sizes.push_back(C);
  Variable y = result("embedding", Shape(sizes), {&table});
  on(y.device()).embedding_forward(y.data(), tokens.data(), table.data(), scale, n, C);
  return tape().record("embedding", y, [=, gt = table.slot()](const Tensor& dy) {
    on(dy.device()).embedding_backward(gt->buffer().data(), dy.data(), tokens.data(), scale, n, V, C);
  });
}

}  // namespace lem
