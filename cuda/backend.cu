// The backend's table of kernels, its memory, and the errors of CUDA's calls.
#include <cstring>
#include <mutex>
#include <new>
#include <string>

#include "cuda/device.h"
#include "cuda/gemm.h"
#include "tensor/error.h"
#include "tensor/pool.h"

namespace lem::LEM_DEVICE {

#ifdef __CUDACC__
constexpr Device kDevice = Device::cuda;
constexpr const char* kName = "cuda";
#else
constexpr Device kDevice = Device::simt;
constexpr const char* kName = "simt";
#endif

void fail_cuda(cudaError_t error, const char* expression, const char* file, int line) {
  int device = -1;
  (void)cudaGetDevice(&device);
  fail("[{}] {}: {} ({}:{}, device {})", kName, cudaGetErrorString(error), expression, file, line, device);
}
void fail_cublas(cublasStatus_t status, const char* expression, const char* file, int line) {
  int device = -1;
  (void)cudaGetDevice(&device);
  fail("[{}] {}: {} ({}:{}, device {})", kName, cublasGetStatusString(status), expression, file, line, device);
}

cudaStream_t stream() {
  static const cudaStream_t one = [] {
    cudaStream_t s;
    CUDA_CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
  }();
  return one;
}

cublasHandle_t blas() {
  static const cublasHandle_t one = [] {
    cublasHandle_t handle;
    CUBLAS_CHECK(cublasCreate(&handle));
    CUBLAS_CHECK(cublasSetStream(handle, stream()));
    return handle;
  }();
  return one;
}

template <class T>
Workspace<T>::Workspace(int64_t n) : bytes_(size_t(n) * sizeof(T)) {
  data_ = static_cast<T*>(pool_allocate(kDevice, bytes_));
}
template <class T>
Workspace<T>::~Workspace() {
  pool_release(kDevice, data_, bytes_);
}
template class Workspace<float>;
template class Workspace<double>;
template class Workspace<int32_t>;

namespace {

/// Null where there is not enough: the pool then gives back what it caches and tries once more.
void* allocate(size_t bytes) {
  void* p = nullptr;
  const cudaError_t error = cudaMalloc(&p, bytes ? bytes : 1);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // forget it
    return nullptr;
  }
  CUDA_CHECK(error);
  return p;
}
void release(void* p) {
  CUDA_CHECK(cudaStreamSynchronize(stream()));
  CUDA_CHECK(cudaFree(p));
}

/// Pinned memory that small uploads pass through: the host's memory is free again once it is copied there, and nobody
/// waits for the stream. The slots are used in turn. One may be written again when the event behind its copy has
/// passed, so only who is a whole round ahead of the device waits. Each slot is an allocation of its own: the
/// interpreter then knows who writes into one too early.
class Staging {
 public:
  static constexpr size_t kSlotBytes = size_t{64} << 10;

  Staging() {
    for (Slot& slot : slots_) {
      CUDA_CHECK(cudaMallocHost(&slot.memory, kSlotBytes));
      CUDA_CHECK(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming));
    }
  }
  void upload(void* dst, const void* host, size_t bytes) {
    const std::lock_guard lock(mutex_);
    Slot& slot = slots_[next_++ % kSlots];
    CUDA_CHECK(cudaEventSynchronize(slot.copied));  // at once, if never recorded
    std::memcpy(slot.memory, host, bytes);
    CUDA_CHECK(cudaMemcpyAsync(dst, slot.memory, bytes, cudaMemcpyHostToDevice, stream()));
    CUDA_CHECK(cudaEventRecord(slot.copied, stream()));
  }

 private:
  static constexpr size_t kSlots = 16;
  struct Slot {
    void* memory;
    cudaEvent_t copied;
  };
  Slot slots_[kSlots];
  size_t next_ = 0;
  std::mutex mutex_;
};

void upload(void* dst, const void* host, size_t bytes) {
  if (bytes == 0) return;
  static Staging* const staging = new Staging;  // never destroyed, as the stream
  if (bytes <= Staging::kSlotBytes) return staging->upload(dst, host, bytes);
  CUDA_CHECK(cudaMemcpyAsync(dst, host, bytes, cudaMemcpyHostToDevice, stream()));
  CUDA_CHECK(cudaStreamSynchronize(stream()));
}
// Waits: what was computed is there only then.
void download(void* host, const void* src, size_t bytes) {
  if (bytes == 0) return;
  CUDA_CHECK(cudaMemcpyAsync(host, src, bytes, cudaMemcpyDeviceToHost, stream()));
  CUDA_CHECK(cudaStreamSynchronize(stream()));
}
void copy(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t bytes, size_t rows) {
  if (bytes == 0 || rows == 0) return;
  if (rows == 1)  // of any length: pitches must be below 2 GiB
    CUDA_CHECK(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream()));
  else
    CUDA_CHECK(cudaMemcpy2DAsync(dst, dst_pitch, src, src_pitch, bytes, rows, cudaMemcpyDeviceToDevice, stream()));
}
void synchronize() { CUDA_CHECK(cudaStreamSynchronize(stream())); }
DeviceMemory memory() {
  DeviceMemory m;
  CUDA_CHECK(cudaMemGetInfo(&m.free, &m.total));
  return m;
}

/// Two events of the stopwatch: begin and end.
cudaEvent_t event(int which) {
  static cudaEvent_t events[2];
  if (events[which] == nullptr) CUDA_CHECK(cudaEventCreate(&events[which]));
  return events[which];
}
void start_clock() { CUDA_CHECK(cudaEventRecord(event(0), stream())); }
double stop_clock() {
  CUDA_CHECK(cudaEventRecord(event(1), stream()));
  CUDA_CHECK(cudaEventSynchronize(event(1)));
  float milliseconds = 0;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, event(0), event(1)));
  return 1e-3 * double(milliseconds);
}

/// Asked whether this build has code for the device: where it has none, none of its kernels has.
__global__ void probe_kernel() {}

}  // namespace

std::string missing() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices > 0) {
    cudaFuncAttributes attributes;
    const cudaError_t code = cudaFuncGetAttributes(&attributes, probe_kernel);
    if (code == cudaSuccess) return "";
    (void)cudaGetLastError();  // forget it
    if (code != cudaErrorNoKernelImageForDevice && code != cudaErrorInvalidDeviceFunction)
      return cudaGetErrorString(code);
    int device = 0, major = 0, minor = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    return fmt::format(
        "this build has no code for this machine's GPU, of compute capability {0}.{1}: build again with "
        "CUDA_ARCHS={0}{1}",
        major, minor);
  }
  if (error == cudaSuccess || error == cudaErrorNoDevice) return "there is no GPU on this machine";
  int driver = 0;  // the newest CUDA that it can run; 0: there is none
  if (error != cudaErrorInsufficientDriver || cudaDriverGetVersion(&driver) != cudaSuccess)
    return cudaGetErrorString(error);
  return driver == 0 ? "there is no NVIDIA driver on this machine"
                     : "this machine's NVIDIA driver is older than the CUDA toolkit of this build: update the driver";
}

const char* absence() {
  static const std::string why = missing();  // asked once: a GPU does not come or go
  return why.c_str();
}

const Backend* backend() {
  static const Backend table = {kName,
                                allocate,
                                release,
                                upload,
                                download,
                                copy,
                                synchronize,
                                start_clock,
                                stop_clock,
                                memory,
                                allow_tf32,
                                {
#define KERNEL(name, ...) &LEM_DEVICE::name,
#include "tensor/kernels.h"
#undef KERNEL
                                }};
  return *absence() ? nullptr : &table;
}

}  // namespace lem::LEM_DEVICE
