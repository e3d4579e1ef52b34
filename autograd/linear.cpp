// Matrix products. For Y = X W, with dY the gradient of Y:  dX = dY Wᵀ,  dW = Xᵀ dY.
#include <algorithm>
#include <array>

#include "autograd/ops.h"

namespace lem {
namespace {

/// (…, cols) seen as rows × cols.
struct Rows {
  int64_t rows, cols;
};
Rows as_rows(const Shape& s) {
  int64_t rows = 1;  // not numel / cols: (5, 0) has five rows
  for (int axis = 0; axis + 1 < s.rank(); ++axis) rows *= s[axis];
  return {rows, s[-1]};
}

Shape with_last(const Shape& s, int64_t last) {
  std::vector<int64_t> sizes = s.vector();
  sizes.back() = last;
  return Shape(sizes);
}

/// A plain product of contiguous row-major matrices: c (m, n) = op(a) op(b) + beta c.
void multiply(Device device, real* c, const real* a, bool ta, const real* b, bool tb, int64_t m, int64_t n, int64_t k,
              real beta = 0) {
  on(device).gemm(c, a, b,
                  {.m = m,
                   .n = n,
                   .k = k,
                   .trans_a = ta,
                   .trans_b = tb,
                   .lda = ta ? m : k,
                   .ldb = tb ? k : n,
                   .ldc = n,
                   .beta = beta});
}

/// The two gradients of Y = X W; either slot may be null.
void linear_backward(Device device, const GradSlot& gx, const GradSlot& gw, const real* dy, const Tensor& x,
                     const Tensor& W, bool transposed, int64_t rows, int64_t in, int64_t out) {
  if (gw) {
    const auto [dw, beta] = gw->target();
    if (transposed)
      multiply(device, dw.data(), dy, true, x.data(), false, out, in, rows, beta);
    else
      multiply(device, dw.data(), x.data(), true, dy, false, in, out, rows, beta);
  }
  if (gx) {
    const auto [dx, beta] = gx->target();
    multiply(device, dx.data(), dy, false, W.data(), !transposed, rows, in, out, beta);
  }
}

}  // namespace

// ---- y = x W --------------------------------------------------------------------------------------------------------

Variable linear(const Variable& x, const Variable& W, bool transposed) {
  check(W.shape().rank() == 2 && x.dim(-1) == W.dim(transposed ? 1 : 0),
        "[linear] last axis of x {} must be W's {} axis: got W {}", x.shape(), transposed ? "second" : "first",
        W.shape());
  const auto [rows, in] = as_rows(x.shape());
  const int64_t out = W.dim(transposed ? 0 : 1);
  Variable y = result("linear", with_last(x.shape(), out), {&x, &W});
  multiply(y.device(), y.data(), x.data(), false, W.data(), transposed, rows, out, in);
  return tape().record(
      "linear", y,
      [=, rows = rows, in = in, x = x.value(), gx = x.slot(), W = W.value(), gw = W.slot()](const Tensor& dy) {
        linear_backward(dy.device(), gx, gw, dy.data(), x, W, transposed, rows, in, out);
      });
}

// ---- y = Σ_i x_i W_i ------------------------------------------------------------------------------------------------

Variable linear_sum(const std::vector<LinearTerm>& terms) {
  check(!terms.empty() && terms.size() <= 2, "[linear_sum] takes one or two terms: got {}", terms.size());
  const LinearTerm &a = terms.front(), &b = terms.back();
  if (terms.size() == 1) return linear(a.x, a.W);
  for (const LinearTerm& t : terms)
    check(t.W.shape().rank() == 2 && t.x.dim(-1) == t.W.dim(0) && t.W.dim(1) == a.W.dim(1) &&
              with_last(t.x.shape(), 1) == with_last(a.x.shape(), 1),
          "[linear_sum] terms do not fit: got x {} with W {}, beside x {} with W {}", t.x.shape(), t.W.shape(),
          a.x.shape(), a.W.shape());
  const int64_t out = a.W.dim(1), rows = as_rows(a.x.shape()).rows;
  Variable y = result("linear_sum", with_last(a.x.shape(), out), {&a.x, &a.W, &b.x, &b.W});
  multiply(y.device(), y.data(), a.x.data(), false, a.W.data(), false, rows, out, a.W.dim(0));
  multiply(y.device(), y.data(), b.x.data(), false, b.W.data(), false, rows, out, b.W.dim(0), 1);
  return tape().record("linear_sum", y, [=, xa = a.x, Wa = a.W, xb = b.x, Wb = b.W](const Tensor& dy) {
    linear_backward(dy.device(), xa.slot(), Wa.slot(), dy.data(), xa.value(), Wa.value(), false, rows, Wa.dim(0), out);
    linear_backward(dy.device(), xb.slot(), Wb.slot(), dy.data(), xb.value(), Wb.value(), false, rows, Wb.dim(0), out);
  });
}

// ---- y = concat(past, x) W ------------------------------------------------------------------------------------------

Variable concat_linear(const Variable& past, const Variable& x, const Variable& W, const Tensor& known) {
  if (!past.defined() || past.dim(1) == 0) return linear(x, W);
  check(x.shape().rank() == 3 && past.shape().rank() == 3 && past.dim(0) == x.dim(0) && past.dim(2) == x.dim(2) &&
            W.shape().rank() == 2 && W.dim(0) == x.dim(2),
        "[concat_linear] shapes do not fit: got past {}, x {}, W {}", past.shape(), x.shape(), W.shape());
  const int64_t B = x.dim(0), S = past.dim(1), T = x.dim(1), in = x.dim(2), out = W.dim(1);
  check(
      !known.defined() || (known.shape().rank() == 3 && known.dim(0) == B && known.dim(1) >= S && known.dim(2) == out),
      "[concat_linear] known must be ({}, at least {}, {}): got {}", B, S, out, known.shape());
  Variable y = result("concat_linear", {B, S + T, out}, {&past, &x, &W});
  // Each batch row of y is two blocks of rows: S from the past, T from x.
  const auto block = [=](int64_t n) {
    return Gemm{.m = n,
                .n = out,
                .k = in,
                .lda = in,
                .ldb = out,
                .ldc = out,
                .batch = B,
                .stride_a = n * in,
                .stride_c = (S + T) * out};
  };
  if (known.defined())
    copy_time(y.value(), 0, known, known.dim(1) - S, S);
  else
    on(y.device()).gemm(y.data(), past.data(), W.data(), block(S));
  on(y.device()).gemm(y.data() + S * out, x.data(), W.data(), block(T));

  return tape().record("concat_linear", y, [=, gw = W.slot(), W = W.value()](const Tensor& dy) {
    const Kernels& kernels = on(dy.device());
    const auto part = [&](const Variable& x, int64_t n, const real* dy_block) {
      if (gw) {  // dW += Σ_b x_bᵀ dy_b
        const auto [dw, beta] = gw->target();
        kernels.gemm(dw.data(), x.data(), dy_block,
                     {.m = in,
                      .n = out,
                      .k = n,
                      .trans_a = true,
                      .lda = in,
                      .ldb = out,
                      .ldc = out,
                      .beta = beta,
                      .batch = B,
                      .stride_a = n * in,
                      .stride_b = (S + T) * out});
      }
      if (x.slot()) {  // dx_b = dy_b Wᵀ
        const auto [dx, beta] = x.slot()->target();
        kernels.gemm(dx.data(), dy_block, W.data(),
                     {.m = n,
                      .n = in,
                      .k = out,
                      .trans_b = true,
                      .lda = out,
                      .ldb = out,
                      .ldc = in,
                      .beta = beta,
                      .batch = B,
                      .stride_a = (S + T) * out,
                      .stride_c = n * in});
      }
    };
    part(past, S, dy.data());
    part(x, T, dy.data() + S * out);
  });
}

// ---- y_b = op(M) x_b ------------------------------------------------------------------------------------------------

Variable mix(const Variable& M, const Variable& x, bool transposed) {
  const bool per_row = M.shape().rank() == 3;
  check((per_row ? M.dim(0) == x.dim(0) : M.shape().rank() == 2) && x.shape().rank() == 3 &&
            M.dim(transposed ? -2 : -1) == x.dim(1),
        "[mix] M {} does not fit x {}{}", M.shape(), x.shape(), transposed ? " (M transposed)" : "");
  const int64_t B = x.dim(0), k = x.dim(1), C = x.dim(2), m = M.dim(transposed ? -1 : -2), ldm = M.dim(-1);
  const int64_t stride_m = per_row ? m * k : 0;
  Variable y = result("mix", {B, m, C}, {&M, &x});
  on(y.device())
      .gemm(y.data(), M.data(), x.data(),
            {.m = m,
             .n = C,
             .k = k,
             .trans_a = transposed,
             .lda = ldm,
             .ldb = C,
             .ldc = C,
             .batch = B,
             .stride_a = stride_m,
             .stride_b = k * C,
             .stride_c = m * C});
  return tape().record("mix", y, [=, M = M.value(), gm = M.slot(), x = x.value(), gx = x.slot()](const Tensor& dy) {
    const Kernels& kernels = on(dy.device());
    if (gm) {  // dM_b = dy_b x_bᵀ (transposed: x_b dy_bᵀ); one shared M gets the sum over b
      const auto [dm, beta] = gm->target();
      Gemm g{.m = m,
             .n = k,
             .k = C,
             .trans_b = true,
             .lda = C,
             .ldb = C,
             .ldc = ldm,
             .beta = beta,
             .batch = B,
             .stride_a = m * C,
             .stride_b = k * C,
             .stride_c = stride_m};
      if (transposed) std::swap(g.m, g.n), std::swap(g.stride_a, g.stride_b);
      kernels.gemm(dm.data(), transposed ? x.data() : dy.data(), transposed ? dy.data() : x.data(), g);
    }
    if (gx) {  // dx_b = op(M)ᵀ dy_b
      const auto [dx, beta] = gx->target();
      kernels.gemm(dx.data(), M.data(), dy.data(),
                   {.m = k,
                    .n = C,
                    .k = m,
                    .trans_a = !transposed,
                    .lda = ldm,
                    .ldb = C,
                    .ldc = C,
                    .beta = beta,
                    .batch = B,
                    .stride_a = stride_m,
                    .stride_b = m * C,
                    .stride_c = k * C});
    }
  });
}

// ---- y[b,p,h·D…] = x[b,p·H+h,:] W[:, h·D…] --------------------------------------------------------------------------

Variable head_linear(const Variable& x, const Variable& W, int64_t heads) {
  check(x.shape().rank() == 3 && W.shape().rank() == 2 && x.dim(2) == W.dim(0) && x.dim(1) % heads == 0 &&
            W.dim(1) % heads == 0,
        "[head_linear] x {} (B, P·H, C) does not fit W {} (C, H·D), H = {}", x.shape(), W.shape(), heads);
  const int64_t H = heads, P = x.dim(1) / H, rows = x.dim(0) * P, C = x.dim(2), out = W.dim(1), D = out / H;
  Variable y = result("head_linear", {x.dim(0), P, out}, {&x, &W});
  on(y.device())
      .gemm(y.data(), x.data(), W.data(),
            {.m = rows,
             .n = D,
             .k = C,
             .lda = H * C,
             .ldb = out,
             .ldc = out,
             .batch = H,
             .stride_a = C,
             .stride_b = D,
             .stride_c = D});
  return tape().record("head_linear", y,
                       [=, x = x.value(), gx = x.slot(), W = W.value(), gw = W.slot()](const Tensor& dy) {
                         const Kernels& kernels = on(dy.device());
                         if (gw) {
                           const auto [dw, beta] = gw->target();
                           kernels.gemm(dw.data(), x.data(), dy.data(),
                                        {.m = C,
                                         .n = D,
                                         .k = rows,
                                         .trans_a = true,
                                         .lda = H * C,
                                         .ldb = out,
                                         .ldc = out,
                                         .beta = beta,
                                         .batch = H,
                                         .stride_a = C,
                                         .stride_b = D,
                                         .stride_c = D});
                         }
                         if (gx) {
                           const auto [dx, beta] = gx->target();
                           kernels.gemm(dx.data(), dy.data(), W.data(),
                                        {.m = rows,
                                         .n = C,
                                         .k = D,
                                         .trans_b = true,
                                         .lda = out,
                                         .ldb = out,
                                         .ldc = H * C,
                                         .beta = beta,
                                         .batch = H,
                                         .stride_a = D,
                                         .stride_b = D,
                                         .stride_c = C});
                         }
                       });
}

// ---- y_t = bias + Σ_k x_{t+k−1} W_k ---------------------------------------------------------------------------------
//
// One product a tap: rows [from, from + rows) of x meet W_k on their way to rows [into, into + rows) of y, and beyond
// the borders there is nothing to add. (Reading the three neighbours as one row of 3C numbers, C apart, would make it a
// single product, but neither BLAS nor cuBLAS takes a matrix whose rows overlap.)

namespace {

struct Tap {
  int64_t k, from, into, rows;
};
/// The middle tap first: it alone reaches every row, so it may write (beta = 0) where the others add.
std::array<Tap, 3> taps(int64_t T) {
  const int64_t rest = std::max<int64_t>(T - 1, 0);
  return {{{1, 0, 0, T}, {0, 0, 1, rest}, {2, 1, 0, rest}}};
}

}  // namespace

Variable time_conv(const Variable& x, const Variable& W, const Variable& bias) {
  check(x.shape().rank() == 3 && W.shape() == Shape({3, x.dim(2), x.dim(2)}) && bias.shape() == Shape({x.dim(2)}),
        "[time_conv] x {} needs W (3, C, C) and bias (C): got W {}, bias {}", x.shape(), W.shape(), bias.shape());
  const int64_t B = x.dim(0), T = x.dim(1), C = x.dim(2);
  // Of a product between rows of x, of y, and one (C, C) slice of W, what all three have in common.
  const Gemm plain{.m = 0, .n = C, .k = C, .lda = C, .ldb = C, .ldc = C, .batch = B};
  Variable y = result("time_conv", {B, T, C}, {&x, &W, &bias});
  const Kernels& kernels = on(y.device());
  for (const Tap& tap : taps(T)) {
    Gemm g = plain;
    g.m = tap.rows, g.stride_a = T * C, g.stride_c = T * C, g.beta = tap.k == 1 ? 0 : 1;
    kernels.gemm(y.data() + tap.into * C, x.data() + tap.from * C, W.data() + tap.k * C * C, g);
  }
  kernels.bias_act_forward(y.data(), y.data(), bias.data(), Activation::identity, {}, B * T, C);

  return tape().record(
      "time_conv", y,
      [=, x = x.value(), gx = x.slot(), W = W.value(), gw = W.slot(), gb = bias.slot()](const Tensor& dy) {
        const Kernels& kernels = on(dy.device());
        if (gb) kernels.column_sums(gb->buffer().data(), dy.data(), B * T, C);
        if (gw) {  // dW_k = Σ_t x_{t+k−1}ᵀ dy_t
          const auto [dw, beta] = gw->target();
          for (const Tap& tap : taps(T)) {
            Gemm g = plain;
            g.m = C, g.k = tap.rows, g.trans_a = true, g.stride_a = T * C, g.stride_b = T * C, g.beta = beta;
            kernels.gemm(dw.data() + tap.k * C * C, x.data() + tap.from * C, dy.data() + tap.into * C, g);
          }
        }
        if (gx) {  // dx_{t+k−1} = Σ_k dy_t W_kᵀ
          const auto [dx, beta] = gx->target();
          for (const Tap& tap : taps(T)) {
            Gemm g = plain;
            g.m = tap.rows, g.trans_b = true, g.stride_a = T * C, g.stride_c = T * C, g.beta = tap.k == 1 ? beta : 1;
            kernels.gemm(dx.data() + tap.from * C, dy.data() + tap.into * C, W.data() + tap.k * C * C, g);
          }
        }
      });
}

}  // namespace lem
