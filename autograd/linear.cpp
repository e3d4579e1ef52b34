// Matrix products. For y = x W, with dy the gradient of y:  dx = dy Wᵀ,  dW = xᵀ dy.
#include <algorithm>
#include <array>

#include "autograd/matrix.h"
#include "autograd/ops.h"

namespace lem {
namespace {

Shape with_last(const Shape& s, int64_t last) {
  std::vector<int64_t> sizes = s.vector();
  sizes.back() = last;
  return Shape(sizes);
}

}  // namespace

// ---- y = x W --------------------------------------------------------------------------------------------------------

Variable linear(const Variable& x, const Variable& W, bool transposed) {
  check(W.shape().rank() == 2 && x.dim(-1) == W.dim(transposed ? 1 : 0),
        "[linear] last axis of x {} must be W's {} axis: got W {}", x.shape(), transposed ? "second" : "first",
        W.shape());
  const auto seen = [transposed](const Tensor& W) { return transposed ? as_matrix(W).T() : as_matrix(W); };
  Variable y = result("linear", with_last(x.shape(), W.dim(transposed ? 0 : 1)), {&x, &W});
  multiply(as_matrix(y.value()), as_matrix(x.value()), seen(W.value()));
  return tape().record("linear", y, [=, x = x.value(), gx = x.slot(), W = W.value(), gw = W.slot()](const Tensor& dy) {
    add_product(gw, seen, as_matrix(x).T(), as_matrix(dy));  // dW += xᵀ dy
    add_product(gx, as_matrix, as_matrix(dy), seen(W).T());  // dx += dy Wᵀ
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
  Variable y = result("linear_sum", with_last(a.x.shape(), a.W.dim(1)), {&a.x, &a.W, &b.x, &b.W});
  multiply(as_matrix(y.value()), as_matrix(a.x.value()), as_matrix(a.W.value()));
  multiply(as_matrix(y.value()), as_matrix(b.x.value()), as_matrix(b.W.value()), {.beta = 1});
  return tape().record("linear_sum", y, [=, xa = a.x, Wa = a.W, xb = b.x, Wb = b.W](const Tensor& dy) {
    const auto part = [&](const Variable& x, const Variable& W) {
      add_product(W.slot(), as_matrix, as_matrix(x.value()).T(), as_matrix(dy));  // dW += xᵀ dy
      add_product(x.slot(), as_matrix, as_matrix(dy), as_matrix(W.value()).T());  // dx += dy Wᵀ
    };
    part(xa, Wa), part(xb, Wb);
  });
}

// ---- y = concat(past, x) W ------------------------------------------------------------------------------------------

Variable concat_linear(const Variable& past, const Variable& x, const Variable& W, const Tensor& known) {
  if (!past.defined() || past.dim(1) == 0) return linear(x, W);
  check(x.shape().rank() == 3 && past.shape().rank() == 3 && past.dim(0) == x.dim(0) && past.dim(2) == x.dim(2) &&
            W.shape().rank() == 2 && W.dim(0) == x.dim(2),
        "[concat_linear] shapes do not fit: got past {}, x {}, W {}", past.shape(), x.shape(), W.shape());
  const int64_t B = x.dim(0), S = past.dim(1), T = x.dim(1), out = W.dim(1);
  check(
      !known.defined() || (known.shape().rank() == 3 && known.dim(0) == B && known.dim(1) >= S && known.dim(2) == out),
      "[concat_linear] known must be ({}, at least {}, {}): got {}", B, S, out, known.shape());
  Variable y = result("concat_linear", {B, S + T, out}, {&past, &x, &W});
  // Each batch row of y is two blocks of rows: S from the past, T from x.
  const auto of_past = [=](const Tensor& y) { return as_matrices(y).slice(0, S); };
  const auto of_x = [=](const Tensor& y) { return as_matrices(y).slice(S, S + T); };
  if (known.defined())
    copy_time(y.value(), 0, known, known.dim(1) - S, S);
  else
    multiply(of_past(y.value()), as_matrices(past.value()), as_matrix(W.value()));
  multiply(of_x(y.value()), as_matrices(x.value()), as_matrix(W.value()));
  return tape().record("concat_linear", y, [=, gw = W.slot(), W = W.value()](const Tensor& dy) {
    const auto part = [&](const Variable& x, const MatrixView& dy) {
      add_product(gw, as_matrix, as_matrices(x.value()).T(), dy);  // dW += Σ_b x_bᵀ dy_b
      add_product(x.slot(), as_matrices, dy, as_matrix(W).T());    // dx_b += dy_b Wᵀ
    };
    part(past, of_past(dy)), part(x, of_x(dy));
  });
}

// ---- y_b = op(M) x_b ------------------------------------------------------------------------------------------------

Variable mix(const Variable& M, const Variable& x, bool transposed) {
  const bool per_row = M.shape().rank() == 3;
  check((per_row ? M.dim(0) == x.dim(0) : M.shape().rank() == 2) && x.shape().rank() == 3 &&
            M.dim(transposed ? -2 : -1) == x.dim(1),
        "[mix] M {} does not fit x {}{}", M.shape(), x.shape(), transposed ? " (M transposed)" : "");
  const auto seen = [transposed](const Tensor& M) { return transposed ? as_matrices(M).T() : as_matrices(M); };
  Variable y = result("mix", {x.dim(0), M.dim(transposed ? -1 : -2), x.dim(2)}, {&M, &x});
  multiply(as_matrices(y.value()), seen(M.value()), as_matrices(x.value()));
  return tape().record("mix", y, [=, M = M.value(), gm = M.slot(), x = x.value(), gx = x.slot()](const Tensor& dy) {
    add_product(gm, seen, as_matrices(dy), as_matrices(x).T());  // dM_b += dy_b x_bᵀ, over all b where M is shared
    add_product(gx, as_matrices, seen(M).T(), as_matrices(dy));  // dx_b += op(M)ᵀ dy_b
  });
}

// ---- y[b,p,h·D…] = x[b,p·H+h,:] W[:, h·D…] --------------------------------------------------------------------------

Variable head_linear(const Variable& x, const Variable& W, int64_t heads) {
  check(x.shape().rank() == 3 && W.shape().rank() == 2 && x.dim(2) == W.dim(0) && x.dim(1) % heads == 0 &&
            W.dim(1) % heads == 0,
        "[head_linear] x {} (B, P·H, C) does not fit W {} (C, H·D), H = {}", x.shape(), W.shape(), heads);
  const int64_t H = heads, P = x.dim(1) / H, rows = x.dim(0) * P, C = x.dim(2);
  const auto of_heads = [=](const Tensor& W) { return as_matrix(W).split(H); };
  const auto of_x = [=](const Tensor& x) { return of_heads(x.reshape({rows, H * C})); };
  Variable y = result("head_linear", {x.dim(0), P, W.dim(1)}, {&x, &W});
  multiply(of_heads(y.value()), of_x(x.value()), of_heads(W.value()));
  return tape().record("head_linear", y,
                       [=, x = x.value(), gx = x.slot(), W = W.value(), gw = W.slot()](const Tensor& dy) {
                         add_product(gw, of_heads, of_x(x).T(), of_heads(dy));  // dW_h += x_hᵀ dy_h
                         add_product(gx, of_x, of_heads(dy), of_heads(W).T());  // dx_h += dy_h W_hᵀ
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
  /// The rows of x (B, T, C) that this tap reads, and of y that it adds to.
  MatrixView source(const Tensor& x) const { return as_matrices(x).slice(from, from + rows); }
  MatrixView target(const Tensor& y) const { return as_matrices(y).slice(into, into + rows); }
};
/// The middle tap first: it alone reaches every row, so it may write (beta = 0) where the others add.
std::array<Tap, 3> taps(int64_t T) {
  const int64_t one = std::min<int64_t>(T, 1);
  return {{{1, 0, 0, T}, {0, 0, one, T - one}, {2, one, 0, T - one}}};
}

}  // namespace

Variable time_conv(const Variable& x, const Variable& W, const Variable& bias) {
  check(x.shape().rank() == 3 && W.shape() == Shape({3, x.dim(2), x.dim(2)}) && bias.shape() == Shape({x.dim(2)}),
        "[time_conv] x {} needs W (3, C, C) and bias (C): got W {}, bias {}", x.shape(), W.shape(), bias.shape());
  const int64_t rows = x.dim(0) * x.dim(1), T = x.dim(1), C = x.dim(2);
  Variable y = result("time_conv", x.shape(), {&x, &W, &bias});
  for (const Tap& tap : taps(T))
    multiply(tap.target(y.value()), tap.source(x.value()), as_matrices(W.value())[tap.k],
             {.beta = real(tap.k == 1 ? 0 : 1)});
  on(y.device()).bias_act_forward(y.data(), y.data(), bias.data(), Activation::identity, {}, rows, C);

  return tape().record(
      "time_conv", y,
      [=, x = x.value(), gx = x.slot(), W = W.value(), gw = W.slot(), gb = bias.slot()](const Tensor& dy) {
        if (gb) on(dy.device()).column_sums(gb->buffer().data(), dy.data(), rows, C);
        if (gw) {  // dW_k += Σ_t x_{t+k−1}ᵀ dy_t
          const auto [dw, beta] = gw->target();
          for (const Tap& tap : taps(T))
            multiply(as_matrices(dw)[tap.k], tap.source(x).T(), tap.target(dy), {.beta = beta});
        }
        if (gx) {  // dx_{t+k−1} += Σ_k dy_t W_kᵀ
          const auto [dx, beta] = gx->target();
          for (const Tap& tap : taps(T))
            multiply(tap.source(dx), tap.target(dy), as_matrices(W)[tap.k].T(), {.beta = tap.k == 1 ? beta : 1});
        }
      });
}

}  // namespace lem
