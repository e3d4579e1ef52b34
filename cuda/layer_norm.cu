// Layer normalisation, fused with the residual sum and the dropout before it. Bound by memory. A row is a warp's or a
// block's and stays in registers up to 512 or 4096 columns (cuda/rows.h). Forward reads x and z and writes s and y: 16
// bytes an element, or 12 without z.
//
// Backward is two kernels. One goes along columns, for the gradients of gamma and beta, and reads dy and s (8 bytes);
// the other along rows reads them again (from the cache, where they fit) and writes dx and dz (16 bytes). dz_bias is
// the sum of dz over rows (4 more). All these sums are two-stage, in an order that the sizes alone decide.
#include "cuda/rows.h"

namespace lem::LEM_DEVICE {
namespace {

// ---- s = x + dropout(z + z_bias);  x̂ = (s − mean) / √(var + eps);  y = gamma x̂ + beta ----

/// s may be x where there is no z: it then holds what would be written.
template <int kRow, int W>
__global__ void __launch_bounds__(kRowBlock)
    layer_norm_forward_kernel(float* y, float* s, float* mean, float* rstd, const float* x, const float* z,
                              const float* z_bias, const float* gamma, const float* beta, float eps, Dropout dropout,
                              int64_t rows, int cols) {
  const int64_t row = row_of_thread<kRow>(), start = row * cols;
  if (row >= rows) return;
  dropout.first += uint64_t(start);
  const auto input = [&](int c, Floats<W>& v) {
    v = load<W>(x + start + c);
    if (!z) return;
    Floats<W> u = load<W>(z + start + c);
    if (z_bias) {
      const Floats<W> b = load<W>(z_bias + c);
      for (int w = 0; w < W; ++w) u.v[w] += b.v[w];
    }
    const Floats<W> mask = dropout_factors<W>(dropout, c);
    for (int w = 0; w < W; ++w) v.v[w] += mask.v[w] * u.v[w];
  };
  const auto stored = [&](int c, Floats<W>& v) { v = load<W>(s + start + c); };
  Held<W> held;
  hold<kRow, W>(cols, input, held);

  float total = 0;
  const auto sum_up = [&](int c, const Floats<W>& v) {
    for (int w = 0; w < W; ++w) total += v.v[w];
    if (z || s != x) store(s + start + c, v);
  };
  for_columns<kRow, W>(cols, input, sum_up, held);
  const float m = row_sum<kRow>(total) / float(cols);

  float squares = 0;  // about the mean: their own sum would lose digits where the mean is large
  const auto sum_squares_up = [&](int, const Floats<W>& v) {
    for (int w = 0; w < W; ++w) squares += (v.v[w] - m) * (v.v[w] - m);
  };
  for_columns<kRow, W>(cols, stored, sum_squares_up, held);
  const float r = 1 / sqrtf(row_sum<kRow>(squares) / float(cols) + eps);

  const auto write = [&](int c, Floats<W>& v) {
    const Floats<W> g = load<W>(gamma + c), b = load<W>(beta + c);
    for (int w = 0; w < W; ++w) v.v[w] = (v.v[w] - m) * r * g.v[w] + b.v[w];
    store(y + start + c, v);
  };
  for_columns<kRow, W>(cols, stored, write, held);
  if (lane_in_row<kRow>() == 0) mean[row] = m, rstd[row] = r;
}

// ---- with g = dy gamma, and means over the row:  ds = rstd ( g − mean(g) − x̂ mean(g x̂) ),  dx = ds,  dz = mask ds
// ----

// Left alone, the compiler stops at 80 registers a thread and spills where columns are taken one by one (W = 1): there
// two blocks an SM leave it 128.
template <int kRow, int W>
__global__ void __launch_bounds__(kRowBlock, W == 4 ? 3 : 2)
    layer_norm_backward_kernel(float* dx, float* dz, const float* dy, const float* s, const float* mean,
                               const float* rstd, const float* gamma, Dropout dropout, int64_t rows, int cols) {
  const int64_t row = row_of_thread<kRow>(), start = row * cols;
  if (row >= rows) return;
  dropout.first += uint64_t(start);
  const float m = mean[row], r = rstd[row];
  const auto input = [&](int c, Floats<W>& g, Floats<W>& xhat) {
    g = load<W>(dy + start + c);
    xhat = load<W>(s + start + c);
    const Floats<W> factor = load<W>(gamma + c);
    for (int w = 0; w < W; ++w) g.v[w] *= factor.v[w], xhat.v[w] = (xhat.v[w] - m) * r;
  };
  Held<W> held_g, held_xhat;
  hold<kRow, W>(cols, input, held_g, held_xhat);

  float g_sum = 0, gx_sum = 0;
  const auto sum_up = [&](int, const Floats<W>& g, const Floats<W>& xhat) {
    for (int w = 0; w < W; ++w) g_sum += g.v[w], gx_sum += g.v[w] * xhat.v[w];
  };
  for_columns<kRow, W>(cols, input, sum_up, held_g, held_xhat);
  const float g_mean = row_sum<kRow>(g_sum) / float(cols), gx_mean = row_sum<kRow>(gx_sum) / float(cols);

  const auto write = [&](int c, Floats<W>& g, const Floats<W>& xhat) {
    for (int w = 0; w < W; ++w) g.v[w] = r * (g.v[w] - g_mean - xhat.v[w] * gx_mean);
    store(dx + start + c, g);
    if (!dz) return;
    const Floats<W> mask = dropout_factors<W>(dropout, c);
    for (int w = 0; w < W; ++w) g.v[w] *= mask.v[w];
    store(dz + start + c, g);
  };
  for_columns<kRow, W>(cols, input, write, held_g, held_xhat);
}

// ---- dgamma = Σ_rows dy x̂,  dbeta = Σ_rows dy ----
//
// A block of 32 × 8 threads takes 32 columns of 256 rows or more: thread (i, j) adds rows j, j + 8, … of column i, then
// the eight sums meet in shared memory (2 KiB). A warp reads 128 bytes of one row; the row's mean and rstd come to all
// its lanes in one access. The sums of each chunk of rows go to memory, and column_sums adds those up.

constexpr int kRowsAtOnce = 8;
constexpr int64_t kRowsEach = 256;   // of one block, at least
constexpr int64_t kMaxChunks = 128;  // of rows

/// Row blockIdx.y of dgamma and dbeta (chunks, cols) = the sums over its rows_each rows.
__global__ void __launch_bounds__(kWarp* kRowsAtOnce)
    layer_norm_parameters_kernel(float* dgamma, float* dbeta, const float* dy, const float* s, const float* mean,
                                 const float* rstd, int64_t rows, int64_t cols, int64_t rows_each) {
  SHARED(float, gammas, [kRowsAtOnce][kWarp]);
  SHARED(float, betas, [kRowsAtOnce][kWarp]);
  const int64_t col = int64_t(blockIdx.x) * kWarp + threadIdx.x;
  const int64_t begin = blockIdx.y * rows_each, end = begin + rows_each < rows ? begin + rows_each : rows;
  float gamma_sum = 0, beta_sum = 0;
  if (col < cols)
#pragma unroll 4
    for (int64_t row = begin + threadIdx.y; row < end; row += kRowsAtOnce) {
      const float d = dy[row * cols + col];
      gamma_sum += d * ((s[row * cols + col] - mean[row]) * rstd[row]);
      beta_sum += d;
    }
  gammas[threadIdx.y][threadIdx.x] = gamma_sum;
  betas[threadIdx.y][threadIdx.x] = beta_sum;
  __syncthreads();
  if (threadIdx.y != 0 || col >= cols) return;
  for (int j = 1; j < kRowsAtOnce; ++j) gamma_sum += gammas[j][threadIdx.x], beta_sum += betas[j][threadIdx.x];
  dgamma[blockIdx.y * cols + col] = gamma_sum;
  dbeta[blockIdx.y * cols + col] = beta_sum;
}

/// dgamma += , dbeta += ; either may be null.
void add_parameters(float* dgamma, float* dbeta, const float* dy, const float* s, const float* mean, const float* rstd,
                    int64_t rows, int64_t cols) {
  const int64_t at_least = ceil_div(rows, kMaxChunks), rows_each = at_least > kRowsEach ? at_least : kRowsEach;
  const int64_t chunks = ceil_div(rows, rows_each);
  const Workspace<float> gammas(chunks * cols), betas(chunks * cols);
  const dim3 grid(unsigned(ceil_div(cols, kWarp)), unsigned(chunks));
  LAUNCH(layer_norm_parameters_kernel, grid, dim3(kWarp, kRowsAtOnce), 0, stream())
  (gammas, betas, dy, s, mean, rstd, rows, cols, rows_each);
  CUDA_LAUNCHED();
  if (dgamma) column_sums(dgamma, gammas, chunks, cols);
  if (dbeta) column_sums(dbeta, betas, chunks, cols);
}

}  // namespace

void layer_norm_forward(real* y, real* s, real* mean, real* rstd, const real* x, const real* z, const real* z_bias,
                        const real* gamma, const real* beta, real eps, Dropout dropout, int64_t rows, int64_t cols) {
  if (rows * cols == 0) return;
  const auto launch = [&](auto kRow, auto W, unsigned blocks) {
    LAUNCH((layer_norm_forward_kernel<kRow.value, W.value>), blocks, kRowBlock, 0, stream())
    (y, s, mean, rstd, x, z, z_bias, gamma, beta, eps, dropout, rows, int(cols));
    CUDA_LAUNCHED();
  };
  launch_rows(rows, cols, launch, y, s, x, z, z_bias, gamma, beta);
}

void layer_norm_backward(real* dx, real* dz, real* dz_bias, real* dgamma, real* dbeta, const real* dy, const real* s,
                         const real* mean, const real* rstd, const real* gamma, Dropout dropout, int64_t rows,
                         int64_t cols) {
  if (rows * cols == 0) return;
  if (dgamma || dbeta) add_parameters(dgamma, dbeta, dy, s, mean, rstd, rows, cols);
  const auto launch = [&](auto kRow, auto W, unsigned blocks) {
    LAUNCH((layer_norm_backward_kernel<kRow.value, W.value>), blocks, kRowBlock, 0, stream())
    (dx, dz, dy, s, mean, rstd, gamma, dropout, rows, int(cols));
    CUDA_LAUNCHED();
  };
  launch_rows(rows, cols, launch, dx, dz, dy, s, gamma);
  if (dz && dz_bias) column_sums(dz_bias, dz, rows, cols);
}

}  // namespace lem::LEM_DEVICE
