// Device and pinned host memory. Device memory lies in one reserved range of addresses that are never used twice. It
// can be touched only while the device works: at any other time a host read or write of it is a fault, which faults.cpp
// names. So is a host access to pinned memory that a queued copy still has to write (or, for a write, to read).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "cuda/simt/site.h"

namespace simt {

struct Allocation {
  uintptr_t begin = 0;
  size_t bytes = 0;
  uintptr_t pages = 0;  // where its own pages begin, and how many bytes they hold
  size_t page_bytes = 0;
  Site site;
  bool freed = false;            // remembered, so that a use after it can be named
  int writers = 0, readers = 0;  // pinned memory: queued copies that will write it, that will read it
  Site user;                     // … the last of them
};

class Memory {
 public:
  static Memory& instance();

  /// Null when the device's memory (SIMT_MEMORY bytes; by default the machine's) does not suffice.
  void* allocate_device(size_t bytes, Site site);
  void free_device(void* p, Site site);
  size_t device_total() const { return limit_; }
  size_t device_used() const { return used_; }
  /// 0: the machine's. Tests of what happens when memory runs out set it.
  void set_device_total(size_t bytes);

  void* allocate_pinned(size_t bytes, Site site);
  void free_pinned(void* p, Site site);

  bool is_device(uintptr_t address) const { return address - arena_ < kArena; }
  /// The allocation that the address lies in or just beyond; null if there is none near it.
  const Allocation* find_device(uintptr_t address) const;
  Allocation* find_pinned(uintptr_t address);
  /// An lem::Error unless [p, p + bytes) lies within one live allocation.
  void check_device_range(const char* op, const char* name, const void* p, size_t bytes, Site site) const;
  /// "12 bytes beyond the end of the 400-byte allocation made at file:line"
  std::string describe(uintptr_t address) const;

  /// While the device works, its memory can be touched; may be nested.
  class Open {
   public:
    Open();
    ~Open();
  };
  /// A copy that waits in a queue will read or write this host memory: keeps the host off it until end_use, if it is
  /// pinned.
  void begin_use(const void* p, bool write, Site site);
  void end_use(const void* p, bool write);
  void forget_uses();  // the queues were emptied after an error
  bool is_pinned(const void* p) { return find_pinned(reinterpret_cast<uintptr_t>(p)) != nullptr; }

 private:
  Memory();
  void protect(const Allocation& a, int protection) const;
  void protect_pinned(const Allocation& a) const;

#if defined(__SANITIZE_THREAD__) || defined(SIMT_TSAN)
  static constexpr size_t kArena = size_t{1} << 36;
#else
  static constexpr size_t kArena = size_t{1} << 40;
#endif
  uintptr_t arena_ = 0, next_ = 0;
  size_t limit_ = 0, used_ = 0;
  int open_ = 0;
  std::map<uintptr_t, Allocation> device_, freed_, pinned_;  // by where their pages begin
};

}  // namespace simt
