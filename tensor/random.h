// Random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// Counter based: the bits of draw i of stream s under a seed are a pure function philox(seed, s, i), so any thread on
// any backend computes them without state, and a backward pass draws its forward's dropout mask again instead of
// storing it. The layout is cuRAND's: curand_init(seed, stream, i) followed by curand() gives the same bits.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace lem {

/// Four 32-bit draws of block `block` in `stream`: draws 4·block … 4·block + 3.
inline std::array<uint32_t, 4> philox4x32(uint64_t seed, uint64_t stream, uint64_t block) {
  uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32), c2 = uint32_t(stream), c3 = uint32_t(stream >> 32);
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    const uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c0 = n0, c1 = uint32_t(p1), c2 = n2, c3 = uint32_t(p0);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

/// One stream of random draws: what a kernel that draws (dropout, sticky sampling) is handed.
struct Stream {
  uint64_t seed = 0, stream = 0;

  uint32_t bits(uint64_t i) const { return philox4x32(seed, stream, i / 4)[i % 4]; }
  /// Uniform in [0, 1) with 24 random bits, the same number in float and in double.
  double uniform(uint64_t i) const { return (bits(i) >> 8) * (1.0 / 16777216.0); }
  /// Standard normal by Box–Muller from draws 2i and 2i + 1.
  double normal(uint64_t i) const {
    const double u = ((bits(2 * i) >> 8) + 1) * (1.0 / 16777216.0);  // (0, 1]: the logarithm needs it
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * uniform(2 * i + 1));
  }
};

/// Hands out streams of one seed in order. Its two numbers are all that a checkpoint needs to go on exactly.
struct Random {
  uint64_t seed = 0, next = 0;
  Stream stream() { return {seed, next++}; }
  /// The random numbers of item `index` alone, such as a sample: under a seed of their own, whatever was handed out.
  Random child(uint64_t index) const {
    const auto bits = philox4x32(seed, uint64_t(1) << 62, index);  // a stream that counting from 0 does not reach
    return {uint64_t(bits[1]) << 32 | bits[0], 0};
  }
};

}  // namespace lem
