// Softmax along rows, alone and fused with the cross entropy. Bound by memory. A row is a warp's or a block's and stays
// in registers up to 512 or 4096 columns (cuda/rows.h), so softmax reads and writes each number once: 8 bytes forward,
// 12 backward. The cross entropy never stores its softmax: 4 bytes forward, 8 backward.
//
// Outputs may be the memory of inputs: a thread reads only columns that it writes itself, and before it does.
#include <cfloat>

#include "cuda/rows.h"

namespace lem::LEM_DEVICE {
namespace {

// ---- y_j = exp(x_j − max) / Σ_k exp(x_k − max) ----

// Two blocks an SM leave a thread 128 registers; left alone, the compiler takes 48 and spills the columns it holds.
template <int kRow, int W>
__global__ void __launch_bounds__(kRowBlock, 2)
    softmax_forward_kernel(float* y, const float* x, const float* bias, int64_t rows, int cols) {
  const int64_t row = row_of_thread<kRow>(), start = row * cols;
  if (row >= rows) return;
  const auto input = [&](int c, Floats<W>& v) {
    v = load<W>(x + start + c);
    if (!bias) return;
    const Floats<W> b = load<W>(bias + c);
    for (int w = 0; w < W; ++w) v.v[w] += b.v[w];
  };
  Held<W> held;
  hold<kRow, W>(cols, input, held);

  float largest = -INFINITY;
  const auto find_largest = [&](int, Floats<W>& v) {
    for (int w = 0; w < W; ++w) largest = fmaxf(largest, v.v[w]);
  };
  for_columns<kRow, W>(cols, input, find_largest, held);
  largest = row_max<kRow>(largest);

  const auto exponential = [&](int, Floats<W>& v) {
    for (int w = 0; w < W; ++w) v.v[w] = expf(v.v[w] - largest);
  };
  float total = 0;
  const auto sum_up = [&](int c, Floats<W>& v) {
    exponential(c, v);
    for (int w = 0; w < W; ++w) total += v.v[w];
  };
  for_columns<kRow, W>(cols, input, sum_up, held);

  const float inverse = 1 / row_sum<kRow>(total);
  const auto write = [&](int c, Floats<W>& v) {
    for (int w = 0; w < W; ++w) v.v[w] *= inverse;
    store(y + start + c, v);
  };
  const auto input_exponential = [&](int c, Floats<W>& v) {
    input(c, v);
    exponential(c, v);
  };
  for_columns<kRow, W>(cols, input_exponential, write, held);
}

// ---- dx_j = y_j (dy_j − Σ_k dy_k y_k) ----

template <int kRow, int W>
__global__ void __launch_bounds__(kRowBlock)
    softmax_backward_kernel(float* dx, const float* dy, const float* y, int64_t rows, int cols) {
  const int64_t row = row_of_thread<kRow>(), start = row * cols;
  if (row >= rows) return;
  const auto input = [&](int c, Floats<W>& d, Floats<W>& p) {
    d = load<W>(dy + start + c);
    p = load<W>(y + start + c);
  };
  Held<W> held_d, held_p;
  hold<kRow, W>(cols, input, held_d, held_p);

  float dot = 0;
  const auto sum_up = [&](int, const Floats<W>& d, const Floats<W>& p) {
    for (int w = 0; w < W; ++w) dot += d.v[w] * p.v[w];
  };
  for_columns<kRow, W>(cols, input, sum_up, held_d, held_p);
  dot = row_sum<kRow>(dot);

  const auto write = [&](int c, Floats<W>& d, const Floats<W>& p) {
    for (int w = 0; w < W; ++w) d.v[w] = p.v[w] * (d.v[w] - dot);
    store(dx + start + c, d);
  };
  for_columns<kRow, W>(cols, input, write, held_d, held_p);
}

// ---- loss = lse − x_target, lse = log Σ_j exp x_j ----
//
// In one pass: each thread keeps the largest number so far and the sum of exponentials relative to it. It begins at the
// least float there is, not at −∞, of which no difference can be taken.

struct Exponentials {
  float largest = -FLT_MAX, total = 0;

  /// One exponential a number, without branches; NaN gets into the total.
  __device__ void add(float x) {
    const float e = expf(-fabsf(x - largest));
    if (x > largest)
      total = total * e + 1, largest = x;
    else
      total += e;
  }
};

template <int kRow, int W>
__global__ void __launch_bounds__(kRowBlock)
    cross_entropy_forward_kernel(float* loss, float* lse, const float* logits, const int32_t* targets, int64_t rows,
                                 int cols) {
  const int64_t row = row_of_thread<kRow>();
  if (row >= rows) return;
  const float* x = logits + row * cols;
  const int target = targets[row];  // the same for all threads of the row: they leave together
  if (target < 0) {
    if (lane_in_row<kRow>() == 0) loss[row] = lse[row] = 0;
    return;
  }
  Exponentials mine;
  for_each_column<kRow, W>(cols, [&](int c) {
    const Floats<W> v = load<W>(x + c);
    for (int w = 0; w < W; ++w) mine.add(v.v[w]);
  });
  const float largest = row_max<kRow>(mine.largest);
  const float total = row_sum<kRow>(mine.total * expf(mine.largest - largest));
  if (lane_in_row<kRow>() != 0) return;
  const float log_sum = largest + logf(total);
  lse[row] = log_sum;
  loss[row] = log_sum - x[target];
}

// ---- dlogits = dloss (softmax − onehot) ----

template <int kRow, int W>
__global__ void __launch_bounds__(kRowBlock)
    cross_entropy_backward_kernel(float* dlogits, const float* dloss, float scale, const float* logits,
                                  const float* lse, const int32_t* targets, int64_t rows, int cols) {
  const int64_t row = row_of_thread<kRow>(), start = row * cols;
  if (row >= rows) return;
  const int target = targets[row];
  const float d = dloss[0] * scale, log_sum = lse[row];
  for_each_column<kRow, W>(cols, [&](int c) {
    Floats<W> v{};
    if (target >= 0) {
      v = load<W>(logits + start + c);
      for (int w = 0; w < W; ++w) v.v[w] = d * expf(v.v[w] - log_sum) - (c + w == target ? d : 0.0f);
    }
    store(dlogits + start + c, v);
  });
}

}  // namespace

void softmax_forward(real* y, const real* x, const real* bias, int64_t rows, int64_t cols) {
  if (rows * cols == 0) return;
  const auto launch = [&](auto kRow, auto W, unsigned blocks) {
    LAUNCH((softmax_forward_kernel<kRow.value, W.value>), blocks, kRowBlock, 0, stream())(y, x, bias, rows, int(cols));
    CUDA_LAUNCHED();
  };
  launch_rows(rows, cols, launch, y, x, bias);
}

void softmax_backward(real* dx, const real* dy, const real* y, int64_t rows, int64_t cols) {
  if (rows * cols == 0) return;
  const auto launch = [&](auto kRow, auto W, unsigned blocks) {
    LAUNCH((softmax_backward_kernel<kRow.value, W.value>), blocks, kRowBlock, 0, stream())(dx, dy, y, rows, int(cols));
    CUDA_LAUNCHED();
  };
  launch_rows(rows, cols, launch, dx, dy, y);
}

void cross_entropy_forward(real* loss, real* lse, const real* logits, const int32_t* targets, int64_t rows,
                           int64_t cols) {
  if (rows == 0) return;
  const auto launch = [&](auto kRow, auto W, unsigned blocks) {
    LAUNCH((cross_entropy_forward_kernel<kRow.value, W.value>), blocks, kRowBlock, 0, stream())
    (loss, lse, logits, targets, rows, int(cols));
    CUDA_LAUNCHED();
  };
  launch_rows(rows, cols, launch, logits);
}

void cross_entropy_backward(real* dlogits, const real* dloss, real scale, const real* logits, const real* lse,
                            const int32_t* targets, int64_t rows, int64_t cols) {
  if (rows * cols == 0) return;
  const auto launch = [&](auto kRow, auto W, unsigned blocks) {
    LAUNCH((cross_entropy_backward_kernel<kRow.value, W.value>), blocks, kRowBlock, 0, stream())
    (dlogits, dloss, scale, logits, lse, targets, rows, int(cols));
    CUDA_LAUNCHED();
  };
  launch_rows(rows, cols, launch, dlogits, logits);
}

}  // namespace lem::LEM_DEVICE
