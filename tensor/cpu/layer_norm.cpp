// Layer normalisation (Ba et al., arXiv 1607.06450), fused with the residual sum and the dropout before it.
#include <cmath>

#include "tensor/backend.h"
#include "tensor/cpu/dropout.h"
#include "tensor/cpu/parallel.h"

namespace lem::cpu {

// s = x + dropout(z + z_bias);  x̂ = (s − mean) / √(var + eps);  y = gamma x̂ + beta
void layer_norm_forward(real* y, real* s, real* mean, real* rstd, const real* x, const real* z, const real* z_bias,
                        const real* gamma, const real* beta, real eps, Dropout dropout, int64_t rows, int64_t cols) {
  parallel_for(rows, 8 * cols, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t start = row * cols;
      real* sr = s + start;
      if (z)
        with_dropout(dropout, start, cols, [=](int64_t at, const real* mask, int64_t n) {
          for (int64_t i = at; i < at + n; ++i) {
            const real v = z_bias ? z[start + i] + z_bias[i] : z[start + i];
            sr[i] = x[start + i] + (mask ? v * mask[i - at] : v);
          }
        });
      else if (s != x)
        std::copy(x + start, x + start + cols, sr);

      real total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t c = 0; c < cols; ++c) total += sr[c];
      const real m = total / real(cols);
#pragma omp simd reduction(+ : squares)
      for (int64_t c = 0; c < cols; ++c) squares += (sr[c] - m) * (sr[c] - m);
      const real r = 1 / std::sqrt(squares / real(cols) + eps);
      for (int64_t c = 0; c < cols; ++c) y[start + c] = (sr[c] - m) * r * gamma[c] + beta[c];
      mean[row] = m, rstd[row] = r;
    }
  });
}

// With g = dy gamma, and means over the row:  ds = rstd ( g − mean(g) − x̂ mean(g x̂) ).
// dx = ds, dz = mask ds, dz_bias = Σ_rows dz, dgamma = Σ_rows dy x̂, dbeta = Σ_rows dy.
void layer_norm_backward(real* dx, real* dz, real* dz_bias, real* dgamma, real* dbeta, const real* dy, const real* s,
                         const real* mean, const real* rstd, const real* gamma, Dropout dropout, int64_t rows,
                         int64_t cols) {
  std::vector<real> sums(static_cast<size_t>(3 * cols));  // dgamma, dbeta, dz_bias
  reduce_rows(sums.data(), rows, 3 * cols, [=](int64_t begin, int64_t end, real* partial) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t start = row * cols;
      const real *sr = s + start, *dyr = dy + start;
      real* dxr = dx + start;
      const real m = mean[row], r = rstd[row];
      real g_sum = 0, gx_sum = 0;
#pragma omp simd reduction(+ : g_sum, gx_sum)
      for (int64_t c = 0; c < cols; ++c) {
        const real g = dyr[c] * gamma[c];
        g_sum += g;
        gx_sum += g * ((sr[c] - m) * r);
      }
      const real g_mean = g_sum / real(cols), gx_mean = gx_sum / real(cols);
      for (int64_t c = 0; c < cols; ++c) {
        const real xhat = (sr[c] - m) * r;
        partial[c] += dyr[c] * xhat;
        partial[cols + c] += dyr[c];
        dxr[c] = r * (dyr[c] * gamma[c] - g_mean - xhat * gx_mean);
      }
      if (dz)
        with_dropout(dropout, start, cols, [=](int64_t at, const real* mask, int64_t n) {
          for (int64_t i = at; i < at + n; ++i) {
            const real d = mask ? dxr[i] * mask[i - at] : dxr[i];
            dz[start + i] = d;
            partial[2 * cols + i] += d;
          }
        });
    }
  });
  real* const outputs[3] = {dgamma, dbeta, dz_bias};
  for (int o = 0; o < 3; ++o)
    if (outputs[o])
      for (int64_t c = 0; c < cols; ++c) outputs[o][c] += sums[size_t(o * cols + c)];
}

}  // namespace lem::cpu
