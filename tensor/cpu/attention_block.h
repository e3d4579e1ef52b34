// One block of relative attention: some queries against some keys. Which of them see each other, and their scores.
#pragma once

#include "tensor/cpu/attention_tiles.h"
#include "tensor/kernel_types.h"

namespace lem::cpu {

// A block is kQueries × kKeys, so that its scores and all that they are multiplied with stay in the second-level cache.
// Rows are handled kGroup at a time: the masks' slanted edges are then followed to within kGroup keys.
inline constexpr int64_t kQueries = 48, kGroup = 12, kKeys = 512;

// Rows of the block's scores lie kStride apart. The slack between them takes what a slanted block sticks out on either
// side: kGroup − 1 by the slant itself, and up to 2 vectors by whole vectors.
inline constexpr int64_t kSlack = round_up(kGroup) + 2 * kLanes, kStride = kKeys + kSlack;
inline constexpr int64_t kBlockScores = kSlack + kQueries * kStride;

struct Range {
  int64_t begin, end;
  bool empty() const { return begin >= end; }
  int64_t size() const { return end - begin; }
};

/// Who sees whom. Both ends of the keys that query i sees ascend with i.
struct Sight {
  int64_t offset;  // K − T: query i stands at position i + offset
  int64_t window;  // > 0: sees only so many keys back, itself included
  int64_t first;   // sees no key before this one

  int64_t begin(int64_t i) const { return window > 0 ? std::max(first, end(i) - window) : first; }
  int64_t end(int64_t i) const { return i + offset + 1; }

  /// The keys among `keys` that some query of `queries` sees.
  Range keys(Range queries, Range keys) const {
    return {std::max(keys.begin, begin(queries.begin)), std::min(keys.end, end(queries.end - 1))};
  }
  /// The queries among `queries` that see some key of `keys`.
  Range queries(Range keys, Range queries) const {
    const int64_t last = window > 0 ? keys.end + window - 1 - offset : queries.end;
    return {std::max({queries.begin, keys.begin - offset, first - offset}), std::min(queries.end, last)};
  }
};

/// One head of one batch row: where its slices of (B, n, H·D) arrays begin, rows `stride` apart.
struct Head {
  const RelativeAttention& s;
  int64_t b, h;
  Sight sight;

  Head(const RelativeAttention& s, const int32_t* first_key, int64_t b, int64_t h)
      : s(s), b(b), h(h), sight{s.K - s.T, s.window, first_key ? std::max(0, first_key[b]) : 0} {}
  int64_t stride() const { return s.H * s.D; }
  template <class Real>
  Real* of_queries(Real* x, int64_t i = 0) const {  // x (B, T, H·D) → row i of this head
    return x + (b * s.T + i) * stride() + h * s.D;
  }
  template <class Real>
  Real* of_keys(Real* x, int64_t j = 0) const {  // x (B, K, H·D) → row j of this head
    return x + (b * s.K + j) * stride() + h * s.D;
  }
};

/// qu, qw (n, D) = (q + u) · scale, (q + w) · scale for some of a head's queries
inline void biased_queries(real* qu, real* qw, const Head& head, const real* q, const real* u, const real* w,
                           Range rows) {
  const int64_t D = head.s.D;
  const real *uh = u + head.h * D, *wh = w + head.h * D, scale = head.s.scale;
  for (int64_t i = rows.begin; i < rows.end; ++i, qu += D, qw += D) {
    const real* qi = head.of_queries(q, i);
#pragma omp simd
    for (int64_t d = 0; d < D; ++d) {
      qu[d] = (qi[d] + uh[d]) * scale;
      qw[d] = (qi[d] + wh[d]) * scale;
    }
  }
}

/// calls body(group) for the rows of a tile, kGroup at a time
template <class Body>
void for_groups(Range tile, Body body) {
  for (int64_t i = tile.begin; i < tile.end; i += kGroup) body(Range{i, std::min(i + kGroup, tile.end)});
}

// score[i,j] = (q_i + u)·k_j + (q_i + w)·r_{T−1−i+j}, both query terms times the scale already.
//
// The second product is computed where it is a plain product: against row m of r, not key j. Its element (i, m) belongs
// to key j = m − (T−1) + i, one column further right in each row: a row stride of kStride + 1 puts it there.
//
// s: a block's scores, row i of the tile at s + (i − tile.begin) · kStride, column 0 is key keys.begin. Columns that no
// query of a group sees hold anything. qu, qw: (rows, D) from query `rows` on; kt: panels of the block's keys; rt: of
// all of r.
inline void scores(real* s, const Head& head, Range tile, Range keys, const real* qu, const real* qw, const real* kt,
                   const real* rt) {
  const int64_t D = head.s.D, T = head.s.T, panel = D * kLanes;
  for_groups(tile, [&](Range group) {
    const Range seen = head.sight.keys(group, keys);
    if (seen.empty()) return;
    const int64_t row = group.begin - tile.begin;
    real* si = s + row * kStride - keys.begin;  // si[j]: the group's first row
    const int64_t m_end = T - 1 - group.begin + seen.end;
    const int64_t m = round_down(T - group.end + seen.begin),
                  m_vectors = (std::min(m_end, head.s.K) - m + kLanes - 1) / kLanes;
    multiply({si + m - (T - 1 - group.begin), kStride + 1, kLanes}, {qw + row * D, D, 1}, {rt + m * D, kLanes, panel},
             group.size(), m_vectors, D, Into::assign);

    const int64_t j = keys.begin + round_down(seen.begin - keys.begin);
    multiply({si + j, kStride, kLanes}, {qu + row * D, D, 1}, {kt + (j - keys.begin) * D, kLanes, panel}, group.size(),
             (seen.end - j + kLanes - 1) / kLanes, D, Into::add);
  });
}

}  // namespace lem::cpu
