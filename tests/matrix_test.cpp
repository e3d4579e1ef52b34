// Products of matrices seen inside tensors, against sums written out.
#include "autograd/matrix.h"

#include "tests/catch.h"
#include "tests/numeric.h"

namespace lem {
namespace {

using Catch::Contains;

Tensor random(const Shape& shape, uint64_t stream) {
  return Tensor::from(test::random_fill(shape.numel(), stream), shape);
}

real& at(const MatrixView& x, int64_t i, int64_t row, int64_t col) {
  if (x.transposed) std::swap(row, col);
  return x.data[(x.batch == 1 ? 0 : i) * x.stride + row * x.ld + col];
}

/// Numbers of c that multiply() gets wrong, or touches outside the view; `all` is the tensor that c is a view of.
double error_of(const Tensor& all, const MatrixView& c, const MatrixView& a, const MatrixView& b, Scales scales) {
  const std::vector<real> before = all.to_vector();
  multiply(c, a, b, scales);
  const std::vector<real> got = all.to_vector();
  std::copy(before.begin(), before.end(), all.data());
  const int64_t batch = std::max({a.batch, b.batch, c.batch});
  for (int64_t i = 0; i < c.batch; ++i)
    for (int64_t row = 0; row < c.rows; ++row)
      for (int64_t col = 0; col < c.cols; ++col) {
        double sum = 0;
        for (int64_t term = c.batch == 1 ? 0 : i; term < (c.batch == 1 ? batch : i + 1); ++term)
          for (int64_t k = 0; k < a.cols; ++k) sum += double(at(a, term, row, k)) * double(at(b, term, k, col));
        real& value = at(c, i, row, col);
        value = real(scales.alpha * sum + (scales.beta == 0 ? 0 : scales.beta * value));
      }
  const double error = test::relative_error(got, all.to_vector());
  std::copy(before.begin(), before.end(), all.data());
  return error;
}

TEST_CASE("products through views equal sums written out", "[matrix]") {
  const double tolerance = kDouble ? 1e-14 : 1e-6;
  const Scales scales = GENERATE(Scales{}, Scales{.alpha = real(.5), .beta = 1}, Scales{.beta = -2});
  // c (3, 5) = a (3, 4) b (4, 5), each stored as it is or transposed.
  const int stored = GENERATE(range(0, 8));
  const auto view = [&](const Tensor& plain, const Tensor& turned, int bit) {
    return stored >> bit & 1 ? as_matrix(turned).T() : as_matrix(plain);
  };
  const Tensor a = random({3, 4}, 1), aT = random({4, 3}, 2), b = random({4, 5}, 3), bT = random({5, 4}, 4),
               c = random({3, 5}, 5), cT = random({5, 3}, 6);
  CHECK(error_of(stored & 1 ? cT : c, view(c, cT, 0), view(a, aT, 1), view(b, bT, 2), scales) < tolerance);

  // The same inside a batch: c_b (3, 5) are rows 2 … 4 of (6, 5) or columns of (5, 6), a_b and b_b slices of (6, 4) and
  // (6, 5).
  const auto rows = [&](const Tensor& plain, const Tensor& turned, int bit, int64_t begin, int64_t end) {
    return (stored >> bit & 1 ? as_matrices(turned).T() : as_matrices(plain)).slice(begin, end);
  };
  const Tensor A = random({2, 6, 4}, 7), AT = random({2, 4, 6}, 8), B = random({2, 6, 5}, 9),
               BT = random({2, 5, 6}, 10), C = random({2, 6, 5}, 11), CT = random({2, 5, 6}, 12);
  const Tensor& all = stored & 1 ? CT : C;
  const MatrixView each_c = rows(C, CT, 0, 2, 5), each_a = rows(A, AT, 1, 0, 3), each_b = rows(B, BT, 2, 1, 5);
  CHECK(error_of(all, each_c, each_a, each_b, scales) < tolerance);
  CHECK(error_of(all, each_c, view(a, aT, 1), each_b, scales) < tolerance);  // one a for all
  CHECK(error_of(all, each_c, each_a, view(b, bT, 2), scales) < tolerance);
  CHECK(error_of(all, each_c[1], each_a, each_b, scales) < tolerance);  // the sum of both products
  CHECK(error_of(all, each_c[1], each_a[0], each_b[1], scales) < tolerance);
}

TEST_CASE("heads are blocks of columns", "[matrix]") {
  const Tensor x = random({2, 3, 8}, 1), W = random({6, 8}, 2), y = random({2, 3, 12}, 3);
  const MatrixView heads = as_matrices(x)[1].split(4);
  CHECK((heads.batch == 4 && heads.rows == 3 && heads.cols == 2));
  CHECK(&at(heads, 3, 2, 1) == x.data() + 3 * 8 + 2 * 8 + 3 * 2 + 1);
  CHECK(error_of(y, as_matrix(y).split(2), as_matrix(x).split(2), as_matrix(W.reshape({4, 12})).split(2), {}) <
        (kDouble ? 1e-14 : 1e-6));
}

TEST_CASE("a product adds to a gradient that is wanted", "[matrix]") {
  const Tensor a = random({3, 4}, 1), b = random({4, 5}, 2), y = zeros({3, 5}, Device::cpu);
  multiply(as_matrix(y), as_matrix(a), as_matrix(b));
  const Variable x = Variable::leaf(random({3, 5}, 3));
  add_product({}, as_matrix, as_matrix(a), as_matrix(b));
  add_product(x.slot(), as_matrix, as_matrix(a), as_matrix(b));
  CHECK(x.grad().to_vector() == y.to_vector());
  add_product(x.slot(), as_matrix, as_matrix(a), as_matrix(b));
  for (int64_t i = 0; i < y.numel(); ++i) CHECK(x.grad().data()[i] == Approx(2 * y.data()[i]));
}

TEST_CASE("matrices that do not fit are refused", "[matrix][error]") {
  const Tensor x = zeros({2, 3, 4}, Device::cpu), y = zeros({3, 4, 4}, Device::cpu), z = zeros({2, 3, 3}, Device::cpu);
  CHECK_THROWS_WITH(multiply(as_matrices(z), as_matrices(x), as_matrices(x)),
                    Contains("[multiply] matrices do not fit: got 2 × (3, 3) = 2 × (3, 4) by 2 × (3, 4)"));
  CHECK_THROWS_WITH(multiply(as_matrices(x), as_matrices(x), as_matrices(y)), Contains("2 × (3, 4) by 3 × (4, 4)"));
  CHECK_THROWS_WITH(multiply(as_matrix(x), as_matrices(x), as_matrices(y)[0]), Contains("got 1 × (6, 4)"));
  CHECK_THROWS_WITH(as_matrices(x).slice(1, 4), "[matrix] rows [1, 4) are not within 3");
  CHECK_THROWS_WITH(as_matrices(x)[2], "[matrix] matrix 2 is not one of 2");
  CHECK_THROWS_WITH(as_matrix(x).split(3), Contains("[matrix]") && Contains("4 columns") && Contains("3 heads"));
}

}  // namespace
}  // namespace lem
