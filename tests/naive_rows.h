// Softmax and layer normalisation of one row in plain loops and in double: what kernels and lessons must equal.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace lem::naive {

/// Softmax of the row x(0) … x(cols − 1); lse: the logarithm of its sum of exponentials.
inline std::vector<double> softmax_row(const std::function<double(int64_t)>& x, int64_t cols, double* lse = nullptr) {
  std::vector<double> y(static_cast<size_t>(cols));
  double largest = -INFINITY, total = 0;
  for (int64_t col = 0; col < cols; ++col) largest = std::max(largest, x(col));
  for (int64_t col = 0; col < cols; ++col) total += y[size_t(col)] = std::exp(x(col) - largest);
  for (double& v : y) v /= total;
  if (lse) *lse = largest + std::log(total);
  return y;
}

/// What layer normalisation takes from a row and multiplies it by: rstd = 1/√(var + eps).
struct Moments {
  double mean, rstd;
};
inline Moments row_moments(const std::function<double(int64_t)>& x, int64_t cols, double eps) {
  double total = 0, squares = 0;
  for (int64_t col = 0; col < cols; ++col) total += x(col);
  const double mean = total / double(cols);
  for (int64_t col = 0; col < cols; ++col) squares += std::pow(x(col) - mean, 2);
  return {mean, 1 / std::sqrt(squares / double(cols) + eps)};
}

}  // namespace lem::naive
