#include "tensor/backend.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <vector>

#include "tensor/error.h"

namespace lem {
namespace {

// Every kernel's name and place in the table, in the order of kernels.h.
enum KernelIndex : int {
#define KERNEL(name, ...) k_##name,
#include "tensor/kernels.h"
#undef KERNEL
  kKernels
};

KernelTime times[kKernels] = {
#define KERNEL(name, ...) {#name, 0, 0},
#include "tensor/kernels.h"
#undef KERNEL
};

bool profiling = false;

const Backend* found_backend(Device device) {
  return device == Device::cpu ? &cpu::backend() : device == Device::simt ? simt::backend() : cuda::backend();
}

/// A device's kernel `member` with a clock around it. A table of these is how profiling costs nothing when off.
template <Device device, int index, auto member>
struct Timed;
template <Device device, int index, class... Args, void (*Kernels::*member)(Args...)>
struct Timed<device, index, member> {
  static void call(Args... args) {
    const Backend& backend = *found_backend(device);
    backend.start_clock();
    (backend.kernels.*member)(args...);
    times[index].calls += 1;
    times[index].seconds += backend.stop_clock();
  }
};

/// Made once: whoever holds a reference to it, or to the plain table, finds it as it was, however profiling is
/// switched.
template <Device device>
const Backend& timed() {
  static const Backend table = [] {
    Backend made = *found_backend(device);
#define KERNEL(name, ...) made.kernels.name = &Timed<device, k_##name, &Kernels::name>::call;
#include "tensor/kernels.h"
#undef KERNEL
    return made;
  }();
  return table;
}

}  // namespace

const Backend& backend(Device device) {
  const Backend* found = found_backend(device);
  if (found == nullptr)
    fail("[device] {} cannot be used: {}; --device {}cpu does the same", name(device),
         device == Device::simt ? simt::absence() : cuda::absence(),
         device == Device::cuda && simt::backend() ? "simt or " : "");
  if (!profiling) return *found;
  return device == Device::cpu    ? timed<Device::cpu>()
         : device == Device::simt ? timed<Device::simt>()
                                  : timed<Device::cuda>();
}

const char* name(Device device) { return device == Device::cpu ? "cpu" : device == Device::simt ? "simt" : "cuda"; }

Device parse_device(const char* text) {
  for (Device device : {Device::cpu, Device::simt, Device::cuda})
    if (std::strcmp(text, name(device)) == 0) return device;
  fail("[device] unknown device: got \"{}\", expected cpu, simt or cuda", text);
}

void profile_kernels(bool on) {
  profiling = on;
  if (on)
    for (KernelTime& t : times) t.calls = 0, t.seconds = 0;
}

const KernelTime* kernel_times(int* count) {
  static KernelTime sorted[kKernels];
  std::copy(std::begin(times), std::end(times), sorted);
  std::sort(std::begin(sorted), std::end(sorted),
            [](const KernelTime& a, const KernelTime& b) { return a.seconds > b.seconds; });
  *count = int(std::count_if(std::begin(sorted), std::end(sorted), [](const KernelTime& t) { return t.calls > 0; }));
  return sorted;
}

}  // namespace lem
