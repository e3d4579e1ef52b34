// What a .cu file sees when g++ compiles it: CUDA's own headers, then everything that nvcc builds in. Included through
// simt.h.
#pragma once

// CUDA's headers first: they declare variables named threadIdx and functions named cudaMalloc, which are macros
// afterwards.
#include <cuda_runtime.h>
#include <curand_kernel.h>
#include <math.h>

// What CUDA's headers leave to nvcc.
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#ifndef __grid_constant__
#define __grid_constant__
#endif

#include "cuda/simt/atomics.h"      // defines: atomicAdd …
#include "cuda/simt/intrinsics.h"   // defines: __expf, __ldg, __popc, rsqrtf, max …
#include "cuda/simt/launcher.h"     // defines: launch, shared, shared_dynamic, threadIdx and its like
#include "cuda/simt/names.h"        // defines: cudaMalloc, cudaMemcpy, cudaStreamSynchronize …
#include "cuda/simt/synchronise.h"  // defines: __syncthreads, __syncwarp, shuffles, votes, reductions, fences
