// Four kernels of the library, each from the plainest that is right to the library's own, in four versions; read them
// in the order softmax, reduce, layer_norm, expectation (docs/simt.md). All versions of a lesson compute the same, of
// contiguous arrays in the device's memory that do not overlap, and are queued on the device's one stream. There is at
// least one row, number or query.
#pragma once

#include "tensor/kernel_types.h"

namespace lem {

inline constexpr int kLessonVersions = 4;

/// y (rows, cols) = softmax of the rows of x
using SoftmaxLesson = void (*)(real* y, const real* x, int64_t rows, int64_t cols);
/// y (rows, cols) = gamma (x − mean) rstd + beta, with mean (rows) and rstd (rows) = 1/√(var + eps); gamma, beta (cols)
using LayerNormLesson = void (*)(real* y, real* mean, real* rstd, const real* x, const real* gamma, const real* beta,
                                 real eps, int64_t rows, int64_t cols);
/// y[0] = Σ x, n ≥ 1 numbers
using SumLesson = void (*)(real* y, const real* x, int64_t n);
/// z (T, D) = r values with r_tj = E_{p_t}[ψ_j]: Gaussian densities (2, T), all μ before all σ², N Gaussian functions,
/// values (N, D)
using ExpectationLesson = void (*)(real* z, const real* density, const real* values, BasisView basis, int64_t T,
                                   int64_t D);

/// Version v of a lesson stands at v − 1.
struct Lessons {
  const SoftmaxLesson* softmax;
  const LayerNormLesson* layer_norm;
  const SumLesson* sum;
  const ExpectationLesson* expectation;
};

// Null: not in this build, which lacks the device, or computes in double.
namespace simt {
const Lessons* lessons();
}
namespace cuda {
const Lessons* lessons();
}

}  // namespace lem
