#include "tests/lessons/counts.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "cuda/simt/block.h"
#include "cuda/simt/memory.h"

namespace lem::test {
namespace {

// Threads of a block take turns on one CPU thread (SIMT_WORKERS=1), so nothing here is shared.
bool counting = false;
Counts counts;
uint64_t epoch = 0;

using Thread = std::tuple<uint64_t, unsigned, unsigned>;  // launch, block, thread
std::map<Thread, uint64_t> reads_of;
// How often a thread has come by an instruction: lanes that come by it as often access memory together.
std::map<std::pair<void*, Thread>, uint64_t> visits;
// Sectors of each warp's accesses: the thread here is the warp's number.
std::map<std::tuple<void*, Thread, uint64_t>, std::vector<uintptr_t>> sectors[2];

// A float4 is one access to a GPU, but the compiler takes it apart: parts that follow one another belong together.
struct Access {
  Thread thread;
  bool write;
  void* instruction;
  uintptr_t end;
  std::vector<uintptr_t>* touched;
} last;

void access(uintptr_t address, size_t bytes, bool write, void* instruction) {
  if (!counting || !simt::Memory::instance().is_device(address)) return;
  const simt::Here& at = simt::here;
  const unsigned block = at.block.x + at.grid_dim.x * (at.block.y + at.grid_dim.y * at.block.z);
  if (at.epoch != epoch && block == 0) counts.launches.push_back({at.grid_dim, at.block_dim});
  epoch = at.epoch;

  const Thread thread{counts.launches.size(), block, at.thread.x},
      warp{counts.launches.size(), block, at.thread.x / 32};
  const bool continues = thread == last.thread && write == last.write && instruction != last.instruction &&
                         address == last.end && address % 16 != 0;
  (write ? counts.written : counts.read) += bytes;
  if (!write && !continues) counts.reads = std::max(counts.reads, ++reads_of[thread]);
  std::vector<uintptr_t>& touched =
      continues ? *last.touched : sectors[write][{instruction, warp, visits[{instruction, thread}]++}];
  last = {thread, write, instruction, address + bytes, &touched};
  for (uintptr_t sector = address / 32; sector <= (address + bytes - 1) / 32; ++sector)
    if (std::find(touched.begin(), touched.end(), sector) == touched.end()) {
      touched.push_back(sector);
      (write ? counts.moved_written : counts.moved_read) += 32;
    }
}

}  // namespace

void start_counting() {
  counts = {}, last = {}, epoch = 0;
  reads_of.clear(), visits.clear();
  for (auto& s : sectors) s.clear();
  counting = true;
}

Counts stop_counting() {
  counting = false;
  return counts;
}

}  // namespace lem::test

// What the compiler calls before every load and store, by the names it has for them.
extern "C" {
#define COUNT(bytes)                                                                                                  \
  void __asan_load##bytes##_noabort(uintptr_t p) { lem::test::access(p, bytes, false, __builtin_return_address(0)); } \
  void __asan_store##bytes##_noabort(uintptr_t p) { lem::test::access(p, bytes, true, __builtin_return_address(0)); }
COUNT(1)
COUNT(2)
COUNT(4)
COUNT(8)
COUNT(16)
#undef COUNT
void __asan_loadN_noabort(uintptr_t p, size_t n) { lem::test::access(p, n, false, __builtin_return_address(0)); }
void __asan_storeN_noabort(uintptr_t p, size_t n) { lem::test::access(p, n, true, __builtin_return_address(0)); }
void __asan_handle_no_return() {}
}
