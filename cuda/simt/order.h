// The order in which threads and blocks run: SIMT_ORDER=forward | reverse | random | random:<seed>. A GPU promises
// none, so results must be the same in all of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace simt {

struct Order {
  enum class Kind { forward, reverse, random } kind = Kind::forward;
  uint64_t seed = 1;

  /// "forward", "reverse", "random", "random:7"; an lem::Error for anything else.
  static Order parse(const std::string& text);
  std::string text() const;

  /// The i-th of n to run. `salt` tells launches apart, so that random order differs between them.
  uint64_t at(uint64_t i, uint64_t n, uint64_t salt) const;
  /// All n of them; a real shuffle when random.
  void fill(std::vector<uint16_t>& order, unsigned n, uint64_t salt) const;
  /// One of n choices, for streams.
  uint64_t pick(uint64_t n, uint64_t salt) const { return n == 0 ? 0 : at(0, n, salt); }
};

/// The order in force: set_order's last argument, or the environment's.
const Order& order();
void set_order(const Order& order);

/// A well-mixed number from two others.
uint64_t mix(uint64_t a, uint64_t b);

}  // namespace simt
