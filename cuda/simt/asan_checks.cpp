// The address sanitizer's build: kernels are compiled so that every load and store calls one of the functions below,
// which take the place of the sanitizer's own. In a kernel they know more than it does: whose memory an address is, and
// which bytes of shared memory have been written. Outside of kernels they do what the sanitizer would.
#include "cuda/simt/fiber.h"

#if SIMT_WITH_ASAN

#include <fmt/format.h>
#include <link.h>
#include <sanitizer/asan_interface.h>

#include <vector>

#include "cuda/simt/block.h"
#include "cuda/simt/faults.h"
#include "cuda/simt/memory.h"

extern "C" {
void __asan_report_load_n(uintptr_t address, size_t bytes);
void __asan_report_store_n(uintptr_t address, size_t bytes);
}

namespace simt {
namespace {

// The program's own variables: constants, tables, __device__ and __constant__ arrays.
bool in_program(uintptr_t address) {
  struct Range {
    uintptr_t begin, end;
  };
  static const std::vector<Range> ranges = [] {
    std::vector<Range> found;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* out) {
          for (int i = 0; i < info->dlpi_phnum; ++i)
            if (const auto& h = info->dlpi_phdr[i]; h.p_type == PT_LOAD)
              static_cast<std::vector<Range>*>(out)->push_back(
                  {info->dlpi_addr + h.p_vaddr, info->dlpi_addr + h.p_vaddr + h.p_memsz});
          return 0;
        },
        &found);
    return found;
  }();
  for (const Range& r : ranges)
    if (address >= r.begin && address < r.end) return true;
  return false;
}

bool poisoned(uintptr_t address, size_t bytes) {
  return __asan_region_is_poisoned(reinterpret_cast<void*>(address), bytes) != nullptr;
}

// The sanitizer's shadow of one aligned word: 0 says that all its eight bytes may be touched.
bool surely_clean(uintptr_t address, size_t bytes) {
  static size_t scale = 0, offset = 0;
  if (!offset) __asan_get_shadow_mapping(&scale, &offset);
  const auto* shadow = reinterpret_cast<const unsigned char*>((address >> scale) + offset);
  return shadow[0] == 0 && *reinterpret_cast<const unsigned char*>(((address + bytes - 1) >> scale) + offset) == 0 &&
         bytes <= 16;
}

bool bad(uintptr_t address, size_t bytes) { return !surely_clean(address, bytes) && poisoned(address, bytes); }

std::string text(const SharedMemory::Array* a, uintptr_t address) {
  if (!a) return "where the block has no shared array";
  const std::string array =
      fmt::format("{} ({} bytes, declared at {}:{})", a->name, a->bytes, a->site.file_name(), a->site.line());
  if (address < a->begin) return fmt::format("{} bytes before {}", a->begin - address, array);
  if (address >= a->begin + a->bytes)
    return fmt::format("{} bytes beyond the end of {}", address - a->begin - a->bytes, array);
  return fmt::format("{} bytes into {}", address - a->begin, array);
}

void check_shared(Block& block, uintptr_t address, size_t bytes, bool write, const void* code) {
  SharedMemory& shared = block.shared();
  if (bad(address, bytes))
    block.fail(
        "out of bounds on shared memory", source_of(code),
        fmt::format("{} of {} bytes, {}", write ? "write" : "read", bytes, text(shared.nearest(address), address)));
  if (write) return shared.note_write(address, bytes);
  if (!shared.written(address, bytes))
    block.fail("shared memory read before it is written", source_of(code),
               fmt::format("{} bytes, {}, which no thread of the block has written yet", bytes,
                           text(shared.nearest(address), address)));
}

void check_kernel(Block& block, uintptr_t address, size_t bytes, bool write, const void* code) {
  const auto access = [&] { return fmt::format("{} of {} bytes at {:#x}", write ? "write" : "read", bytes, address); };
  if (block.fiber()->holds(address)) {
    if (bad(address, bytes))
      block.fail("out of bounds on a local array", source_of(code), access() + ", beside the thread's own variables");
  } else if (block.shared().holds(address)) {
    check_shared(block, address, bytes, write, code);
  } else if (const Memory& memory = Memory::instance(); memory.is_device(address)) {
    if (bad(address, bytes))
      block.fail("out of bounds on global memory", source_of(code), access() + ", " + memory.describe(address));
  } else if (address < 4096) {
    block.fail("bad address", source_of(code), access() + " (a null pointer)");
  } else if (!in_program(address)) {
    block.fail("host pointer dereferenced in a kernel", source_of(code),
               access() + ", which is neither device memory nor the thread's own");
  } else if (bad(address, bytes)) {
    block.fail("out of bounds on a constant or device variable", source_of(code), access());
  }
}

void check(uintptr_t address, size_t bytes, bool write, const void* return_address) {
  Block* block = Block::current();
  if (!block || !block->in_kernel()) [[unlikely]] {
    if (bad(address, bytes)) write ? __asan_report_store_n(address, bytes) : __asan_report_load_n(address, bytes);
    return;
  }
  block->inside([&] { check_kernel(*block, address, bytes, write, static_cast<const char*>(return_address) - 1); });
}

}  // namespace
}  // namespace simt

#define SIMT_CHECKS(n)                                                                                   \
  extern "C" void __asan_load##n(uintptr_t p) { simt::check(p, n, false, __builtin_return_address(0)); } \
  extern "C" void __asan_store##n(uintptr_t p) { simt::check(p, n, true, __builtin_return_address(0)); }
SIMT_CHECKS(1)
SIMT_CHECKS(2)
SIMT_CHECKS(4)
SIMT_CHECKS(8)
SIMT_CHECKS(16)
extern "C" void __asan_loadN(uintptr_t p, size_t n) { simt::check(p, n, false, __builtin_return_address(0)); }
extern "C" void __asan_storeN(uintptr_t p, size_t n) { simt::check(p, n, true, __builtin_return_address(0)); }

#endif
