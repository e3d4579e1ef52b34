// Adam and AdamW, one pass over the flat arenas.
#include <cmath>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"
#include "tensor/pointwise.h"

namespace lem::cpu {

void adam(real* p, real* m, real* v, const real* g, const real* grad_squares, const AdamStep& s, int64_t n) {
  if (!std::isfinite(grad_squares[0])) return;
  const AdamUpdate update(s, grad_squares[0]);
  parallel_for(n, 8, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) update(p[i], m[i], v[i], g[i]);
  });
}

}  // namespace lem::cpu
