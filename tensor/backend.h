// One kernel interface, three backends. A backend is a table of kernels and a way to hold memory; a tensor's device
// picks it. A kernel that a backend lacks is a link error: its table names every kernel of kernels.h.
#pragma once

#include <cstddef>

#include "tensor/kernel_types.h"

namespace lem {

enum class Device { cpu, simt, cuda };

#define KERNEL(name, ...) void name(__VA_ARGS__);
namespace cpu {
#include "tensor/kernels.h"
}
namespace simt {
#include "tensor/kernels.h"
}
namespace cuda {
#include "tensor/kernels.h"
}
#undef KERNEL

/// The kernels of one backend: on(device).softmax_forward(…).
struct Kernels {
#define KERNEL(name, ...) void (*name)(__VA_ARGS__);
#include "tensor/kernels.h"
#undef KERNEL
};

/// A device's own memory, in bytes; zeros for the CPU, whose memory is shared with everything else.
struct DeviceMemory {
  size_t free = 0, total = 0;
};

struct Backend {
  const char* name;
  void* (*allocate)(size_t bytes);  // 64-byte aligned; null when there is no memory left
  void (*release)(void* p);
  void (*upload)(void* dst, const void* host, size_t bytes);  // the host's memory may be changed at once
  void (*download)(void* host, const void* src, size_t bytes);
  /// `rows` rows of `bytes` bytes, which begin a pitch of at least `bytes` apart (for a single row it says nothing). On
  /// the device, in one go.
  void (*copy)(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t bytes, size_t rows);
  void (*synchronize)();
  void (*start_clock)();   // a stopwatch of what the device itself does, by events on its stream
  double (*stop_clock)();  // seconds since; waits
  DeviceMemory (*memory)();
  /// Whether matrix products may round their factors to TF32. Only a GPU does, from Ampere on; not until allowed.
  void (*allow_tf32)(bool allow);
  Kernels kernels;
};

/// The backend of a device; an Error that names the others if this build or machine has none.
const Backend& backend(Device device);
inline const Kernels& on(Device device) { return backend(device).kernels; }

const char* name(Device device);
/// "cpu" | "simt" | "cuda"; an Error names them otherwise.
Device parse_device(const char* name);

/// Times every kernel call from now on (synchronising after each): kernel name, calls, seconds, most expensive first.
struct KernelTime {
  const char* name;
  int64_t calls;
  double seconds;
};
void profile_kernels(bool on);
const KernelTime* kernel_times(int* count);

namespace cpu {
const Backend& backend();
}
namespace simt {
const Backend* backend();  // null: not in this build
const char* absence();     // why not; empty if it is
}  // namespace simt
namespace cuda {
const Backend* backend();  // null: not in this build, or not on this machine
const char* absence();     // why not; empty if it is
}  // namespace cuda

}  // namespace lem
