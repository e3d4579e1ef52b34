#include "cuda/simt/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cuda/simt/faults.h"
#include "cuda/simt/fiber.h"
#include "tensor/error.h"

#if SIMT_WITH_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

namespace {
constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;  // what cudaMalloc promises
constexpr int kMapFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

size_t default_limit() {
  if (const char* text = std::getenv("SIMT_MEMORY"); text && *text) return std::strtoull(text, nullptr, 10);
  return size_t(sysconf(_SC_PHYS_PAGES)) * size_t(sysconf(_SC_PAGE_SIZE));
}

void poison([[maybe_unused]] uintptr_t begin, [[maybe_unused]] uintptr_t end) {
#if SIMT_WITH_ASAN
  if (begin < end) __asan_poison_memory_region(reinterpret_cast<void*>(begin), end - begin);
#endif
}

std::string text(const Site& site) { return fmt::format("{}:{}", site.file_name(), site.line()); }

// `bytes` at the end of their own pages, as near to the guard page as the alignment allows; what is left is poisoned.
void place(Allocation& a, size_t bytes, uintptr_t pages, size_t page_bytes, Site site) {
  a.bytes = bytes;
  a.pages = pages;
  a.page_bytes = page_bytes;
  a.begin = pages + page_bytes - round_up(std::max<size_t>(bytes, 1), kAlignment);
  a.site = site;
  std::memset(reinterpret_cast<void*>(pages), 0xFF, page_bytes);  // NaN, −1
  poison(pages, a.begin);
  poison(a.begin + bytes, pages + page_bytes);
}
}  // namespace

Memory& Memory::instance() {
  static Memory* memory = new Memory;  // never destroyed, as the queues
  return *memory;
}

Memory::Memory() : limit_(default_limit()) {
  void* p = mmap(nullptr, kArena, PROT_NONE, kMapFlags, -1, 0);
  lem::check(p != MAP_FAILED, "[simt] the address space has no room for device memory: got none, expected {} bytes",
             kArena);
  arena_ = reinterpret_cast<uintptr_t>(p);
  next_ = arena_ + kPage;
  install_fault_handlers();
}

void Memory::set_device_total(size_t bytes) { limit_ = bytes ? bytes : default_limit(); }

// --- device memory
// ----------------------------------------------------------------------------------------------------

void Memory::protect(const Allocation& a, int protection) const {
  mprotect(reinterpret_cast<void*>(a.pages), a.page_bytes, protection);
}

void* Memory::allocate_device(size_t bytes, Site site) {
  const size_t page_bytes = round_up(std::max<size_t>(bytes, 1), kPage);
  if (bytes > limit_ || used_ > limit_ - bytes || page_bytes + kPage > arena_ + kArena - next_) return nullptr;
  Allocation a;
  a.pages = next_;
  a.page_bytes = page_bytes;
  protect(a, PROT_READ | PROT_WRITE);
  place(a, bytes, next_, page_bytes, site);
  if (open_ == 0) protect(a, PROT_NONE);
  next_ += page_bytes + kPage;  // and a guard page
  poison(next_ - kPage, next_);
  used_ += bytes;
  device_[a.pages] = a;
  return reinterpret_cast<void*>(a.begin);
}

void Memory::free_device(void* p, Site site) {
  if (!p) return;
  const auto address = reinterpret_cast<uintptr_t>(p);
  auto it = device_.upper_bound(address);
  const bool found = it != device_.begin() && (--it)->second.begin == address;
  lem::check(found, "[cudaFree] at {}: got {}, expected a pointer from cudaMalloc that is not yet freed", text(site),
             is_device(address) ? describe(address) : fmt::format("{}, which is not device memory", p));
  Allocation a = it->second;
  a.freed = true;
  device_.erase(it);
  freed_[a.pages] = a;
  if (freed_.size() > 10'000) freed_.erase(freed_.begin());
  used_ -= a.bytes;
  protect(a, PROT_NONE);  // for good: a later use is a fault, not somebody else's data
  madvise(reinterpret_cast<void*>(a.pages), a.page_bytes, MADV_DONTNEED);
  poison(a.pages, a.pages + a.page_bytes);
}

const Allocation* Memory::find_device(uintptr_t address) const {
  const Allocation* nearest = nullptr;
  for (const auto* map : {&device_, &freed_}) {
    auto it = map->upper_bound(address);
    if (it != map->begin() && (!nearest || std::prev(it)->first > nearest->pages)) nearest = &std::prev(it)->second;
  }
  return nearest;
}

std::string Memory::describe(uintptr_t address) const {
  const Allocation* a = find_device(address);
  if (!a) return fmt::format("{:#x}, in no allocation", address);
  const std::string which =
      fmt::format("the {}-byte allocation made at {}{}", a->bytes, text(a->site), a->freed ? " and freed since" : "");
  if (address < a->begin) return fmt::format("{} bytes before {}", a->begin - address, which);
  if (address < a->begin + a->bytes) return fmt::format("{} bytes into {}", address - a->begin, which);
  return fmt::format("{} bytes beyond the end of {}", address - a->begin - a->bytes, which);
}

void Memory::check_device_range(const char* op, const char* name, const void* p, size_t bytes, Site site) const {
  if (bytes == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(p);
  if (!is_device(address))
    lem::fail("[{}] {} at {}: got the host address {}, expected device memory", op, name, text(site), p);
  const Allocation* a = find_device(address);
  if (a && !a->freed && address >= a->begin && bytes <= a->bytes && address - a->begin <= a->bytes - bytes) return;
  lem::fail("[{}] {} at {}: got {} bytes from {}, expected them to lie within one live allocation", op, name,
            text(site), bytes, describe(address));
}

Memory::Open::Open() {
  Memory& m = instance();
  if (m.open_++ == 0)
    for (const auto& [_, a] : m.device_) m.protect(a, PROT_READ | PROT_WRITE);
}

Memory::Open::~Open() {
  Memory& m = instance();
  if (--m.open_ > 0 || m.device_.empty()) return;
  // In one call, since what lies between allocations is closed anyway.
  const uintptr_t begin = m.device_.begin()->first;
  mprotect(reinterpret_cast<void*>(begin), m.next_ - begin, PROT_NONE);
}

// --- pinned host memory
// -----------------------------------------------------------------------------------------------

void* Memory::allocate_pinned(size_t bytes, Site site) {
  const size_t page_bytes = round_up(std::max<size_t>(bytes, 1), kPage);
  void* p = mmap(nullptr, page_bytes + kPage, PROT_READ | PROT_WRITE, kMapFlags, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  const auto pages = reinterpret_cast<uintptr_t>(p);
  mprotect(reinterpret_cast<void*>(pages + page_bytes), kPage, PROT_NONE);
  Allocation& a = pinned_[pages];
  place(a, bytes, pages, page_bytes, site);
  return reinterpret_cast<void*>(a.begin);
}

void Memory::free_pinned(void* p, Site site) {
  if (!p) return;
  Allocation* a = find_pinned(reinterpret_cast<uintptr_t>(p));
  lem::check(a && a->begin == reinterpret_cast<uintptr_t>(p),
             "[cudaFreeHost] at {}: got {}, expected a pointer from cudaMallocHost that is not yet freed", text(site),
             p);
  unpoison(a->pages, a->page_bytes);
  munmap(reinterpret_cast<void*>(a->pages), a->page_bytes + kPage);
  pinned_.erase(a->pages);
}

Allocation* Memory::find_pinned(uintptr_t address) {
  auto it = pinned_.upper_bound(address);
  if (it == pinned_.begin()) return nullptr;
  Allocation& a = (--it)->second;
  return address < a.pages + a.page_bytes ? &a : nullptr;
}

void Memory::protect_pinned(const Allocation& a) const {
  protect(a, a.writers ? PROT_NONE : a.readers ? PROT_READ : PROT_READ | PROT_WRITE);
}

void Memory::begin_use(const void* p, bool write, Site site) {
  Allocation* a = find_pinned(reinterpret_cast<uintptr_t>(p));
  if (!a) return;
  ++(write ? a->writers : a->readers);
  a->user = site;
  protect_pinned(*a);
}

void Memory::end_use(const void* p, bool write) {
  Allocation* a = find_pinned(reinterpret_cast<uintptr_t>(p));
  if (!a) return;
  --(write ? a->writers : a->readers);
  protect_pinned(*a);
}

void Memory::forget_uses() {
  for (auto& [_, a] : pinned_) {
    a.writers = a.readers = 0;
    protect_pinned(a);
  }
}

}  // namespace simt
