// Warp operations: the lanes that `mask` names meet, and the last to come computes what each of them gets.
#include <fmt/format.h>

#include <bit>

#include "cuda/simt/block.h"
#include "cuda/simt/tsan.h"

namespace simt {

const char* name(Wait wait) {
  static constexpr const char* names[] = {
      "nothing",           "__syncthreads",     "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",
      "__shfl_down_sync",  "__shfl_xor_sync",   "__ballot_sync",     "__all_sync",        "__any_sync",
      "__match_any_sync",  "__match_all_sync",  "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync",
      "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync", "__reduce_and_sync", "__reduce_or_sync",
      "__reduce_xor_sync"};
  return names[int(wait)];
}

namespace {
bool is_shuffle(Wait w) { return w >= Wait::shuffle && w <= Wait::shuffle_xor; }
int lowest(uint32_t mask) { return std::countr_zero(mask); }
}  // namespace

// Everyone that still can has come. A thread that has returned no longer counts: the hardware does not wait for it
// either.
bool Block::warp_complete(const Warp& warp, uint32_t mask) const {
  return (warp.waiting & mask) == (mask & warp.existing & ~warp.exited);
}

uint64_t Block::collective(Wait kind, unsigned mask, uint64_t value, int argument, int width, Site site) {
  return inside([&] { return wait_for_lanes(kind, mask, value, argument, width, site); });
}

uint64_t Block::wait_for_lanes(Wait kind, unsigned mask, uint64_t value, int argument, int width, Site site) {
  const unsigned me = current_thread_, lane = me % 32;
  Warp& warp = warp_[me / 32];
  Thread& t = thread_[me];
  t.wait = kind, t.mask = mask, t.value = value, t.argument = argument, t.width = width, t.site = site;
  if (!(mask >> lane & 1))
    fail("warp mask without the caller", site,
         fmt::format("lane {} calls {} with the mask {:#010x}, in which its own bit is not set", lane, name(kind),
                     mask));
  if (is_shuffle(kind) && (width < 1 || width > 32 || (width & (width - 1))))
    fail("shuffle width", site, fmt::format("{}: got {}, expected 1, 2, 4, 8, 16 or 32", name(kind), width));
  check_agreement(me);
  void* const token = t.token;
  // A warp operation moves values between lanes; only __syncwarp also orders what they read and write in memory.
  if (kind == Wait::sync_warp) tsan::release(token);
  warp.waiting |= 1u << lane;
  if (warp_complete(warp, mask)) complete_collective(me / 32, mask);
  leave();
  if (kind == Wait::sync_warp) tsan::acquire(token);
  return t.value;
}

// All lanes that a mask names must bring the same mask to the same operation; compare with one that waits already.
void Block::check_agreement(unsigned linear) {
  Thread& t = thread_[linear];
  const Warp& warp = warp_[linear / 32];
  const uint32_t others = warp.waiting & t.mask;
  if (!others) {
    t.token = t.wait == Wait::sync_warp ? tsan::fresh_token() : nullptr;
    return;
  }
  const unsigned other = linear / 32 * 32 + unsigned(lowest(others));
  const Thread& o = thread_[other];
  t.token = o.token;
  const bool same_place = t.wait == Wait::sync_warp || same(o.site, t.site);
  if (o.wait == t.wait && o.mask == t.mask && same_place) return;
  fail("warp divergence", t.site,
       fmt::format("this lane is at {} with the mask {:#010x}, but {}, which that mask names, waits at {}:{} in {} "
                   "with the mask "
                   "{:#010x}; all lanes of a mask must meet in the same operation with the same mask",
                   name(t.wait), t.mask, thread_name(other), o.site.file_name(), o.site.line(), name(o.wait), o.mask));
}

// CUDA C++ Programming Guide, "Warp Shuffle Functions": which lane each variant reads.
void Block::shuffle(unsigned linear, uint32_t participants) {
  Thread& t = thread_[linear];
  const int lane = int(linear % 32), first = lane & ~(t.width - 1), last = first + t.width - 1;
  int from = lane;
  if (t.wait == Wait::shuffle) from = first + (t.argument & (t.width - 1));
  if (t.wait == Wait::shuffle_up) from = lane - t.argument < first ? lane : lane - t.argument;
  if (t.wait == Wait::shuffle_down) from = lane + t.argument > last ? lane : lane + t.argument;
  if (t.wait == Wait::shuffle_xor) from = (lane ^ t.argument) > last ? lane : lane ^ t.argument;
  if (from < 0 || from > 31) from = lane;
  if (!(participants >> from & 1)) {
    const Warp& warp = warp_[linear / 32];
    const char* why = !(t.mask >> from & 1)          ? "the mask does not name it"
                      : !(warp.existing >> from & 1) ? "the block has no such thread"
                                                     : "that thread has returned from the kernel";
    current_thread_ = linear;
    fail("shuffle from a lane that is not there", t.site,
         fmt::format("{} with the mask {:#010x} reads lane {}, but {}", name(t.wait), t.mask, from, why));
  }
  t.argument = from;
}

namespace {

// What all lanes get. `values` are those of the lanes in `participants`.
uint64_t reduce(Wait kind, const uint64_t* values, uint32_t participants) {
  const auto fold = [&](auto first, auto combine) {
    using T = decltype(first);
    bool any = false;
    for (uint32_t m = participants; m; m &= m - 1) {
      const T v = T(values[lowest(m)]);
      first = any ? T(combine(first, v)) : v;
      any = true;
    }
    return uint64_t(first);
  };
  const auto add = [](auto a, auto b) { return a + b; };
  const auto min = [](auto a, auto b) { return a < b ? a : b; };
  const auto max = [](auto a, auto b) { return a > b ? a : b; };
  switch (kind) {
    case Wait::reduce_add:
    case Wait::reduce_add_signed:
      return fold(uint32_t{}, add);
    case Wait::reduce_min:
      return fold(uint32_t{}, min);
    case Wait::reduce_max:
      return fold(uint32_t{}, max);
    case Wait::reduce_min_signed:
      return fold(int32_t{}, min);
    case Wait::reduce_max_signed:
      return fold(int32_t{}, max);
    case Wait::reduce_and:
      return fold(uint32_t{}, [](auto a, auto b) { return a & b; });
    case Wait::reduce_or:
      return fold(uint32_t{}, [](auto a, auto b) { return a | b; });
    case Wait::reduce_xor:
      return fold(uint32_t{}, [](auto a, auto b) { return a ^ b; });
    default:
      break;
  }
  uint32_t ballot = 0;  // votes, and the lanes that match the first one
  for (uint32_t m = participants; m; m &= m - 1) {
    const int lane = lowest(m);
    const bool match = kind == Wait::match_all ? values[lane] == values[lowest(participants)] : values[lane] != 0;
    if (match) ballot |= 1u << lane;
  }
  if (kind == Wait::all) return ballot == participants;
  if (kind == Wait::any) return ballot != 0;
  if (kind == Wait::match_all) return ballot == participants ? participants : 0;
  return ballot;
}

}  // namespace

void Block::complete_collective(unsigned w, uint32_t mask) {
  Warp& warp = warp_[w];
  const uint32_t participants = mask & warp.waiting;
  const Wait kind = thread_[w * 32 + unsigned(lowest(participants))].wait;
  uint64_t values[32] = {};
  for (uint32_t m = participants; m; m &= m - 1) values[lowest(m)] = thread_[w * 32 + unsigned(lowest(m))].value;
  const uint64_t common = kind == Wait::sync_warp || is_shuffle(kind) ? 0 : reduce(kind, values, participants);
  for (uint32_t m = participants; m; m &= m - 1) {
    const unsigned linear = w * 32 + unsigned(lowest(m));
    Thread& t = thread_[linear];
    if (is_shuffle(kind)) {
      shuffle(linear, participants);
      t.value = values[t.argument];
    } else if (kind == Wait::match_any) {
      uint32_t match = 0;
      for (uint32_t k = participants; k; k &= k - 1) match |= uint32_t(values[lowest(k)] == t.value) << lowest(k);
      t.value = match;
    } else {
      t.value = common;
    }
    t.wait = Wait::nothing;
  }
  warp.waiting &= ~participants;
  spins_ = 0;
  const uint32_t turn = order().kind == Order::Kind::random ? uint32_t(mix(here.epoch, ++reshuffles_)) : 0;
  for (uint32_t i = 0; i < 32; ++i) {  // an odd factor makes i → factor · i + start a permutation of the 32 lanes
    const uint32_t lane = order().kind == Order::Kind::reverse ? 31 - i : ((turn | 1) * i + (turn >> 8)) & 31;
    if (participants >> lane & 1) ready_.push(w * 32 + lane);
  }
}

}  // namespace simt
