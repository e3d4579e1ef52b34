// Stands in for the CUDA backend in a build without nvcc, and with real = double.
#include "cuda/lessons/lessons.h"
#include "tensor/backend.h"

namespace lem::cuda {
const Backend* backend() { return nullptr; }
const Lessons* lessons() { return nullptr; }
const char* absence() {
  return kDouble ? "CUDA kernels compute in float, this build in double"
                 : "this build was made without it; where nvcc and a GPU are, make CUDA=1 builds it";
}
}  // namespace lem::cuda
