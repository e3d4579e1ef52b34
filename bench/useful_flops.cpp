#include "bench/useful_flops.h"

#include <algorithm>

namespace lem {
namespace {

/// One layer's part in one segment. Forward and backward are summed as they are counted.
struct LayerCount {
  double B, T, Tq, S, L, C, F, H, N;  // Tq queries that are wanted, S short-term states, L newcomers to the memory
  bool infinity, stored, filled;      // is there anything in the memory; was there before this update?
  bool kept;                          // are the short-term states' keys and values there from the last segment?
  double forward = 0, backward = 0;

  /// A product of m × k by k × n, and `gradients` (0, 1 or 2) more of the same size in the backward.
  void product(double m, double n, double k, double gradients) {
    forward += 2 * m * n * k;
    backward += gradients * 2 * m * n * k;
  }

  void memory_update() {  // what enters is detached: the gate's weights get a gradient, its input none
    product(B * L, C, 3 * C, 1);
    product(B * N, C, L, 1);              // G_newᵀ X; the way back is G_new dcoeffs
    if (filled) product(B * N, C, N, 0);  // A coeffs_old, a constant
  }
  void attention() {
    const double K = S + T;
    product(B * Tq, C, C, 2);      // q
    for (int i = 0; i < 2; ++i) {  // k and v: no gradient into the short-term states
      product(B * S, C, C, 1);
      if (kept) forward -= 2 * B * S * C * C;
      product(B * T, C, C, 2);
    }
    product(K, C, C, 1);                                                    // r, from constant sinusoids
    for (int i = 0; i < 3; ++i) product(B * causal_pairs(Tq, K), 1, C, 2);  // content, position, values, over all heads
    product(B * Tq, C, C, 2);                                               // W_o
  }
  void memory_read() {
    if (T > Tq) product(B * (T - Tq), C, C, 2);  // the regulariser needs all queries
    product(B * 2, C, N, 2);                     // w_μᵀ coeffs, w_σᵀ coeffs
    product(B * 2, C, C, 2);
    product(B * T, 2, C, 2);   // scores
    product(B * N, C, C, 2);   // values
    product(B * Tq, C, N, 2);  // expectations of the values
    product(B * Tq, C, C, 2);  // W_out
  }
  void feed_forward() {
    product(B * Tq, F, C, 2);
    product(B * Tq, C, F, 2);
  }
};

}  // namespace

double useful_flops(const SortOptions& o) {
  const double n = double(o.length + 1 + o.symbols), T = double(o.segment), S = double(o.transformer.stm),
               V = double(o.symbols + 2);
  const double first_target = double(o.length);  // targets stand at length … length + symbols − 1
  double total = 0, recent = 0;
  bool stored = false, last_read = false;  // did the last layer attend in the last segment?
  for (double begin = 0; begin < n; begin += T) {
    const double length = std::min(T, n - begin), end = begin + length;
    const double outputs = end > first_target ? end - std::max(begin, first_target) : 0;
    const double stm = std::min(recent, S), leaving = recent - stm;
    const bool filled = stored;
    stored = stored || leaving > 0;
    for (int64_t l = 0; l < o.transformer.layers; ++l) {
      const bool last = l == o.transformer.layers - 1;
      LayerCount c{double(o.training.batch),
                   length,
                   last ? outputs : length,
                   stm,
                   leaving,
                   double(o.transformer.width),
                   double(o.transformer.ff),
                   double(o.transformer.heads),
                   double(o.memory.N),
                   o.model == "infinity",
                   stored,
                   filled,
                   last ? last_read : true};
      if (c.infinity && leaving > 0) c.memory_update();
      if (c.Tq > 0) {
        c.attention();
        c.feed_forward();
        if (c.infinity && stored) c.memory_read();
        if (last) c.product(c.B * c.Tq, V, c.C, 2);
      }
      total += c.forward + (outputs > 0 ? c.backward : 0);
    }
    recent = stm + length;
    last_read = outputs > 0;
  }
  return total;
}

}  // namespace lem
