// cuBLAS for a .cu file: NVIDIA's own under nvcc; under the interpreter NVIDIA's header, with the functions below
// behind it, which check every argument as cuBLAS does and then call the CPU's BLAS.
#pragma once

#ifdef __CUDACC__

#include <cublas_v2.h>

#else

// Before the names of CUDA's functions become macros, or after: cuBLAS's header does not mind.
#include <cublas_v2.h>

#include "cuda/simt/site.h"

namespace simt {

// The parameters are those of cublas_v2.h, checked against it in cublas.cpp.
cublasStatus_t blas_create(cublasHandle_t* handle);
cublasStatus_t blas_destroy(cublasHandle_t handle);
cublasStatus_t blas_set_stream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t blas_get_stream(cublasHandle_t handle, cudaStream_t* stream);
cublasStatus_t blas_set_math_mode(cublasHandle_t handle, cublasMath_t mode);
cublasStatus_t blas_get_math_mode(cublasHandle_t handle, cublasMath_t* mode);
cublasStatus_t blas_set_workspace(cublasHandle_t handle, void* workspace, size_t bytes);
cublasStatus_t blas_sgemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                          int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                          const float* beta, float* c, int ldc);
cublasStatus_t blas_sgemm_strided_batched(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                          int m, int n, int k, const float* alpha, const float* a, int lda,
                                          long long stride_a, const float* b, int ldb, long long stride_b,
                                          const float* beta, float* c, int ldc, long long stride_c, int batch);
/// "CUBLAS_STATUS_INVALID_VALUE: [cublasSgemm] lda: got 3, expected at least m = 4", for the last call of this thread.
const char* blas_status_string(cublasStatus_t status);

}  // namespace simt

#undef cublasCreate
#undef cublasDestroy
#undef cublasSetStream
#undef cublasGetStream
#undef cublasSetWorkspace
#undef cublasSgemm
#define cublasCreate ::simt::blas_create
#define cublasDestroy ::simt::blas_destroy
#define cublasSetStream ::simt::blas_set_stream
#define cublasGetStream ::simt::blas_get_stream
#define cublasSetMathMode ::simt::blas_set_math_mode
#define cublasGetMathMode ::simt::blas_get_math_mode
#define cublasSetWorkspace ::simt::blas_set_workspace
#define cublasSgemm ::simt::blas_sgemm
#define cublasSgemmStridedBatched ::simt::blas_sgemm_strided_batched
#define cublasGetStatusString ::simt::blas_status_string

#endif
