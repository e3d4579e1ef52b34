// What running CUDA threads call: shared memory, fences, a turn for the others, gdb's chosen thread.
#include <device_launch_parameters.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/simt/atomics.h"
#include "cuda/simt/block.h"
#include "cuda/simt/launcher.h"
#include "cuda/simt/synchronise.h"
#include "cuda/simt/tsan.h"
#include "tensor/error.h"

const int warpSize =
    32;  // declared by device_launch_parameters.h, and no macro: cudaDeviceProp has a member of that name

namespace simt {

Block& block_of(const char* function, Site site) {
  Block* block = Block::current();
  if (!block)
    lem::fail("[simt] {} at {}:{}: got a call from the host, expected one from a kernel", function, site.file_name(),
              site.line());
  return *block;
}

// --- shared memory
// ----------------------------------------------------------------------------------------------------

void* Block::shared_array(size_t bytes, size_t alignment, const char* name, Site site) {
  return inside([&] {
    void* p = shared_.allocate(bytes, alignment, name, site);
    const Architecture& a = architecture();
    if (!p || shared_.static_bytes() > a.shared_default)
      fail("too much static shared memory", site,
           fmt::format("with {} the block has {} bytes, expected at most {}; ask for more as dynamic shared memory",
                       name, shared_.static_bytes(), a.shared_default));
    if (shared_.static_bytes() + launch_->shared_bytes > a.shared_opt_in)
      fail("too much shared memory", site,
           fmt::format("{} static and {} dynamic bytes, expected at most {} together (sm_{})", shared_.static_bytes(),
                       launch_->shared_bytes, a.shared_opt_in, a.version));
    return p;
  });
}

void* shared_array(size_t bytes, size_t alignment, const char* name, Site site) {
  return block_of("SHARED", site).shared_array(bytes, alignment, name, site);
}

void* shared_dynamic(Site site) { return block_of("SHARED_DYNAMIC", site).shared().dynamic(); }

// --- atomics and fences
// -----------------------------------------------------------------------------------------------

// "Fence, then atomic" publishes what the thread has written; "atomic, then fence" makes visible what others published
// through the same address (PTX ISA, "Memory Consistency Model").
void Block::fence() {
  inside([&] {
    Thread& me = thread_[current_thread_];
    me.fenced = true;
    if (me.last_atomic) tsan::acquire(me.last_atomic);
  });
}

void Block::atomic_done(void* address) {
  inside([&] {
    Thread& me = thread_[current_thread_];
    if (me.fenced) tsan::release(address);
    me.last_atomic = address;
  });
}

void fence(Site site) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  block_of("__threadfence", site).fence();
}

unsigned active_mask(Site site) { return 1u << block_of("__activemask", site).lane(); }

__attribute__((noinline)) void sleep(Site site) { block_of("__nanosleep", site).give_way(__builtin_return_address(0)); }

void atomic_done(void* address) {
  if (Block* block = Block::current()) block->atomic_done(address);
}

void let_others_run(const void* caller) {
  here.atomics = 0;
  if (Block* block = Block::current()) block->give_way(caller);
}

// --- gdb
// --------------------------------------------------------------------------------------------------------------

extern "C" __attribute__((noinline)) void simt_chosen_thread() { asm volatile(""); }

int chosen_thread(const Launch& launch, uint3 block) {
  static const char* const wanted = std::getenv("SIMT_BREAK");
  if (!wanted || !*wanted) [[likely]]
    return -1;
  const char* colon = std::strchr(wanted, ':');
  unsigned b[3], t[3];
  if (!colon || std::sscanf(colon, ":%u,%u,%u:%u,%u,%u", &b[0], &b[1], &b[2], &t[0], &t[1], &t[2]) != 6)
    lem::fail("[simt] SIMT_BREAK: got \"{}\", expected kernel:x,y,z:x,y,z (block, then thread)", wanted);
  // "tile_kernel" also means (tile_kernel<32, 8>): the name up to anything that is no letter of it.
  const size_t n = size_t(colon - wanted);
  const char* name = launch.kernel + (launch.kernel[0] == '(');
  if (std::strncmp(name, wanted, n) != 0 || std::isalnum(name[n]) || name[n] == '_') return -1;
  const dim3 d = launch.block;
  if (b[0] != block.x || b[1] != block.y || b[2] != block.z || t[0] >= d.x || t[1] >= d.y || t[2] >= d.z) return -1;
  return int(t[0] + d.x * (t[1] + d.y * t[2]));
}

}  // namespace simt
