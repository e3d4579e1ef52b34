#include "cuda/simt/order.h"

#include <cstdlib>
#include <numeric>

#include "tensor/error.h"

namespace simt {

uint64_t mix(uint64_t a, uint64_t b) {  // splitmix64's finaliser (Steele, Lea and Flood 2014)
  uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

Order Order::parse(const std::string& text) {
  if (text == "forward") return {Kind::forward, 0};
  if (text == "reverse") return {Kind::reverse, 0};
  if (text == "random") return {Kind::random, 1};
  if (text.rfind("random:", 0) == 0) {
    char* end = nullptr;
    const uint64_t seed = std::strtoull(text.c_str() + 7, &end, 10);
    if (end != text.c_str() + 7 && *end == 0) return {Kind::random, seed};
  }
  lem::fail("[simt] SIMT_ORDER: got \"{}\", expected forward, reverse, random or random:<seed>", text);
}

std::string Order::text() const {
  if (kind == Kind::random) return "random:" + std::to_string(seed);
  return kind == Kind::reverse ? "reverse" : "forward";
}

uint64_t Order::at(uint64_t i, uint64_t n, uint64_t salt) const {
  if (kind == Kind::forward) return i;
  if (kind == Kind::reverse) return n - 1 - i;
  // i → (step · i + start) mod n visits each of n once when step and n have no common divisor: no table of 2³¹ blocks.
  const uint64_t start = mix(seed, salt) % n;
  uint64_t step = mix(seed, salt + 1) % n;
  while (std::gcd(step, n) != 1) step = (step + 1) % n;
  return uint64_t((static_cast<unsigned __int128>(step) * i + start) % n);
}

void Order::fill(std::vector<uint16_t>& order, unsigned n, uint64_t salt) const {
  order.resize(n);
  std::iota(order.begin(), order.end(), uint16_t{0});
  if (kind == Kind::reverse) {
    for (unsigned i = 0; i < n; ++i) order[i] = uint16_t(n - 1 - i);
  } else if (kind == Kind::random) {
    for (unsigned i = n; i > 1; --i) std::swap(order[i - 1], order[mix(seed ^ salt, i) % i]);
  }
}

namespace {
Order& current() {
  static Order order = [] {
    const char* text = std::getenv("SIMT_ORDER");
    return text && *text ? Order::parse(text) : Order{};
  }();
  return order;
}
}  // namespace

const Order& order() { return current(); }
void set_order(const Order& order) { current() = order; }

}  // namespace simt
