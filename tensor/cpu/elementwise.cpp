// Elementwise kernels. All are bound by memory: each element is read and written once.
#include <cmath>

#include "tensor/backend.h"
#include "tensor/cpu/dropout.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/simd.h"
#include "tensor/pointwise.h"

namespace lem::cpu {

void fill(real* y, real value, int64_t n) {
  parallel_for(n, 1, [=](int64_t begin, int64_t end) { std::fill(y + begin, y + end, value); });
}

void scale(real* y, real a, const real* x, int64_t n) {
  parallel_for(n, 1, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = a * x[i];
  });
}

void axpy(real* y, real a, const real* x, int64_t n) {
  parallel_for(n, 1, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] += a * x[i];
  });
}

void add(real* y, const real* a, const real* b, int64_t n) {
  parallel_for(n, 1, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = a[i] + b[i];
  });
}

// ---- gate: y = x ⊙ σ(g) ---------------------------------------------------------------------------------------------

void sigmoid_gate_forward(real* y, const real* x, const real* g, int64_t n) {
  parallel_for(n, 8, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = x[i] * sigmoid(g[i]);
  });
}

// ∂y/∂x = σ(g), ∂y/∂g = x σ(g) (1 − σ(g)), where 1 − σ(g) = e^−g σ(g) keeps its digits for large g
void sigmoid_gate_backward(real* dx, real* dg, const real* dy, const real* x, const real* g, int64_t n) {
  parallel_for(n, 8, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const real e = exp(-g[i]), gate = 1 / (1 + e), dyi = dy[i];
      dg[i] = dyi * x[i] * gate * (e * gate);
      if (dx) dx[i] = dyi * gate;
    }
  });
}

// ---- y = dropout(act(x + bias)) -------------------------------------------------------------------------------------

namespace {

/// One instance per activation, so that the choice stands outside the loops and these become vector code.
template <Activation act>
void forward_rows(real* y, const real* x, const real* bias, const Dropout& dropout, int64_t begin, int64_t end,
                  int64_t cols) {
  for (int64_t row = begin; row < end; ++row) {
    const real* xr = x + row * cols;
    real* yr = y + row * cols;
    with_dropout(dropout, row * cols, cols, [=](int64_t at, const real* mask, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const real v = activate<act>(bias ? xr[at + i] + bias[at + i] : xr[at + i]);
        yr[at + i] = mask ? v * mask[i] : v;
      }
    });
  }
}

template <Activation act>
void backward_rows(real* dx, real* dbias, const real* dy, const real* x, const real* bias, const Dropout& dropout,
                   int64_t begin, int64_t end, int64_t cols) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t start = row * cols;
    with_dropout(dropout, start, cols, [=](int64_t at, const real* mask, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const real v = bias ? x[start + at + i] + bias[at + i] : x[start + at + i];
        const real d = (mask ? dy[start + at + i] * mask[i] : dy[start + at + i]) * activation_slope<act>(v);
        dx[start + at + i] = d;
      }
      if (dbias)
        for (int64_t i = 0; i < n; ++i) dbias[at + i] += dx[start + at + i];
    });
  }
}

}  // namespace

void bias_act_forward(real* y, const real* x, const real* bias, Activation act, Dropout dropout, int64_t rows,
                      int64_t cols) {
  const auto body = act == Activation::relu   ? forward_rows<Activation::relu>
                    : act == Activation::gelu ? forward_rows<Activation::gelu>
                                              : forward_rows<Activation::identity>;
  parallel_for(rows, cols, [=](int64_t begin, int64_t end) { body(y, x, bias, dropout, begin, end, cols); });
}

void bias_act_backward(real* dx, real* dbias, const real* dy, const real* x, const real* bias, Activation act,
                       Dropout dropout, int64_t rows, int64_t cols) {
  const auto body = act == Activation::relu   ? backward_rows<Activation::relu>
                    : act == Activation::gelu ? backward_rows<Activation::gelu>
                                              : backward_rows<Activation::identity>;
  const auto block = [=](int64_t begin, int64_t end, real* partial) {
    body(dx, partial, dy, x, bias, dropout, begin, end, cols);
  };
  if (dbias)
    reduce_rows(dbias, rows, cols, block);
  else
    parallel_for(rows, cols, [=](int64_t begin, int64_t end) { block(begin, end, nullptr); });
}

}  // namespace lem::cpu
