// Where in the source something stands, and how threads and blocks are written in messages.
#pragma once

#include <vector_types.h>

#include <cstring>
#include <source_location>

namespace simt {

/// The place of a call: every barrier, shuffle, launch takes one as its last argument, which the compiler fills in.
using Site = std::source_location;

inline bool same(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

// What has no Site names its place by the return address, so it must be part of the kernel at any optimisation.
#define SIMT_INLINE inline __attribute__((always_inline))

// What instrumented kernels may call without the sanitizer looking at the interpreter's own data.
#define SIMT_UNCHECKED __attribute__((no_sanitize("address", "thread")))

}  // namespace simt
