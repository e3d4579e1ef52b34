// Leads CUDA's own names to the interpreter's functions. After CUDA's headers, in .cu files only.
#pragma once

#include "cuda/simt/runtime_api.h"

// clang-format off
#define cudaMalloc ::simt::cudaMalloc
#define cudaMallocAsync ::simt::cudaMallocAsync
#define cudaFree ::simt::cudaFree
#define cudaFreeAsync ::simt::cudaFreeAsync
#define cudaMallocHost ::simt::cudaMallocHost
#define cudaFreeHost ::simt::cudaFreeHost
#define cudaMemGetInfo ::simt::cudaMemGetInfo
#define cudaMemcpy ::simt::cudaMemcpy
#define cudaMemcpyAsync ::simt::cudaMemcpyAsync
#define cudaMemcpy2DAsync ::simt::cudaMemcpy2DAsync
#define cudaMemset ::simt::cudaMemset
#define cudaMemsetAsync ::simt::cudaMemsetAsync
#define cudaMemcpyToSymbol ::simt::cudaMemcpyToSymbol
#define cudaStreamCreate ::simt::cudaStreamCreate
#define cudaStreamCreateWithFlags ::simt::cudaStreamCreateWithFlags
#define cudaStreamDestroy ::simt::cudaStreamDestroy
#define cudaStreamSynchronize ::simt::cudaStreamSynchronize
#define cudaStreamQuery ::simt::cudaStreamQuery
#define cudaStreamWaitEvent ::simt::cudaStreamWaitEvent
#define cudaDeviceSynchronize ::simt::cudaDeviceSynchronize
#define cudaEventCreate ::simt::cudaEventCreate
#define cudaEventCreateWithFlags ::simt::cudaEventCreateWithFlags
#define cudaEventDestroy ::simt::cudaEventDestroy
#define cudaEventRecord ::simt::cudaEventRecord
#define cudaEventSynchronize ::simt::cudaEventSynchronize
#define cudaEventQuery ::simt::cudaEventQuery
#define cudaEventElapsedTime ::simt::cudaEventElapsedTime
#define cudaGetLastError ::simt::cudaGetLastError
#define cudaPeekAtLastError ::simt::cudaPeekAtLastError
#define cudaGetErrorString ::simt::cudaGetErrorString
#define cudaGetErrorName ::simt::cudaGetErrorName
#define cudaDriverGetVersion ::simt::cudaDriverGetVersion
#define cudaGetDeviceCount ::simt::cudaGetDeviceCount
#define cudaGetDevice ::simt::cudaGetDevice
#define cudaSetDevice ::simt::cudaSetDevice
#undef cudaGetDeviceProperties
#define cudaGetDeviceProperties ::simt::cudaGetDeviceProperties
#define cudaDeviceGetAttribute ::simt::cudaDeviceGetAttribute
#define cudaFuncSetAttribute ::simt::cudaFuncSetAttribute
#define cudaFuncGetAttributes ::simt::cudaFuncGetAttributes
// clang-format on
