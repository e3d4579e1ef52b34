// Attention to the continuous memory (docs/continuous-memory.md):
//   z_i = Σ_j r_ij values_j,   r_ij = E_{p_i}[ψ_j].
//
// r never exists in global memory, (T, N) for each head: a block makes it in shared memory, 64 queries × 32 functions
// (or 32 × 64) at a time, and multiplies it with a tile of values (or of dz) there. Backward makes it again, twice: the
// gradient of a density is a sum over functions, that of a value a sum over queries, and each sum belongs to one block,
// so that its order is fixed.
//
// All three kernels are bound by arithmetic: N D multiplications and N closed forms a query (or a function: T D and T),
// against 4 (D + 2) bytes each of input and output. Blocks have 256 threads: products give each 4 × 4 sums of a 64 × 64
// tile, in registers, so that two 16-byte reads of shared memory feed 16 multiplications; closed forms give each one
// query and 8 neighbouring functions, so that what depends on the density alone is worked out once for these, and the
// functions' parameters are the same in all lanes of a warp. Columns beyond 64 have blocks of their own.
#include "cuda/expectation.h"

namespace lem::LEM_DEVICE {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;    // rows and columns of what a block sums up
constexpr int kDepth = 32;   // terms of the sums in shared memory
constexpr int kEight = 8;    // functions a thread has
constexpr int kStride = 68;  // floats between rows in shared memory: a multiple of 4, and 8 rows meet all 32 banks

/// How many blocks an SM must have registers for: several hide the latency of each other's barriers, but the closed
/// forms in double would spill.
template <class E>
constexpr int kBlocks = 2;
template <BasisKind basis>
constexpr int kBlocks<Expect<basis, DensityKind::gaussian, float>> = 3;
template <BasisKind basis>
constexpr int kBlocks<Expect<basis, DensityKind::truncated_gaussian, float>> = 1;

/// to (rows, 64), kStride apart, = from (valid_rows, columns), `stride` apart, with zeros around. A warp reads 32
/// neighbours of a row.
__device__ inline void stage(float* to, int rows, const float* from, int64_t stride, int64_t valid_rows,
                             int64_t columns) {
  for (int e = threadIdx.x; e < rows * kTile; e += kThreads) {
    const int row = e / kTile, column = e % kTile;
    to[row * kStride + column] = row < valid_rows && column < columns ? from[row * stride + column] : 0.0f;
  }
}

/// A thread's 4 × 4 sums of Σ_k left[k][row] right[k][column]. The 16 threads of a half warp have neighbouring rows and
/// the same columns, so a warp whose columns lie beyond the last one has nothing to do.
struct Sums {
  float at[4][4] = {};

  __device__ static int row() { return 4 * (threadIdx.x % 16); }
  __device__ static int column() { return 4 * (threadIdx.x / 16); }
  /// left, right: (kDepth, 64), kStride apart
  __device__ void add(const float* left, const float* right) {
#pragma unroll 8
    for (int k = 0; k < kDepth; ++k) {
      const float4 l = *reinterpret_cast<const float4*>(left + k * kStride + row());
      const float4 r = *reinterpret_cast<const float4*>(right + k * kStride + column());
      const float rows[4] = {l.x, l.y, l.z, l.w}, columns[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int c = 0; c < 4; ++c) at[i][c] += rows[i] * columns[c];
    }
  }
  /// to (valid_rows, columns), `stride` apart
  __device__ void store(float* to, int64_t stride, int64_t valid_rows, int64_t columns) const {
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int c = 0; c < 4; ++c)
        if (row() + i < valid_rows && column() + c < columns) to[(row() + i) * stride + column() + c] = at[i][c];
  }
};

/// How many of [0, n) are left at `from`, at most `most`; not below 0.
__device__ inline int left_of(int64_t n, int64_t from, int most) {
  const int64_t left = n - from;
  return left < 0 ? 0 : left < most ? int(left) : most;
}

// ---- z (B, T, H·D): a block has 64 queries of one (b, h) and 64 of D, and goes through the functions. Thread t makes
// r for query t % 64 and functions 8 (t / 64) … + 7 of 32. Shared memory: r and values, 17 KiB. ----

template <class E>
__global__ void __launch_bounds__(kThreads, kBlocks<E>)
    forward_kernel(float* z, const float* density, const float* values, BasisView basis, ContinuousAttention s) {
  SHARED(float4, r_tile, [kDepth * kStride / 4]);       // (functions, queries)
  SHARED(float4, values_tile, [kDepth * kStride / 4]);  // (functions, columns)
  float *r = &r_tile[0].x, *v = &values_tile[0].x;
  const int64_t C = s.H * s.D, tiles = ceil_div(s.T, kTile), parts = ceil_div(s.D, kTile);
  const int64_t d0 = blockIdx.x % parts * kTile, t0 = blockIdx.x / parts % tiles * kTile;
  const int64_t bh = blockIdx.x / (parts * tiles), b = bh / s.H, h = bh % s.H;
  const int query = threadIdx.x % kTile, first = threadIdx.x / kTile * kEight;
  const int queries = left_of(s.T, t0, kTile), columns = left_of(s.D, d0, kTile);
  const int64_t at = bh * s.T + t0 + (query < queries ? query : 0);
  E expect(density[at], density[s.B * s.H * s.T + at]);
  Sums sums;
  for (int64_t j0 = 0; j0 < basis.N; j0 += kDepth) {
    stage(v, kDepth, values + (b * basis.N + j0) * C + h * s.D + d0, C, basis.N - j0, columns);
    const int count = left_of(basis.N, j0 + first, kEight);
    eight_expectations(expect, basis.a + j0 + first, basis.b + j0 + first, count,
                       [&](int j, const Expectation& e) { r[(first + j) * kStride + query] = e.value; });
    for (int j = count; j < kEight; ++j) r[(first + j) * kStride + query] = 0;
    __syncthreads();
    if (Sums::column() < columns) sums.add(r, v);
    __syncthreads();  // before the tiles are written again
  }
  sums.store(z + (b * s.T + t0) * C + h * s.D + d0, C, queries, columns);
}

// ---- dμ and dσ²: with dr_ij = values_j · dz_i, Σ_j dr_ij ∂r_ij. A block has 64 queries of one (b, h) and goes through
// the functions, 32 at a time; thread t has query t % 64 and 8 of the functions. It reads dz and values four columns at
// a time, the latter at the same address as its whole warp: 9 reads of 16 bytes feed 32 multiplications. The four sums
// of a query are added in order. Shared memory: dz, values, and each thread's own dr: 34 KiB. ----

template <class E>
__global__ void __launch_bounds__(kThreads, kBlocks<E> < 2 ? 1 : 2)
    density_kernel(float* ddensity, const float* dz, const float* density, const float* values, BasisView basis,
                   ContinuousAttention s) {
  SHARED(float4, dz_tile, [kTile * kStride / 4]);       // (queries, columns)
  SHARED(float4, values_tile, [kDepth * kStride / 4]);  // (functions, columns)
  SHARED(float, dr, [kEight][kThreads]);
  const int64_t C = s.H * s.D, tiles = ceil_div(s.T, kTile), all = s.B * s.H * s.T;
  const int64_t t0 = blockIdx.x % tiles * kTile, bh = blockIdx.x / tiles, b = bh / s.H, h = bh % s.H;
  const int query = threadIdx.x % kTile, first = threadIdx.x / kTile * kEight, queries = left_of(s.T, t0, kTile);
  const int64_t at = bh * s.T + t0 + (query < queries ? query : 0);
  E expect(density[at], density[all + at]);
  float dmu = 0, dsigma2 = 0;
  for (int64_t j0 = 0; j0 < basis.N; j0 += kDepth) {
    float sums[kEight] = {};
    for (int64_t d0 = 0; d0 < s.D; d0 += kTile) {
      const int columns = left_of(s.D, d0, kTile);
      __syncthreads();             // before the tiles are written again
      if (j0 == 0 || s.D > kTile)  // the same for the whole block
        stage(&dz_tile[0].x, kTile, dz + (b * s.T + t0) * C + h * s.D + d0, C, queries, columns);
      stage(&values_tile[0].x, kDepth, values + (b * basis.N + j0) * C + h * s.D + d0, C, basis.N - j0, columns);
      __syncthreads();
#pragma unroll 1
      for (int d = 0; d < ceil_div(columns, 4); ++d) {
        const float4 x = dz_tile[query * (kStride / 4) + d];
#pragma unroll
        for (int j = 0; j < kEight; ++j) {
          const float4 v = values_tile[(first + j) * (kStride / 4) + d];
          sums[j] += x.x * v.x + x.y * v.y + x.z * v.z + x.w * v.w;
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kEight; ++j) dr[j][threadIdx.x] = sums[j];  // read by this thread alone
    eight_expectations(expect, basis.a + j0 + first, basis.b + j0 + first, left_of(basis.N, j0 + first, kEight),
                       [&](int j, const Expectation& e) {
                         dmu += dr[j][threadIdx.x] * e.dmu;
                         dsigma2 += dr[j][threadIdx.x] * e.dsigma2;
                       });
  }
  dr[0][threadIdx.x] = dmu, dr[1][threadIdx.x] = dsigma2;
  __syncthreads();
  const int which = threadIdx.x / kTile;  // 0: dμ, 1: dσ²
  if (which < 2 && query < queries) {
    float sum = 0;
    for (int part = 0; part < kThreads / kTile; ++part) sum += dr[which][part * kTile + query];
    ddensity[which * all + at] = sum;
  }
}

// ---- dvalues_j = Σ_i r_ij dz_i: a block has 64 functions and 64 of D of one (b, h), and goes through the queries of
// its part, 32 at a time. Thread t makes r for query t % 32 and 8 of the functions. Shared memory: r and dz, 17 KiB.
// With few heads and functions there would be few blocks, so the queries come in `parts`, whose sums go to dvalues
// (parts, B, N, C) and are added up by sum_parts_kernel, in order. ----

template <class E>
__global__ void __launch_bounds__(kThreads, kBlocks<E>)
    values_kernel(float* dvalues, const float* dz, const float* density, BasisView basis, ContinuousAttention s,
                  int64_t part_queries) {
  SHARED(float4, r_tile, [kDepth * kStride / 4]);   // (queries, functions)
  SHARED(float4, dz_tile, [kDepth * kStride / 4]);  // (queries, columns)
  float *r = &r_tile[0].x, *x = &dz_tile[0].x;
  const int64_t C = s.H * s.D, tiles = ceil_div(basis.N, kTile), strips = ceil_div(s.D, kTile);
  const int64_t d0 = blockIdx.x % strips * kTile, j0 = blockIdx.x / strips % tiles * kTile;
  const int64_t bh = blockIdx.x / (strips * tiles) % (s.B * s.H), part = blockIdx.x / (strips * tiles * s.B * s.H);
  const int64_t b = bh / s.H, h = bh % s.H;
  const int query = threadIdx.x % kDepth, first = threadIdx.x / kDepth * kEight;
  const int columns = left_of(s.D, d0, kTile), count = left_of(basis.N, j0 + first, kEight);
  const int64_t end = min(s.T, (part + 1) * part_queries);
  Sums sums;
  for (int64_t t0 = part * part_queries; t0 < end; t0 += kDepth) {
    stage(x, kDepth, dz + (b * s.T + t0) * C + h * s.D + d0, C, end - t0, columns);
    float* mine = r + query * kStride + first;
    const int made = t0 + query < end ? count : 0;
    if (made > 0) {
      const int64_t at = bh * s.T + t0 + query;
      E expect(density[at], density[s.B * s.H * s.T + at]);
      eight_expectations(expect, basis.a + j0 + first, basis.b + j0 + first, made,
                         [&](int j, const Expectation& e) { mine[j] = e.value; });
    }
    for (int j = made; j < kEight; ++j) mine[j] = 0;
    __syncthreads();
    if (Sums::column() < columns) sums.add(r, x);
    __syncthreads();  // before the tiles are written again
  }
  sums.store(dvalues + ((part * s.B + b) * basis.N + j0) * C + h * s.D + d0, C, basis.N - j0, columns);
}

/// y (n) = Σ over the parts of x (parts, n): a thread has one element, 4 (parts + 1) bytes.
__global__ void __launch_bounds__(kThreads) sum_parts_kernel(float* y, const float* x, int64_t parts, int64_t n) {
  for (int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) {
    float sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += x[part * n + i];
    y[i] = sum;
  }
}

}  // namespace

void continuous_attention_forward(real* z, const real* density, const real* values, BasisView basis,
                                  const ContinuousAttention& s) {
  const int64_t blocks = s.B * s.H * ceil_div(s.T, kTile) * ceil_div(s.D, kTile);
  if (blocks == 0) return;
  const auto kernel = for_kinds<float>(basis.kind, s.density, []<class E>(E*) { return &forward_kernel<E>; });
  LAUNCH(kernel, unsigned(blocks), kThreads, 0, stream())(z, density, values, basis, s);
  CUDA_LAUNCHED();
}

void continuous_attention_backward(real* ddensity, real* dvalues, const real* dz, const real* density,
                                   const real* values, BasisView basis, const ContinuousAttention& s) {
  if (const int64_t blocks = s.B * s.H * ceil_div(s.T, kTile); blocks > 0) {
    const auto kernel = for_kinds<float>(basis.kind, s.density, []<class E>(E*) { return &density_kernel<E>; });
    LAUNCH(kernel, unsigned(blocks), kThreads, 0, stream())(ddensity, dz, density, values, basis, s);
    CUDA_LAUNCHED();
  }
  const int64_t blocks = s.B * s.H * ceil_div(basis.N, kTile) * ceil_div(s.D, kTile), n = s.B * basis.N * s.H * s.D;
  if (blocks == 0) return;
  // Parts of at least 128 queries, and no more than give 512 blocks; not asked of the GPU, so that the bits are the
  // same on all of them. Without queries there is one part, which writes zeros.
  constexpr int64_t kPartQueries = 128, kWanted = 512;
  const int64_t most = min(ceil_div(s.T, kPartQueries), ceil_div(kWanted, blocks));
  const int64_t part_queries = max(int64_t(1), ceil_div(ceil_div(s.T, max(int64_t(1), most)), kDepth)) * kDepth;
  const int64_t parts = max(int64_t(1), ceil_div(s.T, part_queries));
  const Workspace<float> partial(parts > 1 ? parts * n : 0);
  const auto kernel = for_kinds<float>(basis.kind, s.density, []<class E>(E*) { return &values_kernel<E>; });
  LAUNCH(kernel, unsigned(blocks * parts), kThreads, 0, stream())
  (parts > 1 ? partial : dvalues, dz, density, basis, s, part_queries);
  CUDA_LAUNCHED();
  if (parts == 1) return;
  LAUNCH(sum_parts_kernel, blocks_for(n, kThreads), kThreads, 0, stream())(dvalues, partial, parts, n);
  CUDA_LAUNCHED();
}

}  // namespace lem::LEM_DEVICE
