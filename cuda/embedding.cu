// Look-up of token vectors, and its gradient.
#include "cuda/rows.h"

namespace lem::LEM_DEVICE {
namespace {

// ---- forward: a token is a row's warp or block (cuda/rows.h); 8 bytes an element, 4 of them scattered by rows ----

template <int kRow, int W>
__global__ void __launch_bounds__(kRowBlock)
    embedding_forward_kernel(float* y, const int32_t* tokens, const float* table, float scale, int64_t n, int cols) {
  const int64_t i = row_of_thread<kRow>();
  if (i >= n) return;
  const float* vector = table + tokens[i] * int64_t(cols);
  for_each_column<kRow, W>(cols, [&](int c) {
    Floats<W> v = load<W>(vector + c);
    for (int w = 0; w < W; ++w) v.v[w] *= scale;
    store(y + i * cols + c, v);
  });
}

// ---- backward: dtable[token_i] += scale dy_i ----
//
// Tokens repeat, and atomics would add them up in another order each time. Here a block is one token of the vocabulary:
// it looks through all n tokens, 1024 at a time, lists in shared memory (4 KiB) where its own stand, in order, and adds
// those rows of dy, a thread a column. It so reads 4·n bytes of tokens, which stay in the caches: 4·n·V in all, 1.6 GB
// for 8192 tokens of 50,000, where no more than one barrier and a few instructions go to each 1024. Of memory it moves
// 4 bytes an element of dy and 8 of each row of dtable that a token stands for.
//
// A small vocabulary makes few blocks: then the tokens are shared out to several blocks as well, each with a gradient
// of its own, and column_sums adds those up.

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kRounds = 4;  // each warp looks at 32 tokens in each
constexpr int kTile = kThreads * kRounds;
constexpr int64_t kEnoughBlocks = 512;  // for a large GPU

/// Block (v, j) adds tokens j·each … (j + 1)·each − 1 to row v of dtable; where `zero`, of the j-th of several tables,
/// which it clears first.
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(float* dtable, const float* dy, const int32_t* tokens, float scale, int64_t n,
                              int64_t each, int64_t cols, bool zero) {
  SHARED(int, found, [kTile]);    // where in the tile, ascending
  SHARED(int, counts, [kWarps]);  // of the tokens that each warp found
  const int thread = int(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp, token = int(blockIdx.x);
  float* row = dtable + (int64_t(blockIdx.y) * gridDim.x + blockIdx.x) * cols;
  if (zero)
    for (int64_t c = thread; c < cols; c += kThreads) row[c] = 0;

  const int64_t begin = blockIdx.y * each, end = begin + each < n ? begin + each : n;
  for (int64_t tile = begin; tile < end; tile += kTile) {
    unsigned here[kRounds];  // one bit a token: this warp's 128 neighbours
    int count = 0;
#pragma unroll
    for (int k = 0; k < kRounds; ++k) {
      const int64_t i = tile + (warp * kRounds + k) * kWarp + lane;
      here[k] = __ballot_sync(kAllLanes, i < end && tokens[i] == token);
      count += __popc(here[k]);
    }
    if (lane == 0) counts[warp] = count;
    if (!__syncthreads_or(count)) continue;  // for all threads alike

    int before = 0, all = 0;
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) before += counts[w];
      all += counts[w];
    }
#pragma unroll
    for (int k = 0; k < kRounds; ++k) {
      if (here[k] >> lane & 1u)
        found[before + __popc(here[k] & ((1u << lane) - 1))] = (warp * kRounds + k) * kWarp + lane;
      before += __popc(here[k]);
    }
    __syncthreads();
    for (int64_t c = thread; c < cols; c += kThreads) {
      float sum = 0;
#pragma unroll 4
      for (int f = 0; f < all; ++f) sum += dy[(tile + found[f]) * cols + c];
      row[c] += scale * sum;
    }
    __syncthreads();  // before the next tile's list
  }
}

}  // namespace

void embedding_forward(real* y, const int32_t* tokens, const real* table, real scale, int64_t n, int64_t C) {
  if (n * C == 0) return;
  const auto launch = [&](auto kRow, auto W, unsigned blocks) {
    LAUNCH((embedding_forward_kernel<kRow.value, W.value>), blocks, kRowBlock, 0, stream())
    (y, tokens, table, scale, n, int(C));
    CUDA_LAUNCHED();
  };
  launch_rows(n, C, launch, y, table);
}

void embedding_backward(real* dtable, const real* dy, const int32_t* tokens, real scale, int64_t n, int64_t V,
                        int64_t C) {
  if (n * V * C == 0) return;
  const int64_t tiles = ceil_div(n, kTile), wanted = ceil_div(kEnoughBlocks, V);
  const int64_t each = ceil_div(tiles, wanted < tiles ? wanted : tiles) * kTile, chunks = ceil_div(n, each);
  const dim3 grid{unsigned(V), unsigned(chunks)};
  if (chunks == 1) {
    LAUNCH(embedding_backward_kernel, grid, kThreads, 0, stream())(dtable, dy, tokens, scale, n, each, C, false);
    CUDA_LAUNCHED();
    return;
  }
  const Workspace<float> tables(chunks * V * C);
  LAUNCH(embedding_backward_kernel, grid, kThreads, 0, stream())(tables, dy, tokens, scale, n, each, C, true);
  CUDA_LAUNCHED();
  column_sums(dtable, tables, chunks, V * C);
}

}  // namespace lem::LEM_DEVICE
