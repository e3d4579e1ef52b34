// Stands in for the SIMT backend where it cannot be built: without CUDA's headers, and with real = double.
#include "cuda/lessons/lessons.h"
#include "tensor/backend.h"

namespace lem::simt {
const Backend* backend() { return nullptr; }
const Lessons* lessons() { return nullptr; }
const char* absence() {
  return kDouble ? "CUDA kernels compute in float, this build in double"
                 : "this build was made without CUDA's headers; with the CUDA toolkit installed (no GPU is needed), "
                   "build again";
}
}  // namespace lem::simt
