// Philox, several blocks at a time: the draws of philox4x32 (random.h), many times as fast as one by one.
#pragma once

#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "tensor/random.h"

namespace lem::cpu {

// Philox multiplies 32-bit words into 64-bit products. A word per 64-bit lane makes both halves of a product cheap: the
// low half is where the next multiplication reads it, the high half is a shift away. What gathers in the upper halves
// is masked once, at the end.
#if defined(__AVX512F__)
inline constexpr int kPhiloxBlocks = 8;
#elif defined(__AVX2__)
inline constexpr int kPhiloxBlocks = 4;
#else
inline constexpr int kPhiloxBlocks = 2;
#endif
inline constexpr int kPhiloxDraws = 4 * kPhiloxBlocks;
typedef uint64_t Words __attribute__((vector_size(8 * kPhiloxBlocks)));

/// Products of the lower halves of the lanes. By intrinsic, as GCC 12 makes three multiplications of the plain
/// expression (and `maskz`, as it sees something uninitialised in the one without).
inline Words multiply_low_halves(Words a, Words b) {
#if defined(__AVX512F__)
  return Words(_mm512_maskz_mul_epu32(0xFF, __m512i(a), __m512i(b)));
#elif defined(__AVX2__)
  return Words(_mm256_mul_epu32(__m256i(a), __m256i(b)));
#else
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

/// a[i], b[i], a[i + 1], b[i + 1], … from lane `From` on
template <int From, size_t... L>
inline Words interleave(Words a, Words b, std::index_sequence<L...>) {
  return __builtin_shufflevector(a, b, (From + int(L / 2) + (L % 2 ? kPhiloxBlocks : 0))...);
}

/// draws[0, n) and up to kPhiloxDraws − 1 more = the draws of `stream` from block `block` on
inline void philox_draws(uint32_t* draws, const Stream& stream, uint64_t block, int64_t n) {
  uint64_t key0[10], key1[10];  // of each round
  for (uint32_t round = 0; round < 10; ++round) {
    key0[round] = uint32_t(stream.seed) + round * 0x9E3779B9u;
    key1[round] = uint32_t(stream.seed >> 32) + round * 0xBB67AE85u;
  }
  Words lanes{};
  for (int l = 0; l < kPhiloxBlocks; ++l) lanes[l] = uint64_t(l);
  for (int64_t i = 0; i < n; i += kPhiloxDraws, block += kPhiloxBlocks) {
    Words c0 = Words{} + block + lanes, c1 = c0 >> 32;
    Words c2 = Words{} + uint32_t(stream.stream), c3 = Words{} + (stream.stream >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const Words p0 = multiply_low_halves(c0, Words{} + 0xD2511F53u);
      const Words p1 = multiply_low_halves(c2, Words{} + 0xCD9E8D57u);
      c0 = (p1 >> 32) ^ c1 ^ key0[round], c1 = p1;
      c2 = (p0 >> 32) ^ c3 ^ key1[round], c3 = p0;
    }
    const Words first = (c0 & 0xFFFFFFFFu) | (c1 << 32), second = (c2 & 0xFFFFFFFFu) | (c3 << 32);
    const auto all = std::make_index_sequence<kPhiloxBlocks>();
    const Words low = interleave<0>(first, second, all), high = interleave<kPhiloxBlocks / 2>(first, second, all);
    std::memcpy(draws + i, &low, sizeof low);
    std::memcpy(draws + i + kPhiloxDraws / 2, &high, sizeof high);
  }
}

}  // namespace lem::cpu
