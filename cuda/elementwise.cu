// Kernels on flat arrays. All are bound by memory: what one costs is the bytes it moves, given with each. 256 threads a
// block fill an SM whatever their number of blocks is; the grid strides, so that a large array needs no more blocks
// than a GPU holds.
//
// A thread takes four neighbours at a time, in one 16-byte access, where all arrays begin on 16 bytes: a quarter of the
// requests, and one Philox block gives exactly their four dropout draws.
#include "cuda/device.h"
#include "tensor/pointwise.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;

// ---- one element or four, from i on ----

struct One {
  int64_t i;
};
struct Four {
  int64_t i;
};
__device__ inline float load(const float* x, One at) { return x[at.i]; }
__device__ inline float4 load(const float* x, Four at) { return *reinterpret_cast<const float4*>(x + at.i); }

/// What dropout multiplies the elements with.
__device__ inline float mask(const Dropout& d, One at) { return dropout_at(d, at.i); }
__device__ inline float4 mask(const Dropout& d, Four at) {
  if (d.p == 0) return {1, 1, 1, 1};
  const uint4 bits = philox_draws(d.stream, d.first + uint64_t(at.i));
  return {dropout_factor(d, bits.x), dropout_factor(d, bits.y), dropout_factor(d, bits.z), dropout_factor(d, bits.w)};
}

/// y[i] = f(i, x[i]…)
template <class F, class... X>
__device__ inline void set(float* y, One at, F f, X... x) {
  y[at.i] = f(at.i, x...);
}
template <class F, class... X>
__device__ inline void set(float* y, Four at, F f, X... x) {
  *reinterpret_cast<float4*>(y + at.i) = {f(at.i, x.x...), f(at.i + 1, x.y...), f(at.i + 2, x.z...),
                                          f(at.i + 3, x.w...)};
}

/// body(at) for all n elements, shared out over the grid: by fours where the arrays (null or not) allow it, and what is
/// left one by one.
template <class Body, class... Arrays>
__device__ inline void for_elements(int64_t n, Body body, const Arrays*... arrays) {
  const bool aligned = ((reinterpret_cast<uintptr_t>(arrays) % 16 == 0) && ...);
  const int64_t fours = aligned ? n / 4 : 0;
  for (int64_t i = thread_in_grid(); i < fours; i += threads_in_grid()) body(Four{4 * i});
  for (int64_t i = 4 * fours + thread_in_grid(); i < n; i += threads_in_grid()) body(One{i});
}

__device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

// ---- y = value (4 bytes an element), a x (8), y + a x (12), a + b (12) ----

__global__ void __launch_bounds__(kThreads) fill_kernel(float* y, float value, int64_t n) {
  for_elements(
      n,
      [&](auto at) {
        set(
            y, at, [&](int64_t, float) { return value; }, mask({}, at));
      },
      y);
}
__global__ void __launch_bounds__(kThreads) scale_kernel(float* y, float a, const float* x, int64_t n) {
  for_elements(
      n,
      [&](auto at) {
        set(
            y, at, [&](int64_t, float v) { return a * v; }, load(x, at));
      },
      y, x);
}
__global__ void __launch_bounds__(kThreads) axpy_kernel(float* y, float a, const float* x, int64_t n) {
  for_elements(
      n,
      [&](auto at) {
        set(
            y, at, [&](int64_t, float v, float u) { return v + a * u; }, load(y, at), load(x, at));
      },
      y, x);
}
__global__ void __launch_bounds__(kThreads) add_kernel(float* y, const float* a, const float* b, int64_t n) {
  for_elements(
      n,
      [&](auto at) {
        set(
            y, at, [](int64_t, float u, float v) { return u + v; }, load(a, at), load(b, at));
      },
      y, a, b);
}

// ---- the smoothing gate, y = x ⊙ sigmoid(g): 12 bytes forward, 20 backward ----
//
//   dx = dy σ(g),   dg = dy x σ(g) (1 − σ(g)),   1 − σ(g) = σ(−g), which keeps its digits for large g

__global__ void __launch_bounds__(kThreads) gate_forward_kernel(float* y, const float* x, const float* g, int64_t n) {
  for_elements(
      n,
      [&](auto at) {
        set(
            y, at, [](int64_t, float v, float u) { return v * sigmoid(u); }, load(x, at), load(g, at));
      },
      y, x, g);
}
__global__ void __launch_bounds__(kThreads)
    gate_backward_kernel(float* dx, float* dg, const float* dy, const float* x, const float* g, int64_t n) {
  for_elements(
      n,
      [&](auto at) {
        const auto d = load(dy, at), gate = load(g, at);
        set(
            dg, at, [](int64_t, float dv, float v, float u) { return dv * v * sigmoid(u) * sigmoid(-u); }, d,
            load(x, at), gate);
        if (dx)
          set(
              dx, at, [](int64_t, float dv, float u) { return dv * sigmoid(u); }, d, gate);
      },
      dx, dg, dy, x, g);
}

// ---- y = dropout(act(x + bias)): 8 bytes forward, 12 backward; the bias stays in the cache ----

template <Activation act>
__global__ void __launch_bounds__(kThreads)
    bias_act_forward_kernel(float* y, const float* x, const float* bias, Dropout dropout, int64_t n, int64_t cols) {
  for_elements(
      n,
      [&](auto at) {
        set(
            y, at, [&](int64_t i, float v, float m) { return m * activate<act>(bias ? v + bias[i % cols] : v); },
            load(x, at), mask(dropout, at));
      },
      y, x);
}
// Four blocks an SM leave a thread 64 registers; left alone, the compiler takes 40 and spills.
template <Activation act>
__global__ void __launch_bounds__(kThreads, 4)
    bias_act_backward_kernel(float* dx, const float* dy, const float* x, const float* bias, Dropout dropout, int64_t n,
                             int64_t cols) {
  for_elements(
      n,
      [&](auto at) {
        set(
            dx, at,
            [&](int64_t i, float d, float v, float m) {
              return d * m * activation_slope<act>(bias ? v + bias[i % cols] : v);
            },
            load(dy, at), load(x, at), mask(dropout, at));
      },
      dx, dy, x);
}

/// Blocks for n elements, four a thread.
unsigned blocks(int64_t n) { return blocks_for(n, 4 * kThreads); }

}  // namespace

void fill(real* y, real value, int64_t n) {
  if (n == 0) return;
  LAUNCH(fill_kernel, blocks(n), kThreads, 0, stream())(y, value, n);
  CUDA_LAUNCHED();
}
void scale(real* y, real a, const real* x, int64_t n) {
  if (n == 0) return;
  LAUNCH(scale_kernel, blocks(n), kThreads, 0, stream())(y, a, x, n);
  CUDA_LAUNCHED();
}
void axpy(real* y, real a, const real* x, int64_t n) {
  if (n == 0) return;
  LAUNCH(axpy_kernel, blocks(n), kThreads, 0, stream())(y, a, x, n);
  CUDA_LAUNCHED();
}
void add(real* y, const real* a, const real* b, int64_t n) {
  if (n == 0) return;
  LAUNCH(add_kernel, blocks(n), kThreads, 0, stream())(y, a, b, n);
  CUDA_LAUNCHED();
}

void sigmoid_gate_forward(real* y, const real* x, const real* g, int64_t n) {
  if (n == 0) return;
  LAUNCH(gate_forward_kernel, blocks(n), kThreads, 0, stream())(y, x, g, n);
  CUDA_LAUNCHED();
}
void sigmoid_gate_backward(real* dx, real* dg, const real* dy, const real* x, const real* g, int64_t n) {
  if (n == 0) return;
  LAUNCH(gate_backward_kernel, blocks(n), kThreads, 0, stream())(dx, dg, dy, x, g, n);
  CUDA_LAUNCHED();
}

void bias_act_forward(real* y, const real* x, const real* bias, Activation act, Dropout dropout, int64_t rows,
                      int64_t cols) {
  if (rows * cols == 0) return;
  const auto kernel = act == Activation::relu   ? bias_act_forward_kernel<Activation::relu>
                      : act == Activation::gelu ? bias_act_forward_kernel<Activation::gelu>
                                                : bias_act_forward_kernel<Activation::identity>;
  LAUNCH(kernel, blocks(rows * cols), kThreads, 0, stream())(y, x, bias, dropout, rows * cols, cols);
  CUDA_LAUNCHED();
}
void bias_act_backward(real* dx, real* dbias, const real* dy, const real* x, const real* bias, Activation act,
                       Dropout dropout, int64_t rows, int64_t cols) {
  if (rows * cols == 0) return;
  const auto kernel = act == Activation::relu   ? bias_act_backward_kernel<Activation::relu>
                      : act == Activation::gelu ? bias_act_backward_kernel<Activation::gelu>
                                                : bias_act_backward_kernel<Activation::identity>;
  LAUNCH(kernel, blocks(rows * cols), kThreads, 0, stream())(dx, dy, x, bias, dropout, rows * cols, cols);
  CUDA_LAUNCHED();
  if (dbias) column_sums(dbias, dx, rows, cols);  // dx is what the bias meets in every row
}

}  // namespace lem::LEM_DEVICE
