// Look-up of token vectors.
#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"

namespace lem::cpu {

void embedding_forward(real* y, const int32_t* tokens, const real* table, real scale, int64_t n, int64_t C) {
  parallel_for(n, C, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < C; ++c) y[i * C + c] = scale * table[tokens[i] * C + c];
  });
}

// dtable[token_i] += scale dy_i. Tokens repeat, so rows of dy are not independent; columns are: each thread takes some.
void embedding_backward(real* dtable, const real* dy, const int32_t* tokens, real scale, int64_t n, int64_t /*V*/,
                        int64_t C) {
  parallel_for(C, n, [=](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = begin; c < end; ++c) dtable[tokens[i] * C + c] += scale * dy[i * C + c];
  });
}

}  // namespace lem::cpu
