// The CUDA and SIMT backends of a build that has none. Linked instead of them, never beside them.
#include "tensor/backend.h"

namespace lem::simt {
const Backend* backend() { return nullptr; }
}  // namespace lem::simt

namespace lem::cuda {
const Backend* backend() { return nullptr; }
}  // namespace lem::cuda
