#include "cuda/simt/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "cuda/simt/faults.h"
#include "cuda/simt/order.h"
#include "cuda/simt/tsan.h"

namespace simt {

thread_local constinit Here here = {};
thread_local constinit Block* Block::current_ = nullptr;

namespace {
constexpr size_t kSanitizerFibers = 2048;  // a sanitizer's fiber costs a millisecond to make: they are used in turn
constexpr size_t kColour =
    832;  // the stacks' tops differ in their lowest 12 bits, or they would all share a few cache lines
// So long may a block do nothing but repeat atomic operations. SIMT_SPIN=<seconds> changes it.
std::chrono::seconds spin_limit() {
  static const char* text = std::getenv("SIMT_SPIN");
  return std::chrono::seconds(text && *text ? std::atoi(text) : 10);
}
}  // namespace

Block::Block() {
  fibers_.reserve(kSanitizerFibers);
  scheduler_.adopt_current_stack();
  install_fault_handlers();
}

// --- a block
// ----------------------------------------------------------------------------------------------------------

void Block::begin(Launch& launch, uint64_t index) {
  launch_ = &launch;
  threads_ = launch.threads();
  const dim3 d = launch.block, g = launch.grid;
  const bool same_shape = d.x == index_dim_.x && d.y == index_dim_.y && d.z == index_dim_.z;
  if (!same_shape) {
    index_.clear();
    for (unsigned z = 0; z < d.z; ++z)
      for (unsigned y = 0; y < d.y; ++y)
        for (unsigned x = 0; x < d.x; ++x) index_.push_back({x, y, z});
    index_dim_ = d;
    thread_.resize(std::max<size_t>(thread_.size(), threads_));
  }
  if (!same_shape || order_kind_ != order().kind || order_kind_ == Order::Kind::random) {
    order_kind_ = order().kind;
    order().fill(order_, threads_, mix(launch.number, index));
  }
  warp_.assign((threads_ + 31) / 32, Warp{~0u, 0, 0});
  if (threads_ % 32) warp_.back().existing = (1u << threads_ % 32) - 1;
  here.block = {unsigned(index % g.x), unsigned(index / g.x % g.y), unsigned(index / g.x / g.y)};
  here.block_dim = d;
  here.grid_dim = g;
  ++here.epoch;
  started_ = done_ = arrived_ = 0;
  votes_ = 0;
  spins_ = 0;
  ready_.clear();
  chosen_thread_ = chosen_thread(launch, here.block);
  const tsan::Context as_stream(launch.context);
  shared_.begin_block(launch.shared_bytes, launch.site);
  tsan::release(launch.start);
}

void Block::run(Launch& launch, uint64_t index) {
  begin(launch, index);
  barrier_token_ = tsan::fresh_token();
  current_ = this;
  running_ = &idle_fiber();
  scheduler_.jump_to(*running_);
  current_ = nullptr;
  if (launch.failed) {  // threads were left where they stood
    idle_.clear();
    for (auto& fiber : fibers_) {
      fiber->reset();
      idle_.push(fiber.get());
    }
  }
}

// --- taking turns
// -----------------------------------------------------------------------------------------------------

Fiber& Block::idle_fiber() {
  bool more = idle_.empty();
  if (SIMT_WITH_TSAN) {
    const uint64_t wanted = std::max<uint64_t>(128, threads_ * std::min<uint64_t>(2, launch_->blocks()));
    more = more || fibers_.size() < std::min<uint64_t>(wanted, kSanitizerFibers);
  }
  if (more) {
    const tsan::Context as_stream(launch_->context);  // a new fiber knows what its maker knows
    fibers_.push_back(std::make_unique<Fiber>(&Block::fiber_body, fibers_.size() * kColour));
    return *fibers_.back();
  }
  // The thread sanitizer cannot see a race of two threads on one fiber: take the one that has been idle longest.
  // Otherwise take the one whose stack is still in the cache.
  return SIMT_WITH_TSAN ? *idle_.pop_front() : *idle_.pop_back();
}

void Block::fiber_body() {
  for (;;) current_->run_threads();
}

// A fiber's life: start threads as long as there are some and nobody waits for a turn, then idle until it is needed
// again.
void Block::run_threads() {
  Fiber& me = *running_;
  do {
    const unsigned linear = order_[started_++];
    start(linear);
    inside([&] { finish(linear); });
  } while (!SIMT_WITH_TSAN && started_ < threads_ && ready_.empty());
  idle_.push(&me);
  inside([&] { running_ = &next_fiber(); });
  if (running_ != &me) me.jump_to(*running_);
}

void Block::start(unsigned linear) {
  current_thread_ = linear;
  thread_[linear].fiber = running_;
  thread_[linear].wait = Wait::nothing;
  here.thread = index_[linear];
  if (SIMT_WITH_TSAN) {
    thread_[linear].fenced = false;
    thread_[linear].last_atomic = nullptr;
    tsan::name_fiber(*running_, fmt::format("{} {}", launch_->kernel, thread_name(linear)));
    tsan::acquire(launch_->start);
  }
  if (int(linear) == chosen_thread_) [[unlikely]]
    simt_chosen_thread();
  in_kernel_ = true;
  launch_->invoke(launch_->arguments.get());
}

void Block::finish(unsigned linear) {
  tsan::release(launch_->end);
  Warp& warp = warp_[linear / 32];
  warp.exited |= 1u << linear % 32;
  if (done_++ == 0) first_exited_ = linear;
  spins_ = 0;
  if (arrived_ > 0) [[unlikely]]
    fail("barrier missed", thread_[first_arrived_].site,
         fmt::format("{} returns from the kernel, while {} waits here for all {} threads of the block; "
                     "every thread must reach every __syncthreads",
                     thread_name(linear), thread_name(first_arrived_), threads_));
  if (warp.waiting) [[unlikely]]
    for (unsigned lane = 0; lane < 32; ++lane) {
      const uint32_t mask = thread_[linear / 32 * 32 + lane].mask;
      if ((warp.waiting >> lane & 1) && warp_complete(warp, mask)) complete_collective(linear / 32, mask);
    }
}

Fiber& Block::next_fiber() {
  if (!ready_.empty()) {
    current_thread_ = ready_.pop_front();
    if (!ready_.empty()) thread_[ready_.front()].fiber->prefetch();
    return *thread_[current_thread_].fiber;
  }
  if (started_ < threads_) return idle_fiber();
  if (done_ < threads_) fail_deadlock();
  return scheduler_;
}

void Block::leave() {
  Fiber& me = *running_;
  running_ = &next_fiber();
  if (running_ != &me) me.jump_to(*running_);
  here.thread = index_[current_thread_];
  here.atomics = 0;
}

void Block::give_way(const void* caller) {
  inside([&] {
    here.atomics = 0;
    if (spins_++ == 0) spinning_since_ = std::chrono::steady_clock::now();
    if (spins_ % 64 == 0 && std::chrono::steady_clock::now() - spinning_since_ > spin_limit())
      fail("deadlock", source_of(static_cast<const char*>(caller) - 1),
           "threads do nothing but repeat atomic operations, and no other thread of the block gets on; "
           "does it wait for a thread or block that cannot run before it ends?");
    if (threads_ == done_ + 1) return;  // nobody else: perhaps another block has to move
    ready_.push(current_thread_);
    leave();
  });
}

void Block::trap(Site site) {
  inside([&] { fail("trap", site, "the kernel calls __trap()"); });
  __builtin_unreachable();
}

// --- __syncthreads
// ----------------------------------------------------------------------------------------------------

Block::Votes Block::barrier(bool predicate, Site site) {
  return inside([&] { return wait_at_barrier(predicate, site); });
}

Block::Votes Block::wait_at_barrier(bool predicate, Site site) {
  const unsigned me = current_thread_;
  thread_[me].site = site;
  if (done_ > 0)
    fail("barrier missed", site,
         fmt::format("{} has returned from the kernel without reaching it; every thread must reach every __syncthreads",
                     thread_name(first_exited_)));
  if (arrived_ == 0) {
    first_arrived_ = me;
  } else if (const Site& other = thread_[first_arrived_].site; !same(site, other)) {
    fail("barrier divergence", site,
         fmt::format("{} waits at another one, {}:{}; all threads must reach the same __syncthreads",
                     thread_name(first_arrived_), other.file_name(), other.line()));
  }
  thread_[me].wait = Wait::barrier;
  void* const token = barrier_token_;
  tsan::release(token);
  votes_ += predicate;
  if (++arrived_ == threads_) release_barrier();
  leave();
  tsan::acquire(token);
  return {last_votes_, last_votes_ == int(threads_), last_votes_ > 0};
}

void Block::release_barrier() {
  last_votes_ = votes_;
  votes_ = 0;
  arrived_ = 0;
  spins_ = 0;
  barrier_token_ = tsan::fresh_token();
  if (order().kind == Order::Kind::random) order().fill(order_, threads_, mix(here.epoch, ++reshuffles_));
  for (unsigned i = 0; i < threads_; ++i) {
    thread_[order_[i]].wait = Wait::nothing;
    ready_.push(order_[i]);
  }
}

// --- errors
// -----------------------------------------------------------------------------------------------------------

std::string Block::thread_name(unsigned linear) const {
  const uint3 t = index_[linear], b = here.block;
  return fmt::format("block ({}, {}, {}) thread ({}, {}, {})", b.x, b.y, b.z, t.x, t.y, t.z);
}

void Block::fail(const std::string& what, Site site, const std::string& explanation) {
  fail(what, fmt::format("{}:{}", site.file_name(), site.line()), explanation);
}

void Block::fail(const std::string& what, const std::string& where, const std::string& explanation) {
  {
    const tsan::Neutral neutral(scheduler_);
    const std::lock_guard lock(launch_->mutex);
    if (launch_->error.empty()) {
      launch_->error = fmt::format("[simt] {} in {}, {}, at {}: {} (launched at {}:{})", what, launch_->kernel,
                                   thread_name(current_thread_), where, explanation, launch_->site.file_name(),
                                   launch_->site.line());
    }
    launch_->failed = true;
  }
  throw Failure{};
}

std::string Block::where_threads_wait() const {
  std::string text;
  int groups = 0;
  std::vector<bool> told(threads_);
  for (unsigned i = 0; i < threads_; ++i) {
    const Thread& t = thread_[i];
    if (t.wait == Wait::nothing || told[i]) continue;
    unsigned count = 0;
    for (unsigned j = i; j < threads_; ++j) {
      const Thread& u = thread_[j];
      if (u.wait != t.wait || (t.wait != Wait::barrier && u.mask != t.mask) || !same(u.site, t.site)) continue;
      told[j] = true;
      ++count;
    }
    if (++groups > 4) return text + "; …";
    text += fmt::format("{}{} of {} threads wait in {} at {}:{}", text.empty() ? "" : "; ", count, threads_,
                        name(t.wait), t.site.file_name(), t.site.line());
    if (t.wait != Wait::barrier) text += fmt::format(" for lanes {:#010x}", t.mask);
    text += fmt::format(" (the first is {})", thread_name(i));
  }
  return text;
}

void Block::fail_deadlock() {
  for (current_thread_ = 0; thread_[current_thread_].wait == Wait::nothing;) ++current_thread_;
  fail("deadlock", thread_[current_thread_].site, "nobody can go on: " + where_threads_wait());
}

}  // namespace simt
