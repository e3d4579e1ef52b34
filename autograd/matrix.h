// Matrices inside tensors, for products: a batch row, a run of steps, a head, a transpose is a view, never a copy.
//
//   multiply(as_matrix(y), as_matrix(x), as_matrix(W))     y = x W
//   add_product(gw, as_matrix, as_matrix(x).T(), as_matrix(dy))     dW += xᵀ dy
#pragma once

#include "autograd/variable.h"

namespace lem {

/// `batch` matrices (rows, cols), `stride` numbers apart. Stored row-major, each row `ld` numbers after the one before;
/// a transposed view counts the stored columns as its rows.
struct MatrixView {
  Device device;
  real* data;
  int64_t rows, cols, ld;
  int64_t batch = 1, stride = 0;
  bool transposed = false;

  MatrixView T() const;
  /// Rows [begin, end) of each matrix.
  MatrixView slice(int64_t begin, int64_t end) const;
  /// Matrix i alone.
  MatrixView operator[](int64_t i) const;
  /// One matrix (rows, H·D) as its H blocks of columns (rows, D).
  MatrixView split(int64_t H) const;
};

/// (…, cols) as one matrix: everything before the last axis is rows.
MatrixView as_matrix(const Tensor& x);
/// (…, rows, cols) as a batch of matrices.
MatrixView as_matrices(const Tensor& x);

struct Scales {
  real alpha = 1, beta = 0;
};
/// c = alpha a b + beta c, matrix by matrix. A batch of one serves all: such a factor is shared by all products, and
/// such a c gets their sum. An Error if sizes do not fit.
void multiply(const MatrixView& c, const MatrixView& a, const MatrixView& b, const Scales& scales = {});

/// Adds a b to the gradient seen through `view`, if one is wanted.
template <class View>
void add_product(const GradSlot& slot, View view, const MatrixView& a, const MatrixView& b) {
  if (!slot) return;
  const auto [gradient, beta] = slot->target();
  multiply(view(gradient), a, b, {.beta = beta});
}

}  // namespace lem
