// A switch of the matrix products of this backend.
#pragma once

#include "cuda/device.h"

namespace lem::LEM_DEVICE {

/// Whether products may round their factors to TF32 (10 bits of mantissa instead of 23): relative errors of about 1e-3,
/// several times as fast on GPUs from Ampere on. Off until allowed.
void allow_tf32(bool allow);

}  // namespace lem::LEM_DEVICE
