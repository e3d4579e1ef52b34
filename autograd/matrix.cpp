#include "autograd/matrix.h"

#include <utility>

namespace lem {

MatrixView MatrixView::T() const {
  MatrixView view = *this;
  std::swap(view.rows, view.cols);
  view.transposed = !transposed;
  return view;
}

MatrixView MatrixView::slice(int64_t begin, int64_t end) const {
  check(0 <= begin && begin <= end && end <= rows, "[matrix] rows [{}, {}) are not within {}", begin, end, rows);
  MatrixView view = *this;
  view.data += begin * (transposed ? 1 : ld);
  view.rows = end - begin;
  return view;
}

MatrixView MatrixView::operator[](int64_t i) const {
  check(0 <= i && i < batch, "[matrix] matrix {} is not one of {}", i, batch);
  MatrixView view = *this;
  view.data += i * stride;
  view.batch = 1, view.stride = 0;
  return view;
}

MatrixView MatrixView::split(int64_t H) const {
  check(batch == 1 && !transposed && H > 0 && cols % H == 0,
        "[matrix] only one matrix as stored has heads side by side: got {}{} of {} columns for {} heads", batch,
        transposed ? ", transposed," : "", cols, H);
  MatrixView view = *this;
  view.cols = view.stride = cols / H;
  view.batch = H;
  return view;
}

MatrixView as_matrix(const Tensor& x) {
  int64_t rows = 1;  // not numel / cols: (5, 0) has five rows
  for (int axis = 0; axis + 1 < x.shape().rank(); ++axis) rows *= x.dim(axis);
  return {.device = x.device(), .data = x.data(), .rows = rows, .cols = x.dim(-1), .ld = x.dim(-1)};
}

MatrixView as_matrices(const Tensor& x) {
  MatrixView view = as_matrix(x);
  view.rows = x.dim(-2);
  view.stride = view.rows * view.cols;
  for (int axis = 0; axis + 2 < x.shape().rank(); ++axis) view.batch *= x.dim(axis);
  return view;
}

void multiply(const MatrixView& c, const MatrixView& a, const MatrixView& b, const Scales& scales) {
  if (c.transposed) return multiply(c.T(), b.T(), a.T(), scales);  // cᵀ = bᵀ aᵀ
  const int64_t batch = a.batch != 1 ? a.batch : b.batch != 1 ? b.batch : c.batch;
  const auto fits = [batch](const MatrixView& x) { return x.batch == 1 || x.batch == batch; };
  check(a.rows == c.rows && a.cols == b.rows && b.cols == c.cols && fits(a) && fits(b) && fits(c),
        "[multiply] matrices do not fit: got {} × ({}, {}) = {} × ({}, {}) by {} × ({}, {}), expected (m, n) = (m, k) "
        "by (k, n), as many or one of each",
        c.batch, c.rows, c.cols, a.batch, a.rows, a.cols, b.batch, b.rows, b.cols);
  const auto stride = [](const MatrixView& x) { return x.batch == 1 ? 0 : x.stride; };
  on(c.device).gemm(c.data, a.data, b.data,
                    {.m = c.rows,
                     .n = c.cols,
                     .k = a.cols,
                     .trans_a = a.transposed,
                     .trans_b = b.transposed,
                     .lda = a.ld,
                     .ldb = b.ld,
                     .ldc = c.ld,
                     .alpha = scales.alpha,
                     .beta = scales.beta,
                     .batch = batch,
                     .stride_a = stride(a),
                     .stride_b = stride(b),
                     .stride_c = stride(c)});
}

}  // namespace lem
