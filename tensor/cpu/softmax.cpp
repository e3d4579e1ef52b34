// Softmax along rows, alone and fused with the cross entropy.
#include <cmath>
#include <limits>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/simd.h"

namespace lem::cpu {
namespace {

real row_max(const real* x, int64_t n) {
  real largest = -std::numeric_limits<real>::infinity();
  for (int64_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

}  // namespace

// y_j = exp(x_j − max) / Σ_k exp(x_k − max)
void softmax_forward(real* y, const real* x, const real* bias, int64_t rows, int64_t cols) {
  parallel_for(rows, 8 * cols, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const real* xr = x + row * cols;
      real* yr = y + row * cols;
      for (int64_t c = 0; c < cols; ++c) yr[c] = bias ? xr[c] + bias[c] : xr[c];
      const real largest = row_max(yr, cols);
      real total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t c = 0; c < cols; ++c) total += yr[c] = exp(yr[c] - largest);
      const real inverse = 1 / total;
      for (int64_t c = 0; c < cols; ++c) yr[c] *= inverse;
    }
  });
}

// dx_j = y_j (dy_j − Σ_k dy_k y_k)
void softmax_backward(real* dx, const real* dy, const real* y, int64_t rows, int64_t cols) {
  parallel_for(rows, 4 * cols, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const real *yr = y + row * cols, *dyr = dy + row * cols;
      real dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t c = 0; c < cols; ++c) dot += dyr[c] * yr[c];
      for (int64_t c = 0; c < cols; ++c) dx[row * cols + c] = yr[c] * (dyr[c] - dot);
    }
  });
}

// loss = lse − x_target, lse = log Σ_j exp x_j
void cross_entropy_forward(real* loss, real* lse, const real* logits, const int32_t* targets, int64_t rows,
                           int64_t cols) {
  parallel_for(rows, 8 * cols, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      loss[row] = lse[row] = 0;
      if (targets[row] < 0) continue;
      const real* x = logits + row * cols;
      const real largest = row_max(x, cols);
      real total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t c = 0; c < cols; ++c) total += exp(x[c] - largest);
      lse[row] = largest + std::log(total);
      loss[row] = lse[row] - x[targets[row]];
    }
  });
}

// dlogits = dloss (softmax − onehot)
void cross_entropy_backward(real* dlogits, const real* dloss, real scale, const real* logits, const real* lse,
                            const int32_t* targets, int64_t rows, int64_t cols) {
  const real d = dloss[0] * scale;
  parallel_for(rows, 8 * cols, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const real* x = logits + row * cols;
      real* dx = dlogits + row * cols;
      if (targets[row] < 0) {
        std::fill(dx, dx + cols, real(0));
        continue;
      }
      const real log_sum = lse[row];
      for (int64_t c = 0; c < cols; ++c) dx[c] = d * exp(x[c] - log_sum);
      dx[targets[row]] -= d;
    }
  });
}

}  // namespace lem::cpu
