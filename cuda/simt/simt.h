// The one header a kernel file (.cu) includes. Under nvcc it is CUDA and three macros; under any other compiler it is
// CUDA's own headers and, in place of the hardware, the interpreter of this folder, which runs every CUDA thread on the
// CPU.
//
//   __global__ void scale_kernel(float* y, float a, const float* x, int n) {
//     SHARED(float, tile, [2][32]);                 // __shared__ float tile[2][32]
//     SHARED_DYNAMIC(float, row);                   // float* row: as many bytes as the launch asks for
//     const int i = blockIdx.x * blockDim.x + threadIdx.x;
//     …
//   }
//   LAUNCH(scale_kernel, grid, block, shared_bytes, stream)(y, a, x, n);    // scale_kernel<<<grid, block, …>>>(y, a,
//   x, n)
//
// A kernel with commas in its name stands in parentheses: LAUNCH((tile_kernel<32, 8>), …)(…).
#pragma once

#ifdef __CUDACC__

#include <cuda_runtime.h>
#include <curand_kernel.h>

// clang-format off
#define LAUNCH(kernel, grid, block, shared_bytes, stream) kernel<<<grid, block, shared_bytes, stream>>>
// clang-format on
#define SHARED(type, name, ...) __shared__ type name __VA_ARGS__
// One array under all names: CUDA lets a file declare its dynamic shared memory with a single type only.
#define SHARED_DYNAMIC(type, name)                                     \
  extern __shared__ __align__(16) unsigned char simt_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(simt_dynamic_shared)

#else

#include "cuda/simt/interpreter.h"

#define LAUNCH(kernel, grid, block, shared_bytes, stream) \
  ::simt::launch(#kernel, kernel, grid, block, shared_bytes, stream)
// A reference to a block of exactly that size, which holds NaN until somebody writes it. The lambda's type names the
// array.
#define SHARED(type, name, ...) auto& name = ::simt::shared<type __VA_ARGS__>([] {}, #name)
#define SHARED_DYNAMIC(type, name) type* const name = static_cast<type*>(::simt::shared_dynamic())

#endif
