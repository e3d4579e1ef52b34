// Kernels and host code with one bug each, planted where the comment `BUG name` stands. `planted name` runs one;
// planted_test.cpp demands that the interpreter names kernel, block, thread and that very line. Most of them do their
// wrong in thread (3, 0, 0) of block (1, 0, 0) only.
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include "cuda/simt/simt.h"

#define CHOSEN (blockIdx.x == 1 && threadIdx.x == 3)

namespace {

struct Fixture {
  float* x = nullptr;  // (128) on the device, zero
  Fixture() {
    cudaMalloc(&x, 128 * sizeof(float));
    cudaMemset(x, 0, 128 * sizeof(float));
    cudaDeviceSynchronize();
  }
};

// --- addresses
// --------------------------------------------------------------------------------------------------------

__global__ void global_read_kernel(float* x, int n) {
  if (CHOSEN) x[0] = x[n];  // BUG global_read
}
void global_read() { LAUNCH(global_read_kernel, 2, 64, 0, 0)(Fixture().x, 128); }

__global__ void global_write_kernel(float* x, int n) {
  if (CHOSEN) x[n] = 1;  // BUG global_write
}
void global_write() { LAUNCH(global_write_kernel, 2, 64, 0, 0)(Fixture().x, 128); }

__global__ void global_far_kernel(float* x, int n) {
  if (CHOSEN) x[n] = 1;  // BUG global_far
}
void global_far() { LAUNCH(global_far_kernel, 2, 64, 0, 0)(Fixture().x, 128 + 64); }

__global__ void static_shared_kernel(float* x, int n) {
  SHARED(float, tile, [2][33]);
  tile[threadIdx.x / 32][threadIdx.x % 32] = 0;
  if (CHOSEN) tile[0][n] = 1;  // BUG static_shared
  x[threadIdx.x] = tile[threadIdx.x / 32][threadIdx.x % 32];
}
void static_shared() { LAUNCH(static_shared_kernel, 2, 64, 0, 0)(Fixture().x, 66); }

__global__ void dynamic_shared_kernel(float* x, int n) {
  SHARED_DYNAMIC(float, row);
  row[threadIdx.x] = 1;
  if (CHOSEN) x[0] = row[n];  // BUG dynamic_shared
}
void dynamic_shared() { LAUNCH(dynamic_shared_kernel, 2, 64, 64 * sizeof(float), 0)(Fixture().x, 64); }

__global__ void local_array_kernel(float* x, int n) {
  float local[5];
  for (int i = 0; i < 5; ++i) local[i] = x[i];
  for (int i = 0; i < 5; ++i) local[(i * n) % 5] += x[(i * n) % 7];
  if (CHOSEN) local[n] = 1;  // BUG local_array
  for (int i = 0; i < 5; ++i) x[i] = local[(i * n) % 5];
}
void local_array() { LAUNCH(local_array_kernel, 2, 64, 0, 0)(Fixture().x, 5); }

__global__ void copy_kernel(float* y, const float* x) { y[threadIdx.x] = x[threadIdx.x]; }
void host_argument() {
  static float host[64];
  LAUNCH(copy_kernel, 2, 64, 0, 0)(Fixture().x, host);  // BUG host_argument
}

struct View {
  const float* data;
};
__global__ void host_pointer_kernel(float* y, View view) {
  if (CHOSEN) y[0] = view.data[3];  // BUG host_pointer
}
void host_pointer() {
  const auto host = std::make_unique<float[]>(64);
  LAUNCH(host_pointer_kernel, 2, 64, 0, 0)(Fixture().x, View{host.get()});
  cudaDeviceSynchronize();
}

void device_pointer() {
  const float* x = Fixture().x;
  std::printf("%g\n", double(x[3]));  // BUG device_pointer
}

__global__ void null_pointer_kernel(float* x) {
  if (CHOSEN) x[3] = 1;  // BUG null_pointer
}
void null_pointer() { LAUNCH(null_pointer_kernel, 2, 64, 0, 0)(nullptr); }

__global__ void freed_kernel(float* x) {
  if (CHOSEN) x[3] = 1;  // BUG use_after_free
}
void use_after_free() {
  Fixture f;
  cudaFree(f.x);
  LAUNCH(freed_kernel, 2, 64, 0, 0)(f.x);
}

void double_free() {
  Fixture f;
  cudaFree(f.x);
  cudaFree(f.x);  // BUG double_free
}

void copy_too_much() {
  static float host[200];
  cudaMemcpy(host, Fixture().x, 129 * sizeof(float), cudaMemcpyDeviceToHost);  // BUG copy_too_much
}

void copy_wrong_way() {
  static float host[128];
  cudaMemcpy(Fixture().x, host, 128 * sizeof(float), cudaMemcpyDeviceToHost);  // BUG copy_wrong_way
}

// --- values
// -----------------------------------------------------------------------------------------------------------

__global__ void unwritten_kernel(float* x) {
  SHARED(float, s, [64]);
  if (threadIdx.x != 5) s[threadIdx.x] = 0;
  __syncthreads();
  x[threadIdx.x] = blockIdx.x == 1 ? s[(threadIdx.x + 2) % 64] : 0;  // BUG unwritten_shared
}
void unwritten_shared() {
  Fixture f;
  float host[64];
  LAUNCH(unwritten_kernel, 2, 64, 0, 0)(f.x);
  cudaMemcpy(host, f.x, sizeof host, cudaMemcpyDeviceToHost);
  std::printf("thread 3 has %g\n", double(host[3]));
}

__global__ void division_kernel(int* x, int n) {
  if (CHOSEN) x[0] = (x[1] + 7) / n;  // BUG division
}
void division() { LAUNCH(division_kernel, 2, 64, 0, 0)(reinterpret_cast<int*>(Fixture().x), 0); }

__global__ void trap_kernel() {
  if (CHOSEN) __trap();  // BUG trap
}
void trap() { LAUNCH(trap_kernel, 2, 64, 0, 0)(); }

// --- barriers and warps
// -----------------------------------------------------------------------------------------------

__global__ void barrier_exit_kernel(float* x) {
  if (CHOSEN) return;
  __syncthreads();  // BUG barrier_exit
  x[threadIdx.x] = 1;
}
void barrier_exit() { LAUNCH(barrier_exit_kernel, 2, 64, 0, 0)(Fixture().x); }

__global__ void barrier_divergence_kernel(float* x) {
  if (blockIdx.x == 1 && threadIdx.x >= 32) {
    __syncthreads();  // BUG barrier_divergence
  } else {
    __syncthreads();  // BUG barrier_divergence
  }
  x[threadIdx.x] = 1;
}
void barrier_divergence() { LAUNCH(barrier_divergence_kernel, 2, 64, 0, 0)(Fixture().x); }

__global__ void shuffle_exited_kernel(float* x) {
  if (blockIdx.x == 1 && threadIdx.x == 35) return;
  float v = float(threadIdx.x);
  v += __shfl_down_sync(0xFFFFFFFFu, v, 1);  // BUG shuffle_exited
  x[threadIdx.x] = v;
}
void shuffle_exited() { LAUNCH(shuffle_exited_kernel, 2, 64, 0, 0)(Fixture().x); }

__global__ void shuffle_beyond_kernel(float* x) {
  float v = float(threadIdx.x);
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, d);  // BUG shuffle_beyond
  x[threadIdx.x] = v;
}
void shuffle_beyond() { LAUNCH(shuffle_beyond_kernel, 1, 20, 0, 0)(Fixture().x); }

__global__ void shuffle_unnamed_kernel(float* x) {
  float v = float(threadIdx.x);
  if (threadIdx.x < 16) v = __shfl_sync(0x0000FFFFu, v, 20);  // BUG shuffle_unnamed
  x[threadIdx.x] = v;
}
void shuffle_unnamed() { LAUNCH(shuffle_unnamed_kernel, 1, 32, 0, 0)(Fixture().x); }

__global__ void mask_without_caller_kernel(float* x) {
  unsigned votes = 0;
  if (CHOSEN) votes = __ballot_sync(0xFFFFFFF0u, 1);  // BUG mask_without_caller
  x[threadIdx.x] = float(votes);
}
void mask_without_caller() { LAUNCH(mask_without_caller_kernel, 2, 64, 0, 0)(Fixture().x); }

__global__ void warp_divergence_kernel(float* x) {
  float v = 1;
  if (threadIdx.x % 2) {
    v = __shfl_xor_sync(0xFFFFFFFFu, v, 2);  // BUG warp_divergence
  } else {
    v = __shfl_xor_sync(0xFFFFFFFFu, v, 2);  // BUG warp_divergence
  }
  x[threadIdx.x] = v;
}
void warp_divergence() { LAUNCH(warp_divergence_kernel, 1, 32, 0, 0)(Fixture().x); }

__global__ void deadlock_kernel(float* x) {
  float v = 1;
  if (threadIdx.x % 32 < 16) v = __shfl_xor_sync(0xFFFFFFFFu, v, 1);  // BUG deadlock
  __syncthreads();
  x[threadIdx.x] = v;
}
void deadlock() { LAUNCH(deadlock_kernel, 2, 64, 0, 0)(Fixture().x); }

__global__ void spinning_kernel(int* flag) {
  if (threadIdx.x == 0)
    while (atomicAdd(flag, 0) == 0) {  // BUG spinning
    }
}
void spinning() { LAUNCH(spinning_kernel, 1, 64, 0, 0)(reinterpret_cast<int*>(Fixture().x)); }

// --- races
// ------------------------------------------------------------------------------------------------------------

__global__ void race_threads_kernel(float* x) {
  SHARED(float, s, [64]);
  s[threadIdx.x] = x[threadIdx.x];             // BUG race_threads
  x[threadIdx.x] = s[(threadIdx.x + 1) % 64];  // BUG race_threads
}
void race_threads() { LAUNCH(race_threads_kernel, 1, 64, 0, 0)(Fixture().x); }

__global__ void race_blocks_kernel(float* x) {
  if (threadIdx.x == 3) x[0] += 1;  // BUG race_blocks
}
void race_blocks() { LAUNCH(race_blocks_kernel, 2, 32, 0, 0)(Fixture().x); }

__global__ void missing_syncwarp_kernel(float* x) {
  SHARED(float, s, [32]);
  s[threadIdx.x] = x[threadIdx.x];  // BUG missing_syncwarp
  const float v = __shfl_xor_sync(0xFFFFFFFFu, x[threadIdx.x + 32], 1);
  x[threadIdx.x] = v + s[threadIdx.x ^ 1];  // BUG missing_syncwarp
}
void missing_syncwarp() { LAUNCH(missing_syncwarp_kernel, 1, 32, 0, 0)(Fixture().x); }

__global__ void missing_fence_kernel(float* x, unsigned* tickets) {
  SHARED(unsigned, ticket);
  if (threadIdx.x == 0) {
    x[blockIdx.x] = 1;                // BUG missing_fence
    ticket = atomicAdd(tickets, 1u);  // a __threadfence() should stand before and after
    if (ticket == gridDim.x - 1)
      for (unsigned b = 0; b < gridDim.x; ++b) x[64] += x[b];  // BUG missing_fence
  }
}
void missing_fence() {
  const Fixture x, tickets;
  LAUNCH(missing_fence_kernel, 2, 32, 0, 0)(x.x, reinterpret_cast<unsigned*>(tickets.x));
}

__global__ void write_kernel(float* x) {
  x[threadIdx.x] = 1;  // BUG race_streams
}
__global__ void read_kernel(float* y, const float* x) {
  y[threadIdx.x] = x[threadIdx.x];  // BUG race_streams
}
void race_streams() {
  const Fixture x, y;
  cudaStream_t a, b;
  cudaStreamCreate(&a);
  cudaStreamCreate(&b);
  LAUNCH(write_kernel, 1, 32, 0, a)(x.x);
  LAUNCH(read_kernel, 1, 32, 0, b)(y.x, x.x);  // an event of stream a should stand between
}

// --- launches
// ---------------------------------------------------------------------------------------------------------

__global__ void any_kernel() {}
void too_many_threads() {
  LAUNCH(any_kernel, 2, dim3(32, 33), 0, 0)();  // BUG too_many_threads
}
void too_much_shared() {
  LAUNCH(any_kernel, 2, 32, 100 * 1024, 0)();  // BUG too_much_shared
}
void not_opted_in() {
  LAUNCH(any_kernel, 2, 32, 60 * 1024, 0)();  // BUG not_opted_in
}
void empty_grid() {
  LAUNCH(any_kernel, 0, 32, 0, 0)();  // BUG empty_grid
}

#ifndef __CUDACC__  // nvcc itself refuses this one
__global__ void static_too_large_kernel(float* x) {
  SHARED(float, s, [12289]);  // BUG static_too_large
  s[threadIdx.x] = 1;
  x[threadIdx.x] = s[threadIdx.x];
}
void static_too_large() { LAUNCH(static_too_large_kernel, 2, 32, 0, 0)(Fixture().x); }
#endif

void missing_synchronisation() {
  float* pinned = nullptr;
  cudaMallocHost(&pinned, 128 * sizeof(float));
  cudaMemcpyAsync(pinned, Fixture().x, 128 * sizeof(float), cudaMemcpyDeviceToHost, 0);
  std::printf("%g\n", double(pinned[3]));  // BUG missing_synchronisation
}

void early_reuse() {
  float* pinned = nullptr;
  cudaMallocHost(&pinned, 128 * sizeof(float));
  std::memset(pinned, 0, 128 * sizeof(float));
  cudaMemcpyAsync(Fixture().x, pinned, 128 * sizeof(float), cudaMemcpyHostToDevice, 0);
  pinned[3] = 1;  // BUG early_reuse
}

struct Bug {
  const char* name;
  void (*run)();
};
#define BUG(name) \
  { #name, name }
const Bug bugs[] = {
    BUG(global_read),
    BUG(global_write),
    BUG(global_far),
    BUG(static_shared),
    BUG(dynamic_shared),
    BUG(local_array),
    BUG(host_argument),
    BUG(host_pointer),
    BUG(device_pointer),
    BUG(null_pointer),
    BUG(use_after_free),
    BUG(double_free),
    BUG(copy_too_much),
    BUG(copy_wrong_way),
    BUG(unwritten_shared),
    BUG(division),
    BUG(trap),
    BUG(barrier_exit),
    BUG(barrier_divergence),
    BUG(shuffle_exited),
    BUG(shuffle_beyond),
    BUG(shuffle_unnamed),
    BUG(mask_without_caller),
    BUG(warp_divergence),
    BUG(deadlock),
    BUG(spinning),
    BUG(race_threads),
    BUG(race_blocks),
    BUG(missing_syncwarp),
    BUG(missing_fence),
    BUG(race_streams),
    BUG(too_many_threads),
    BUG(too_much_shared),
    BUG(not_opted_in),
    BUG(empty_grid),
    BUG(missing_synchronisation),
    BUG(early_reuse),
#ifndef __CUDACC__
    BUG(static_too_large),
#endif
};

}  // namespace

int main(int argc, char** argv) {
  for (const Bug& bug : bugs)
    if (argc == 2 && std::strcmp(argv[1], bug.name) == 0) try {
        bug.run();
        cudaDeviceSynchronize();
        std::printf("nobody noticed\n");
        return 0;
      } catch (const std::exception& e) {
        std::printf("%s\n", e.what());
        return 1;
      }
  std::printf("usage: planted <bug>, where <bug> is one of\n");
  for (const Bug& bug : bugs) std::printf("  %s\n", bug.name);
  return 2;
}
