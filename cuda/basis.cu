// The basis functions themselves, and their expectations under a density, as plain matrices
// (docs/continuous-memory.md).
#include "cuda/expectation.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

/// psi (n, N): a thread has one element, neighbours are neighbours in the row. Bound by the 4 bytes it writes: t, a and
/// b are read by many threads, from the cache. 256 threads fill an SM whatever its number of block slots is.
__global__ void __launch_bounds__(kThreads) evaluate_kernel(float* psi, const float* t, BasisView basis, int64_t n) {
  for (int64_t e = thread_in_grid(); e < n * basis.N; e += threads_in_grid()) {
    const int64_t i = e / basis.N, j = e % basis.N;
    const float u = t[i], a = basis.a[j];
    float y = 0;
    switch (basis.kind) {
      case BasisKind::gaussian: {
        const float inverse = 1 / basis.b[j], x = (u - a) * inverse;
        y = inverse * normal_pdf(x);
        break;
      }
      case BasisKind::power:
        y = powf(u, a);
        break;
      case BasisKind::sine:
        y = wave(a, u).im;
        break;
      case BasisKind::cosine:
        y = wave(a, u).re;
        break;
      case BasisKind::rectangle:
        y = u >= a && (u < basis.b[j] || (u == 1 && basis.b[j] == 1)) ? 1 : 0;
        break;
    }
    psi[e] = y;
  }
}

/// r (n, N) = E_{p_i}[ψ_j]: a thread has one density and 32 neighbouring functions, for which the density's own part is
/// worked out once; a warp's densities are neighbours, so the functions' parameters are the same for all its lanes. Its
/// writes are not coalesced: this one is for figures and tests. Four blocks of 128 threads an SM leave
/// a thread 128 registers, all that the closed forms want.
constexpr int kFunctions = 32, kDensities = 128;

template <class E>
__global__ void __launch_bounds__(kDensities, 4)
    expectation_kernel(float* r, const float* density, BasisView basis, int64_t n) {
  const int64_t parts = ceil_div(basis.N, kFunctions);
  const int64_t i = blockIdx.x / parts * kDensities + threadIdx.x, begin = blockIdx.x % parts * kFunctions;
  if (i >= n) return;
  E expect(density[i], density[n + i]);
  for (int64_t j0 = begin; j0 < basis.N && j0 < begin + kFunctions; j0 += 8)
    eight_expectations(expect, basis.a + j0, basis.b + j0, int(min(basis.N - j0, int64_t(8))),
                       [&](int j, const Expectation& e) { r[i * basis.N + j0 + j] = e.value; });
}

}  // namespace

void basis_evaluate(real* psi, const real* t, BasisView basis, int64_t n) {
  if (n * basis.N == 0) return;
  LAUNCH(evaluate_kernel, blocks_for(n * basis.N, kThreads), kThreads, 0, stream())(psi, t, basis, n);
  CUDA_LAUNCHED();
}

void basis_expectation(real* r, const real* density, BasisView basis, DensityKind kind, int64_t n) {
  if (n * basis.N == 0) return;
  const auto kernel = for_kinds<float>(basis.kind, kind, []<class E>(E*) { return &expectation_kernel<E>; });
  LAUNCH(kernel, unsigned(ceil_div(n, kDensities) * ceil_div(basis.N, kFunctions)), kDensities, 0, stream())
  (r, density, basis, n);
  CUDA_LAUNCHED();
}

}  // namespace lem::LEM_DEVICE
