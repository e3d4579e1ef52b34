// CUDA's runtime functions under their own names, for the interpreter's device. They live in namespace simt, so that a
// program can hold both this backend and the real one; names.h leads the .cu files here.
//
// Return codes stand for what a correct program must expect (no memory left, not ready). Mistakes are lem::Error,
// thrown where CUDA would at best return "invalid argument" or "unspecified launch failure".
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "cuda/simt/site.h"

namespace simt {

cudaError_t cudaMalloc(void** p, size_t bytes, Site site = Site::current());
template <class T>
cudaError_t cudaMalloc(T** p, size_t bytes, Site site = Site::current()) {
  return cudaMalloc(reinterpret_cast<void**>(p), bytes, site);
}
cudaError_t cudaMallocAsync(void** p, size_t bytes, cudaStream_t stream, Site site = Site::current());
cudaError_t cudaFree(void* p, Site site = Site::current());
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream, Site site = Site::current());
cudaError_t cudaMallocHost(void** p, size_t bytes, unsigned flags = 0, Site site = Site::current());
template <class T>
cudaError_t cudaMallocHost(T** p, size_t bytes, unsigned flags = 0, Site site = Site::current()) {
  return cudaMallocHost(reinterpret_cast<void**>(p), bytes, flags, site);
}
cudaError_t cudaFreeHost(void* p, Site site = Site::current());
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);

cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind, Site site = Site::current());
cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr, Site site = Site::current());
cudaError_t cudaMemcpy2DAsync(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream = nullptr,
                              Site site = Site::current());
cudaError_t cudaMemset(void* p, int value, size_t bytes, Site site = Site::current());
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream = nullptr,
                            Site site = Site::current());

cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaDeviceSynchronize();

cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);

cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t set_function_attribute(const void* function, cudaFuncAttribute attribute, int value, Site site);
template <class F>
cudaError_t cudaFuncSetAttribute(F* function, cudaFuncAttribute attribute, int value, Site site = Site::current()) {
  return set_function_attribute(reinterpret_cast<const void*>(function), attribute, value, site);
}
cudaError_t function_attributes(cudaFuncAttributes* attributes);
template <class F>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, F*) {
  return function_attributes(attributes);
}
/// __constant__ and __device__ variables are plain variables here.
cudaError_t copy_symbol(void* symbol, size_t size, const void* src, size_t bytes, size_t offset, Site site);
template <class T>
cudaError_t cudaMemcpyToSymbol(T& symbol, const void* src, size_t bytes, size_t offset = 0,
                               cudaMemcpyKind = cudaMemcpyHostToDevice, Site site = Site::current()) {
  return copy_symbol(&symbol, sizeof symbol, src, bytes, offset, site);
}

/// How much memory cudaMalloc has to give; 0: the machine's.
void set_device_memory(size_t bytes);
/// Whether the program holds code for the device, as one that was built for other GPUs does not.
void set_device_code(bool there);

}  // namespace simt
