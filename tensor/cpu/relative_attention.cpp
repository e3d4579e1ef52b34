// Relative attention (docs/relative-attention.md), fused and tiled: no (T, K) matrix per head is ever in memory.
//
//   score[i,j] = ( (q_i + u)·k_j + (q_i + w)·r_{T−1−i+j} ) · scale     for the keys j that query i sees
//   p[i,:] = softmax(score[i,:])
//   out_i = Σ_j p̃[i,j] v_j,  p̃ = dropout(p)
//
// A head of a batch row is one piece of work. It walks blocks of keys; a block's keys and values are packed once and
// meet all queries that see them, tile by tile. Every sum has its place in memory and its order, whoever computes it.
#include <cmath>
#include <vector>

#include "tensor/backend.h"
#include "tensor/cpu/attention_block.h"
#include "tensor/cpu/dropout.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/simd.h"

namespace lem::cpu {
namespace {

constexpr real kInfinity = std::numeric_limits<real>::infinity();

/// Everything both directions read.
struct Inputs {
  const real *q, *k, *v, *r, *u, *w;
  const int32_t* first_key;
};

int64_t work_of(const RelativeAttention& s) { return s.B * s.H * s.T * s.K * s.D; }

/// mask[j] for the probabilities of query i and keys `seen`, if there is dropout; else null
const real* draw_mask(real* mask, const Head& head, int64_t i, Range seen) {
  const RelativeAttention& s = head.s;
  if (s.dropout.p == 0) return nullptr;
  dropout_mask(mask, s.dropout, ((head.b * s.H + head.h) * s.T + i) * s.K + seen.begin, seen.size());
  return mask;
}

// ---- forward --------------------------------------------------------------------------------------------------------

/// What one thread needs for one head.
struct ForwardSpace {
  Scratch kt, vp,
      vt;          // a block's keys in panels (kKeys / kLanes, D, kLanes), values padded (kKeys, width) and in panels
  Scratch qu, qw;  // (T, D): (q + u) · scale, (q + w) · scale
  Scratch s;       // a block's scores, then probabilities
  Scratch sum;     // (T, width): Σ_j exp(score − largest) v_j so far
  Scratch largest, total;  // (T): the largest score so far, Σ_j exp(score − largest) so far
  Scratch mask;            // (kKeys)
  explicit ForwardSpace(const RelativeAttention& s)
      : kt(kKeys * s.D),
        vp(kKeys * round_up(s.D)),
        vt(kKeys * dot_columns(s.D)),
        qu(s.T * s.D),
        qw(s.T * s.D),
        s(kBlockScores),
        sum(s.T * round_up(s.D)),
        largest(s.T),
        total(s.T),
        mask(kKeys) {}
};

/// x[0, n) = exp(x − shift), no x above shift; returns the sum. n: whole vectors
real exponentials(real* x, int64_t n, real shift) {
  Vector total{};
  for (int64_t j = 0; j < n; j += kLanes) {
    const Vector e = exp_vector(load(x + j) - shift);
    store(x + j, e);
    total += e;
  }
  return reduce_lanes(total, [](Vector a, Vector b) { return a + b; });
}

/// The largest of x[0, n) and `least`, n: whole vectors; NaN counts as nothing.
real maximum(const real* x, int64_t n, real least) {
  // Four chains, since each step of one waits for its last.
  const auto larger = [](Vector a, Vector b) { return a > b ? a : b; };
  Vector m0 = Vector{} + least, m1 = m0, m2 = m0, m3 = m0;
  int64_t j = 0;
  for (; j + 4 * kLanes <= n; j += 4 * kLanes) {
    m0 = larger(load(x + j), m0);
    m1 = larger(load(x + j + kLanes), m1);
    m2 = larger(load(x + j + 2 * kLanes), m2);
    m3 = larger(load(x + j + 3 * kLanes), m3);
  }
  for (; j < n; j += kLanes) m0 = larger(load(x + j), m0);
  return reduce_lanes(larger(larger(m0, m1), larger(m2, m3)), larger);
}

// Softmax of a row whose keys come block by block ("online"): with the largest score m and the sum l so far,
//   m' = max(m, max_j score_j),  l' = l e^{m−m'} + Σ_j e^{score_j−m'},  and all earlier e^{score−m} v shrink by
//   e^{m−m'}.
//
// s[j], j in `columns` (whole vectors): scores in, exp(score − m') out, 0 for keys not in `seen`. sum: (width)
void online_softmax(real* s, Range columns, Range seen, real* largest, real* total, real* sum, int64_t width) {
  std::fill(s + columns.begin, s + seen.begin, -kInfinity);
  std::fill(s + seen.end, s + columns.end, -kInfinity);
  const real m = maximum(s + columns.begin, columns.size(), *largest);
  const real shrink = exp(*largest - m);
  *total = *total * shrink + exponentials(s + columns.begin, columns.size(), m);
  *largest = m;
  if (shrink != 1)
#pragma omp simd
    for (int64_t d = 0; d < width; ++d) sum[d] *= shrink;
}

/// One tile of queries against one block of keys. at: the tile's first row in the arrays over queries
void forward_block(ForwardSpace& f, const Head& head, Range tile, Range keys, int64_t at, const real* rt) {
  const int64_t D = head.s.D, width = round_up(D);
  real* s = f.s + kSlack;
  scores(s, head, tile, keys, f.qu + at * D, f.qw + at * D, f.kt, rt);
  for_groups(tile, [&](Range group) {
    const Range seen = head.sight.keys(group, keys);
    if (seen.empty()) return;
    real* rows = s + (group.begin - tile.begin) * kStride - keys.begin;
    const int64_t row = at + group.begin - tile.begin;
    const int64_t columns = keys.begin + round_down(seen.begin - keys.begin);
    const Range whole{columns, columns + round_up(seen.end - columns)};
    for (int64_t i = group.begin; i < group.end; ++i) {
      const int64_t n = i - group.begin;
      const Range mine = head.sight.keys({i, i + 1}, keys);
      if (mine.empty()) {
        std::fill(rows + n * kStride + whole.begin, rows + n * kStride + whole.end, real(0));
        continue;
      }
      online_softmax(rows + n * kStride, whole, mine, &f.largest[row + n], &f.total[row + n], f.sum + (row + n) * width,
                     width);
      if (const real* mask = draw_mask(f.mask, head, i, mine))
        for (int64_t j = mine.begin; j < mine.end; ++j) rows[n * kStride + j] *= mask[j - mine.begin];
    }
    add_products(f.sum + row * width, rows + keys.begin, kStride, {f.vp, f.vt, dot_columns(D) * kLanes}, group.size(),
                 D, seen.begin - keys.begin, seen.end - keys.begin);
  });
}

/// Queries `rows` of one head.
void forward_head(real* out, real* lse, ForwardSpace& f, const Head& head, const Inputs& in, const real* rt,
                  Range rows) {
  const RelativeAttention& s = head.s;
  const int64_t D = s.D, width = round_up(D), n = rows.size();
  biased_queries(f.qu, f.qw, head, in.q, in.u, in.w, rows);
  std::fill_n(f.sum + 0, n * width, real(0));
  std::fill_n(f.largest + 0, n, -kInfinity);
  std::fill_n(f.total + 0, n, real(0));

  for (int64_t j = 0; j < s.K; j += kKeys) {
    const Range keys{j, std::min(j + kKeys, s.K)};
    if (head.sight.keys(rows, keys).empty()) continue;
    pack_panels(f.kt, head.of_keys(in.k, j), head.stride(), keys.size(), D);
    pack_padded(f.vp, head.of_keys(in.v, j), head.stride(), keys.size(), D);
    pack_panels(f.vt, head.of_keys(in.v, j) + D - dot_columns(D), head.stride(), keys.size(), dot_columns(D));
    for (int64_t i = rows.begin; i < rows.end; i += kQueries) {
      const Range tile{i, std::min(i + kQueries, rows.end)};
      if (!head.sight.keys(tile, keys).empty()) forward_block(f, head, tile, keys, i - rows.begin, rt);
    }
  }

  for (int64_t i = 0; i < n; ++i) {
    const real total = f.total[i], inverse = total == 0 ? 0 : 1 / total;  // 0: a query that sees no key
    real* o = head.of_queries(out, rows.begin + i);
    const real* sum = f.sum + i * width;
#pragma omp simd
    for (int64_t d = 0; d < D; ++d) o[d] = sum[d] * inverse;
    lse[(head.b * s.H + head.h) * s.T + rows.begin + i] = f.largest[i] + std::log(total);
  }
}

}  // namespace

void relative_attention_forward(real* out, real* lse, const real* q, const real* k, const real* v, const real* r,
                                const real* u, const real* w, const int32_t* first_key, const RelativeAttention& s) {
  const Inputs in{q, k, v, r, u, w, first_key};
  const int64_t heads = s.B * s.H, panels = round_up(s.K) * s.D;
  if (heads == 0 || s.T == 0) return;
  const int threads = threads_for(work_of(s));
  // More threads than heads: the queries of a head are shared out, whole tiles each.
  const int64_t tiles = (s.T + kQueries - 1) / kQueries, parts = std::min(tiles, (threads + heads - 1) / heads);

  Scratch rt(s.H * panels);  // r of every head in panels
  parallel_items(s.H, threads, [&](int64_t h, int) { pack_panels(rt + h * panels, r + h * s.D, s.H * s.D, s.K, s.D); });
  std::vector<ForwardSpace> spaces;
  for (int t = 0; t < threads; ++t) spaces.emplace_back(s);
  parallel_items(heads * parts, threads, [&](int64_t item, int thread) {
    const int64_t n = item / parts, part = item % parts;
    const Range rows{std::min(s.T, tiles * part / parts * kQueries),
                     std::min(s.T, tiles * (part + 1) / parts * kQueries)};
    forward_head(out, lse, spaces[size_t(thread)], Head(s, first_key, n / s.H, n % s.H), in, rt + (n % s.H) * panels,
                 rows);
  });
}

// ---- backward -------------------------------------------------------------------------------------------------------
//
// The probabilities are computed again, p[i,j] = exp(score[i,j] − lse_i). With m[i,j] the dropout mask (1 without),
//
//   dv_j = Σ_i m p dout_i               dp[i,j] = dout_i · v_j
//   dscore = p (m dp − δ_i),            δ_i = Σ_j p m dp = dout_i · out_i
//   dq_i = scale (Σ_j dscore k_j + Σ_j dscore r_{T−1−i+j}),   du, dw: the two sums by themselves, over all queries
//   dk_j = scale Σ_i dscore (q_i + u)   dr_n = scale Σ_i dscore[i, n−(T−1)+i] (q_i + w)
//
// The sums over r read dscore by the row of r instead of the key: again with a row stride one longer.

namespace {

struct BackwardSpace {
  Scratch kt, vt, kp;    // a block's keys and values in panels, and its keys padded (kKeys, width)
  Scratch dkt, dvt;      // their gradients in panels
  Scratch qu, qw, dout;  // (T, D)
  Scratch dqu, dqw;      // (T, width): Σ_j dscore k_j, Σ_j dscore r
  Scratch delta;         // (T)
  Scratch p, ds;         // a block's scores, then m p; m dp, then dscore
  Scratch mask;          // (kKeys)
  explicit BackwardSpace(const RelativeAttention& s)
      : kt(kKeys * s.D),
        vt(kKeys * s.D),
        kp(kKeys * round_up(s.D)),
        dkt(kKeys * s.D),
        dvt(kKeys * s.D),
        qu(s.T * s.D),
        qw(s.T * s.D),
        dout(s.T * s.D),
        dqu(s.T * round_up(s.D)),
        dqw(s.T * round_up(s.D)),
        delta(s.T),
        p(kBlockScores),
        ds(kBlockScores),
        mask(kKeys) {}
};

/// What all heads share, and what each adds to the gradients that heads of several batch rows have in common.
struct BackwardShared {
  const real *rt, *rp;  // r of this head in panels, and padded (K, width)
  real *drt, *du, *dw;  // this head and batch row's part of dr, in panels, and of du and dw (D)
};

/// One row of a block: score → m p in p, dp → dscore in ds, both 0 for keys outside `seen`. `columns`: the whole
/// vectors around the keys that its group sees; `readable`: all columns that a product may read.
void backward_row(real* p, real* ds, Range columns, Range seen, Range readable, real lse, real delta,
                  const real* mask) {
  for (int64_t j = columns.begin; j < columns.end; j += kLanes) {
    const Vector e = exp_vector(load(p + j) - lse);
    store(p + j, e);
    if (!mask) store(ds + j, e * (load(ds + j) - delta));
  }
  if (mask)
    for (int64_t j = seen.begin; j < seen.end; ++j) {
      const real m = mask[j - seen.begin];
      ds[j] = p[j] * (m * ds[j] - delta);
      p[j] *= m;
    }
  for (real* x : {p, ds}) {
    std::fill(x + readable.begin, x + seen.begin, real(0));
    std::fill(x + seen.end, x + readable.end, real(0));
  }
}

/// Scores and dp of one tile against one block, made into m p and dscore.
void backward_probabilities(BackwardSpace& f, const Head& head, Range tile, Range keys, const real* lse,
                            const real* rt) {
  const int64_t D = head.s.D;
  real *p = f.p + kSlack, *ds = f.ds + kSlack;
  scores(p, head, tile, keys, f.qu + tile.begin * D, f.qw + tile.begin * D, f.kt, rt);
  const Range readable{keys.begin - kSlack, keys.begin + round_up(keys.size()) + kSlack};
  for_groups(tile, [&](Range group) {
    const Range seen = head.sight.keys(group, keys);
    const int64_t columns = keys.begin + round_down(seen.begin - keys.begin);
    const Range whole{columns, columns + round_up(seen.end - columns)};
    const int64_t row = (group.begin - tile.begin) * kStride - keys.begin;
    if (!seen.empty())
      multiply({ds + row + whole.begin, kStride, kLanes}, {f.dout + group.begin * D, D, 1},
               {f.vt + (whole.begin - keys.begin) * D, kLanes, D * kLanes}, group.size(), whole.size() / kLanes, D,
               Into::assign);
    for (int64_t i = group.begin; i < group.end; ++i) {
      real *pi = p + row + (i - group.begin) * kStride, *dsi = ds + row + (i - group.begin) * kStride;
      const Range mine = head.sight.keys({i, i + 1}, keys);
      if (mine.empty()) {
        std::fill(pi + readable.begin, pi + readable.end, real(0));
        std::fill(dsi + readable.begin, dsi + readable.end, real(0));
        continue;
      }
      backward_row(pi, dsi, whole, mine, readable, lse[i], f.delta[i], draw_mask(f.mask, head, i, mine));
    }
  });
}

constexpr int64_t kStrip = 2 * kLanes;  // columns of a gradient of keys that are computed at once
static_assert(kSlack >= round_up(kGroup) + kStrip, "a slanted strip reaches past the slack between rows");

/// dv and dk of the block's keys: += over the tile's queries.
void backward_keys(BackwardSpace& f, const Head& head, Range tile, Range keys) {
  const int64_t D = head.s.D;
  const real *p = f.p + kSlack, *ds = f.ds + kSlack;
  const Range seen = head.sight.keys(tile, keys);
  for (int64_t j = keys.begin + round_down(seen.begin - keys.begin); j < seen.end; j += kStrip) {
    const int64_t column = j - keys.begin, vectors = std::min(kStrip, round_up(seen.end - j)) / kLanes;
    const Range rows = head.sight.queries({j, j + vectors * kLanes}, tile);
    if (rows.empty()) continue;
    const int64_t at = (rows.begin - tile.begin) * kStride + column;
    multiply({f.dvt + column * D, kLanes, D * kLanes}, {f.dout + rows.begin * D, 1, D}, {p + at, kStride, kLanes}, D,
             vectors, rows.size(), Into::add);
    multiply({f.dkt + column * D, kLanes, D * kLanes}, {f.qu + rows.begin * D, 1, D}, {ds + at, kStride, kLanes}, D,
             vectors, rows.size(), Into::add);
  }
}

/// dr: += over the tile's queries. Row n of r meets query i at key n − (T−1) + i.
void backward_distances(BackwardSpace& f, const Head& head, Range tile, Range keys, real* drt) {
  const int64_t D = head.s.D, T = head.s.T, rows_of_r = round_up(head.s.K);
  const real* ds = f.ds + kSlack - keys.begin;
  const Range seen = head.sight.keys(tile, keys);
  for (int64_t n = round_down(T - tile.end + seen.begin); n < std::min(head.s.K, T - 1 - tile.begin + seen.end);
       n += kStrip) {
    const int64_t lanes = std::min(kStrip, rows_of_r - n);
    const Range rows{std::max(tile.begin, T + seen.begin - n - lanes), std::min(tile.end, T - 1 + seen.end - n)};
    if (rows.empty()) continue;
    multiply({drt + n * D, kLanes, D * kLanes}, {f.qw + rows.begin * D, 1, D},
             {ds + (rows.begin - tile.begin) * kStride + n - (T - 1) + rows.begin, kStride + 1, kLanes}, D,
             lanes / kLanes, rows.size(), Into::add);
  }
}

/// dq: += over the block's keys, the two sums apart.
void backward_queries(BackwardSpace& f, const Head& head, Range tile, Range keys, const BackwardShared& shared) {
  const int64_t T = head.s.T, D = head.s.D, width = round_up(D);
  for_groups(tile, [&](Range group) {
    const Range seen = head.sight.keys(group, keys);
    if (seen.empty()) return;
    const real* ds = f.ds + kSlack + (group.begin - tile.begin) * kStride - keys.begin;
    const int64_t last = (D - dot_columns(D)) * kLanes, panel = D * kLanes;  // the panels' last columns
    add_products(f.dqu + group.begin * width, ds + keys.begin, kStride, {f.kp, f.kt + last, panel}, group.size(), D,
                 seen.begin - keys.begin, seen.end - keys.begin);
    add_products(f.dqw + group.begin * width, ds - (T - 1) + group.begin, kStride + 1,
                 {shared.rp, shared.rt + last, panel}, group.size(), D, T - group.end + seen.begin,
                 std::min(head.s.K, T - 1 - group.begin + seen.end));
  });
}

/// All of one head of one batch row.
void backward_head(real* dq, real* dk, real* dv, BackwardSpace& f, const Head& head, const real* dout, const real* out,
                   const real* lse, const Inputs& in, const BackwardShared& shared) {
  const RelativeAttention& s = head.s;
  const int64_t T = s.T, D = s.D, width = round_up(D), stride = head.stride();
  biased_queries(f.qu, f.qw, head, in.q, in.u, in.w, {0, T});
  for (int64_t i = 0; i < T; ++i) {
    const real *douti = head.of_queries(dout, i), *outi = head.of_queries(out, i);
    real delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t d = 0; d < D; ++d) delta += (f.dout[i * D + d] = douti[d]) * outi[d];
    f.delta[i] = delta;
  }
  std::fill_n(f.dqu + 0, T * width, real(0));
  std::fill_n(f.dqw + 0, T * width, real(0));
  std::fill_n(shared.drt, round_up(s.K) * D, real(0));

  for (int64_t j = 0; j < s.K; j += kKeys) {
    const Range keys{j, std::min(j + kKeys, s.K)};
    pack_panels(f.kt, head.of_keys(in.k, j), stride, keys.size(), D);
    pack_panels(f.vt, head.of_keys(in.v, j), stride, keys.size(), D);
    pack_padded(f.kp, head.of_keys(in.k, j), stride, keys.size(), D);
    std::fill_n(f.dkt + 0, round_up(keys.size()) * D, real(0));
    std::fill_n(f.dvt + 0, round_up(keys.size()) * D, real(0));
    for (int64_t i = 0; i < T; i += kQueries) {
      const Range tile{i, std::min(i + kQueries, T)};
      if (head.sight.keys(tile, keys).empty()) continue;
      backward_probabilities(f, head, tile, keys, lse + (head.b * s.H + head.h) * T, shared.rt);
      backward_keys(f, head, tile, keys);
      backward_distances(f, head, tile, keys, shared.drt);
      backward_queries(f, head, tile, keys, shared);
    }
    unpack_panels(head.of_keys(dk, j), stride, f.dkt, keys.size(), D);
    unpack_panels(head.of_keys(dv, j), stride, f.dvt, keys.size(), D);
  }

  std::fill_n(shared.du, D, real(0));
  std::fill_n(shared.dw, D, real(0));
  for (int64_t i = 0; i < T; ++i) {
    const real *to_u = f.dqu + i * width, *to_w = f.dqw + i * width;
    real* dqi = head.of_queries(dq, i);
#pragma omp simd
    for (int64_t d = 0; d < D; ++d) {
      dqi[d] = (to_u[d] + to_w[d]) * s.scale;
      shared.du[d] += to_u[d] * s.scale;
      shared.dw[d] += to_w[d] * s.scale;
    }
  }
}

/// x[0, n) += parts[b · stride + ·] for b = 1 … B − 1, in order, where x is part 0
void add_parts(real* x, int64_t stride, int64_t B, int64_t n) {
  for (int64_t b = 1; b < B; ++b)
    for (int64_t i = 0; i < n; ++i) x[i] += x[b * stride + i];
}

}  // namespace

void relative_attention_backward(real* dq, real* dk, real* dv, real* dr, real* du, real* dw, const real* dout,
                                 const real* out, const real* lse, const real* q, const real* k, const real* v,
                                 const real* r, const real* u, const real* w, const int32_t* first_key,
                                 const RelativeAttention& s) {
  const Inputs in{q, k, v, r, u, w, first_key};
  const int64_t heads = s.B * s.H, panels = round_up(s.K) * s.D, padded = s.K * round_up(s.D), stride = s.H * s.D;
  const int threads = threads_for(work_of(s));
  Scratch rt(s.H * panels), rp(s.H * padded), drt(heads * panels), duw(heads * 2 * s.D);
  std::vector<BackwardSpace> spaces;
  for (int t = 0; t < threads; ++t) spaces.emplace_back(s);

  parallel_items(s.H, threads, [&](int64_t h, int) {
    pack_panels(rt + h * panels, r + h * s.D, stride, s.K, s.D);
    pack_padded(rp + h * padded, r + h * s.D, stride, s.K, s.D);
  });
  parallel_items(heads, threads, [&](int64_t n, int thread) {
    const int64_t h = n % s.H;
    backward_head(dq, dk, dv, spaces[size_t(thread)], Head(s, first_key, n / s.H, h), dout, out, lse, in,
                  {rt + h * panels, rp + h * padded, drt + n * panels, duw + n * 2 * s.D, duw + (n * 2 + 1) * s.D});
  });
  // dr, du and dw are shared by the batch: its rows' parts are added in order.
  if (s.B == 0) std::fill_n(dr, s.K * stride, real(0));
  parallel_items(s.B == 0 ? 0 : s.H, threads, [&](int64_t h, int) {
    add_parts(drt + h * panels, s.H * panels, s.B, panels);
    unpack_panels(dr + h * s.D, stride, drt + h * panels, s.K, s.D);
    add_parts(duw + h * 2 * s.D, s.H * 2 * s.D, s.B, 2 * s.D);
    for (int64_t d = 0; d < s.D; ++d) {
      du[h * s.D + d] += duw[h * 2 * s.D + d];
      dw[h * s.D + d] += duw[(h * 2 + 1) * s.D + d];
    }
  });
}

}  // namespace lem::cpu
