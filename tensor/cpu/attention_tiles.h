// The building blocks of tiled attention on the CPU: one matrix product of tiles, and the packed layouts it reads.
//
// A product of small matrices is bound by loads unless its result stays in registers. `multiply` keeps a block of C in
// registers while it walks the inner dimension; one vector of B serves all rows of the block, one scalar of A all its
// vectors. B's columns lie along the lanes of vectors; everything else is strides, and strides say all that attention
// needs: transposed operands, packed panels, and the relative shift, which is a row stride one longer than the row.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "tensor/cpu/simd.h"
#include "tensor/cpu/vector.h"

namespace lem::cpu {

// How many of the vector registers may hold C (the others: B's vectors, A's scalar), and how many vectors wide it is.
inline constexpr int kAccumulators = kVectorRegisters * 3 / 4, kMaxVectors = kVectorRegisters / 8;

/// e^x for x ≤ 88; −∞ gives 0, NaN stays NaN.
inline Vector exp_vector(Vector x) {
  if constexpr (kDouble)
    return exp_double<VectorBits>(x);
  else
    return exp_single<VectorBits>(x);
}

/// x with the lanes l and l ^ Step exchanged
template <int Step, size_t... L>
inline Vector swap_lanes(Vector x, std::index_sequence<L...>) {
  return __builtin_shufflevector(x, x, (int(L) ^ Step)...);
}
/// op over all lanes, in pairs: lane l with l ^ 8, then l ^ 4, …
template <int Step = kLanes / 2, class Op>
inline real reduce_lanes(Vector x, Op op) {
  if constexpr (Step == 0)
    return x[0];
  else
    return reduce_lanes<Step / 2>(op(x, swap_lanes<Step>(x, std::make_index_sequence<kLanes>())), op);
}

// ---- C = A B or C += A B --------------------------------------------------------------------------------------------

/// A (rows, inner): element (i, k) is data[i · row + k · inner].
struct Scalars {
  const real* data;
  int64_t row, inner;
};
/// B (inner, vectors · kLanes): vector v of row k starts at data[k · inner + v · vector].
struct Vectors {
  const real* data;
  int64_t inner, vector;
};
/// C (rows, vectors · kLanes): vector v of row i starts at data[i · row + v · vector].
struct Tile {
  real* data;
  int64_t row, vector;
};
enum class Into { assign, add };

/// The register block: R rows by V vectors of C.
template <int R, int V>
[[gnu::noinline]] void multiply_block(Tile c, Scalars a, Vectors b, int64_t inner, Into into) {
  Vector sum[R][V];
#pragma GCC unroll 12
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[i][v] = into == Into::add ? load(c.data + i * c.row + v * c.vector) : Vector{};
  for (int64_t k = 0; k < inner; ++k) {
    Vector bk[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) bk[v] = load(b.data + k * b.inner + v * b.vector);
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i) {
      const real aik = a.data[i * a.row + k * a.inner];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] += aik * bk[v];
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(c.data + i * c.row + v * c.vector, sum[i][v]);
}

/// V vector columns of C: its rows in blocks of about equal height, so that no small block is left at the end.
template <int V>
void multiply_columns(Tile c, Scalars a, Vectors b, int64_t rows, int64_t inner, Into into) {
  constexpr int kRows = std::min(12, kAccumulators / V);
  using Block = void (*)(Tile, Scalars, Vectors, int64_t, Into);
  static constexpr auto kBlocks = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<Block, kRows>{multiply_block<R + 1, V>...};
  }
  (std::make_integer_sequence<int, kRows>());

  const int64_t blocks = (rows + kRows - 1) / kRows;
  for (int64_t n = 0; n < blocks; ++n) {
    const int64_t i = rows * n / blocks, height = rows * (n + 1) / blocks - i;
    kBlocks[size_t(height - 1)]({c.data + i * c.row, c.row, c.vector}, {a.data + i * a.row, a.row, a.inner}, b, inner,
                                into);
  }
}

/// C = A B or C += A B with C (rows, vectors · kLanes).
inline void multiply(Tile c, Scalars a, Vectors b, int64_t rows, int64_t vectors, int64_t inner, Into into) {
  while (vectors > 0) {
    const int64_t take = std::min<int64_t>(vectors, kMaxVectors);
    switch (take) {
      case 1:
        multiply_columns<1>(c, a, b, rows, inner, into);
        break;
      case 2:
        multiply_columns<2>(c, a, b, rows, inner, into);
        break;
      case 3:
        multiply_columns<std::min(3, kMaxVectors)>(c, a, b, rows, inner, into);
        break;
      case 4:
        multiply_columns<std::min(4, kMaxVectors)>(c, a, b, rows, inner, into);
        break;
    }
    vectors -= take, c.data += take * c.vector, b.data += take * b.vector;
  }
}

// ---- the last few columns of C += A B -------------------------------------------------------------------------------
//
// 50 columns fill three vectors of 16 lanes, and 2 lanes of a fourth that costs as much as the others. So few columns
// are cheaper as dot products, with the inner dimension along the lanes.

inline constexpr int kMaxDots = 2;
/// How many of D columns are left to dot products.
constexpr int64_t dot_columns(int64_t D) { return D > kLanes && D % kLanes <= kMaxDots ? D % kLanes : 0; }

/// c[i · c_row + n] += Σ_{p, l} a[i · a_row + p · kLanes + l] b[p · panel + n · kLanes + l] for R rows i, N columns n
template <int R, int N>
[[gnu::noinline]] void dot_block(real* c, int64_t c_row, const real* a, int64_t a_row, const real* b, int64_t panel,
                                 int64_t panels) {
  Vector sum[R][N] = {};
  for (int64_t p = 0; p < panels; ++p) {
    Vector bp[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) bp[n] = load(b + p * panel + n * kLanes);
#pragma GCC unroll 6
    for (int i = 0; i < R; ++i) {
      const Vector ap = load(a + i * a_row + p * kLanes);
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) sum[i][n] += ap * bp[n];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) c[i * c_row + n] += reduce_lanes(sum[i][n], [](Vector x, Vector y) { return x + y; });
}

template <int N>
void dot_rows(real* c, int64_t c_row, const real* a, int64_t a_row, const real* b, int64_t panel, int64_t panels,
              int64_t rows) {
  constexpr int kRows = 6;
  using Block = void (*)(real*, int64_t, const real*, int64_t, const real*, int64_t, int64_t);
  static constexpr auto kBlocks = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<Block, kRows>{dot_block<R + 1, N>...};
  }
  (std::make_integer_sequence<int, kRows>());
  for (int64_t i = 0; i < rows; i += kRows)
    kBlocks[size_t(std::min<int64_t>(kRows, rows - i) - 1)](c + i * c_row, c_row, a + i * a_row, a_row, b, panel,
                                                            panels);
}

/// x (n, D) of keys or distances as the right factor of a product: padded rows, and its last dot_columns(D) in panels.
struct RightFactor {
  const real* padded;
  const real* panels;
  int64_t panel;  // from one panel to the next
};

/// sums (rows, round_up(D)) += weights x, over rows `range` of x. weights[n] belongs to row n of x, the next row of
/// weights follows `row` further; in the whole vectors around `range`, weights that don't count are zero.
inline void add_products(real* sums, const real* weights, int64_t row, RightFactor x, int64_t rows, int64_t D,
                         int64_t begin, int64_t end) {
  const int64_t width = round_up(D), dots = dot_columns(D), columns = dots ? D - dots : width;
  multiply({sums, width, kLanes}, {weights + begin, row, 1}, {x.padded + begin * width, width, kLanes}, rows,
           columns / kLanes, end - begin, Into::add);
  if (dots == 0) return;
  const int64_t first = round_down(begin), panels = (round_up(end) - first) / kLanes;
  const auto dot = dots == 1 ? dot_rows<1> : dot_rows<2>;
  dot(sums + columns, width, weights + first, row, x.panels + first / kLanes * x.panel, x.panel, panels, rows);
}

// ---- packed layouts of x (n, D), whose rows lie `stride` apart ------------------------------------------------------
//
//   panels  (n / kLanes, D, kLanes): xᵀ in strips of kLanes columns. As B of a product, contiguous and aligned.
//   padded  (n, round_up(D)): x itself, its rows filled up with zeros to whole vectors.

template <int Step, size_t... L>
inline void exchange(Vector& a, Vector& b, std::index_sequence<L...>) {
  // The lanes L with bit Step clear stay in a, the others trade places: the off-diagonal squares of a transpose.
  const Vector low = __builtin_shufflevector(a, b, (L & Step ? int(L) - Step + kLanes : int(L))...);
  const Vector high = __builtin_shufflevector(a, b, (L & Step ? int(L) + kLanes : int(L) + Step)...);
  a = low, b = high;
}

template <int Step>
inline void exchange_all(Vector (&x)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    if (!(i & Step)) exchange<Step>(x[i], x[i + Step], std::make_index_sequence<kLanes>());
  if constexpr (Step > 1) exchange_all<Step / 2>(x);
}

/// dst (kLanes, kLanes) = srcᵀ, in log₂ kLanes rounds that swap ever smaller squares.
inline void transpose_square(real* dst, int64_t dst_stride, const real* src, int64_t src_stride) {
  Vector x[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) x[i] = load(src + i * src_stride);
  exchange_all<kLanes / 2>(x);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(dst + i * dst_stride, x[i]);
}

/// Asks for rows [first, first + kLanes) of x (n, D) ahead of time: strided as they are, the processor doesn't guess
/// them.
template <bool ForWriting>
inline void prefetch_rows(const real* x, int64_t stride, int64_t first, int64_t n, int64_t D) {
  for (int64_t j = first; j < std::min(n, first + kLanes); ++j)
    for (int64_t d = 0; d < D; d += 64 / int64_t(sizeof(real))) __builtin_prefetch(x + j * stride + d, ForWriting);
}

/// panels (⌈n / kLanes⌉, D, kLanes) = xᵀ; lanes beyond n are zero.
inline void pack_panels(real* panels, const real* x, int64_t stride, int64_t n, int64_t D) {
  for (int64_t j = 0; j < n; j += kLanes, panels += D * kLanes, x += kLanes * stride) {
    prefetch_rows<false>(x, stride, kLanes, n - j, D);
    if (j + kLanes <= n && D >= kLanes) {
      // The last square overlaps the one before it rather than reach beyond D.
      for (int64_t d = 0; d < D; d += kLanes) {
        const int64_t at = std::min(d, D - kLanes);
        transpose_square(panels + at * kLanes, kLanes, x + at, stride);
      }
      continue;
    }
    for (int64_t d = 0; d < D; ++d)
      for (int64_t l = 0; l < kLanes; ++l) panels[d * kLanes + l] = j + l < n ? x[l * stride + d] : 0;
  }
}

/// x (n, D) = panelsᵀ
inline void unpack_panels(real* x, int64_t stride, const real* panels, int64_t n, int64_t D) {
  for (int64_t j = 0; j < n; j += kLanes, panels += D * kLanes, x += kLanes * stride) {
    prefetch_rows<true>(x, stride, kLanes, n - j, D);
    if (j + kLanes <= n && D >= kLanes) {
      for (int64_t d = 0; d < D; d += kLanes) {
        const int64_t at = std::min(d, D - kLanes);
        transpose_square(x + at, stride, panels + at * kLanes, kLanes);
      }
      continue;
    }
    for (int64_t l = 0; l < kLanes && j + l < n; ++l)
      for (int64_t d = 0; d < D; ++d) x[l * stride + d] = panels[d * kLanes + l];
  }
}

/// rows (n, round_up(D)) = x, zeros to the right
inline void pack_padded(real* rows, const real* x, int64_t stride, int64_t n, int64_t D) {
  const int64_t width = round_up(D);
  for (int64_t j = 0; j < n; ++j, rows += width, x += stride) {
    store(rows + width - kLanes, Vector{});
    for (int64_t d = 0; d + kLanes <= D; d += kLanes) store(rows + d, load(x + d));
    if (D >= kLanes)
      store(rows + D - kLanes, load(x + D - kLanes));
    else
      std::copy_n(x, D, rows);
  }
}

// ---- temporary memory -----------------------------------------------------------------------------------------------

/// n numbers, aligned to cache lines, not initialised (NaN in debug builds).
class Scratch {
 public:
  explicit Scratch(int64_t n) {
    const size_t bytes = (size_t(n) * sizeof(real) + 63) / 64 * 64;
    data_.reset(static_cast<real*>(std::aligned_alloc(64, std::max<size_t>(bytes, 64))));
    if (!data_) throw std::bad_alloc();
#ifdef LEM_DEBUG
    std::fill_n(data_.get(), n, std::numeric_limits<real>::quiet_NaN());
#endif
  }
  /// The next n numbers of the buffer, from a cache line's start on.
  operator real*() { return data_.get(); }

 private:
  struct Free {
    void operator()(real* p) const { std::free(p); }
  };
  std::unique_ptr<real, Free> data_;
};

}  // namespace lem::cpu
