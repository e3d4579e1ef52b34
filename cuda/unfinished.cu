// Kernels that are not written yet: weak, so that a file that has one wins.
#include "cuda/device.h"
#include "tensor/error.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"
namespace lem::LEM_DEVICE {
#define KERNEL(name, ...) \
  __attribute__((weak)) void name(__VA_ARGS__) { fail("[{}] not written yet", #name); }
#include "tensor/kernels.h"
#undef KERNEL
}  // namespace lem::LEM_DEVICE
