#include "cuda/simt/runtime_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "cuda/simt/launch.h"
#include "cuda/simt/memory.h"
#include "cuda/simt/stream.h"
#include "cuda/simt/tsan.h"
#include "tensor/error.h"

namespace simt {

namespace {

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

Queues& queues() { return Queues::instance(); }
std::unique_lock<std::recursive_mutex> lock() { return std::unique_lock(queues().mutex); }
bool is_device(const void* p) { return Memory::instance().is_device(reinterpret_cast<uintptr_t>(p)); }

Event& event_of(cudaEvent_t event, const char* op) {
  lem::check(event != nullptr, "[{}] event: got null, expected one from cudaEventCreate", op);
  return *reinterpret_cast<Event*>(event);
}

using Staged = std::shared_ptr<std::vector<char>>;

/// What a copy moves: `count` rows, a pitch apart. A flat copy has one.
struct Rows {
  size_t bytes, count = 1, dst_pitch = 0, src_pitch = 0;

  bool empty() const { return bytes == 0 || count == 0; }
  size_t span(size_t pitch) const { return (count - 1) * pitch + bytes; }  // from the first byte to the last
  void move(void* dst, const void* src) const {
    for (size_t i = 0; i < count; ++i)
      std::memcpy(static_cast<char*>(dst) + i * dst_pitch, static_cast<const char*>(src) + i * src_pitch, bytes);
  }
};

// Copies as the stream's point of view: the thread sanitizer watches memcpy, and also who frees what was staged.
void move_bytes(Stream& s, void* dst, const void* src, const Rows& rows, Staged staged = nullptr) {
  const tsan::Context as_stream(s.context);
  rows.move(dst, src);
  staged.reset();
  tsan::release(&s.token);
}

void check_host(const char* op, const char* name, const void* p, Site site) {
  if (!is_device(p)) return;
  lem::fail("[{}] {} at {}:{}: got device memory, {}, expected host memory; is the direction right?", op, name,
            site.file_name(), site.line(), Memory::instance().describe(reinterpret_cast<uintptr_t>(p)));
}

cudaError_t copy(const char* op, void* dst, const void* src, const Rows& rows, cudaMemcpyKind kind, cudaStream_t handle,
                 Site site) {
  const auto held = lock();
  Stream& stream = queues().stream(handle, op);
  Memory& memory = Memory::instance();
  if (kind == cudaMemcpyDefault)
    kind = is_device(dst) ? (is_device(src) ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                          : (is_device(src) ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (rows.empty()) return cudaSuccess;
  if (to_device) memory.check_device_range(op, "destination", dst, rows.span(rows.dst_pitch), site);
  if (from_device) memory.check_device_range(op, "source", src, rows.span(rows.src_pitch), site);
  if (!to_device) check_host(op, "destination", dst, site);
  if (!from_device) check_host(op, "source", src, site);

  if (kind == cudaMemcpyHostToDevice && !memory.is_pinned(src)) {
    // Pageable memory is staged: it may be changed as soon as the call returns.
    Rows packed = rows;
    packed.dst_pitch = rows.bytes;
    auto staged = std::make_shared<std::vector<char>>(rows.bytes * rows.count);
    packed.move(staged->data(), src);
    packed.dst_pitch = rows.dst_pitch, packed.src_pitch = rows.bytes;
    queues().submit(stream, [=, staged = std::move(staged)](Stream& s) mutable {
      const void* data = staged->data();
      move_bytes(s, dst, data, packed, std::move(staged));
    });
    return cudaSuccess;
  }
  const void* pinned = to_device ? src : dst;
  if (!to_device || !from_device) memory.begin_use(pinned, !to_device, site);
  queues().submit(stream, [=](Stream& s) {
    if (!to_device || !from_device) Memory::instance().end_use(pinned, !to_device);
    move_bytes(s, dst, src, rows);
  });
  if (!to_device && !memory.is_pinned(dst)) queues().wait(stream);  // as CUDA does: no page of it can wait
  return cudaSuccess;
}

}  // namespace

// --- memory
// -----------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** p, size_t bytes, Site site) {
  const auto held = lock();
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = Memory::instance().allocate_device(bytes, site);
  return *p ? cudaSuccess : remember(cudaErrorMemoryAllocation);
}

cudaError_t cudaMallocAsync(void** p, size_t bytes, cudaStream_t stream, Site site) {
  const auto held = lock();
  queues().stream(stream, "cudaMallocAsync");
  return simt::cudaMalloc(p, bytes, site);
}

cudaError_t cudaFree(void* p, Site site) {
  const auto held = lock();
  queues().wait_all();
  Memory::instance().free_device(p, site);
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* p, cudaStream_t stream, Site site) {
  const auto held = lock();
  queues().submit(queues().stream(stream, "cudaFreeAsync"), [=](Stream&) { Memory::instance().free_device(p, site); });
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** p, size_t bytes, unsigned, Site site) {
  const auto held = lock();
  *p = Memory::instance().allocate_pinned(bytes, site);
  return *p ? cudaSuccess : remember(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void* p, Site site) {
  const auto held = lock();
  queues().wait_all();
  Memory::instance().free_pinned(p, site);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const auto held = lock();
  const Memory& m = Memory::instance();
  *total = m.device_total();
  *free = m.device_total() - std::min(m.device_total(), m.device_used());
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream,
                            Site site) {
  return copy("cudaMemcpyAsync", dst, src, {bytes}, kind, stream, site);
}

cudaError_t cudaMemcpy2DAsync(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream, Site site) {
  constexpr size_t kMaxPitch = 0x7FFFFFFF;  // cudaDeviceProp::memPitch of every GPU
  for (const auto& [name, pitch] : {std::pair{"destination", dst_pitch}, std::pair{"source", src_pitch}})
    lem::check(width <= pitch && pitch <= kMaxPitch,
               "[cudaMemcpy2DAsync] pitch of the {} at {}:{}: got {}, expected at least the width {} and at most {}",
               name, site.file_name(), site.line(), pitch, width, kMaxPitch);
  return copy("cudaMemcpy2DAsync", dst, src, {width, height, dst_pitch, src_pitch}, kind, stream, site);
}

cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind, Site site) {
  const auto held = lock();
  copy("cudaMemcpy", dst, src, {bytes}, kind, nullptr, site);
  queues().wait(queues().stream(nullptr, "cudaMemcpy"));
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream, Site site) {
  const auto held = lock();
  Memory::instance().check_device_range("cudaMemset", "destination", p, bytes, site);
  queues().submit(queues().stream(stream, "cudaMemset"), [=](Stream& s) {
    const tsan::Context as_stream(s.context);
    std::memset(p, value, bytes);
    tsan::release(&s.token);
  });
  return cudaSuccess;
}

cudaError_t cudaMemset(void* p, int value, size_t bytes, Site site) {
  return simt::cudaMemsetAsync(p, value, bytes, nullptr, site);
}

cudaError_t copy_symbol(void* symbol, size_t size, const void* src, size_t bytes, size_t offset, Site site) {
  const auto held = lock();
  lem::check(offset <= size && bytes <= size - offset,
             "[cudaMemcpyToSymbol] at {}:{}: got {} bytes from offset {}, expected at most {}", site.file_name(),
             site.line(), bytes, offset, size);
  queues().wait_all();
  std::memcpy(static_cast<char*>(symbol) + offset, src, bytes);
  return cudaSuccess;
}

// --- streams and events
// -----------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const auto held = lock();
  *stream = queues().create(flags != cudaStreamNonBlocking);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return simt::cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const auto held = lock();
  queues().destroy(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const auto held = lock();
  queues().wait(queues().stream(stream, "cudaStreamSynchronize"));
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const auto held = lock();
  Stream& stream = queues().stream(handle, "cudaStreamQuery");
  return queues().poll({&stream, stream.submitted}) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const auto held = lock();
  queues().submit_wait(queues().stream(stream, "cudaStreamWaitEvent"), event_of(event, "cudaStreamWaitEvent"));
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const auto held = lock();
  queues().wait_all();
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return simt::cudaEventCreate(event); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &event_of(event, "cudaEventDestroy");
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  const auto held = lock();
  Event& event = event_of(handle, "cudaEventRecord");
  Stream& stream = queues().stream(stream_handle, "cudaEventRecord");
  queues().submit(stream, [time = event.milliseconds](Stream&) {
    using namespace std::chrono;
    *time = duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
  });
  event.recorded = {&stream, stream.submitted};
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  const auto held = lock();
  const Event& event = event_of(handle, "cudaEventSynchronize");
  if (event.recorded.stream) queues().wait(*event.recorded.stream, event.recorded.position);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const auto held = lock();
  return queues().poll(event_of(event, "cudaEventQuery").recorded) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const auto held = lock();
  const Event& a = event_of(begin, "cudaEventElapsedTime");
  const Event& b = event_of(end, "cudaEventElapsedTime");
  for (const Event* e : {&a, &b}) {
    if (!e->recorded.stream) return remember(cudaErrorInvalidResourceHandle);
    if (e->recorded.stream->done < e->recorded.position) return cudaErrorNotReady;
  }
  *milliseconds = float(*b.milliseconds - *a.milliseconds);
  return cudaSuccess;
}

// --- errors and the device
// --------------------------------------------------------------------------------------------

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    default:
      return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorInvalidValue:
      return "invalid argument";
    default:
      return "unknown error";
  }
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : remember(cudaErrorInvalidDevice); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device != 0) return remember(cudaErrorInvalidDevice);
  const Architecture& a = architecture();
  *p = {};
  std::snprintf(p->name, sizeof p->name, "CUDA interpreter on the CPU (as sm_%d)", a.version);
  p->totalGlobalMem = Memory::instance().device_total();
  p->major = a.version / 10;
  p->minor = a.version % 10;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->sharedMemPerBlock = a.shared_default;
  p->sharedMemPerBlockOptin = a.shared_opt_in;
  p->multiProcessorCount = workers();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t error = simt::cudaGetDeviceProperties(&p, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = int(p.sharedMemPerBlock);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = int(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    default:
      lem::fail("[cudaDeviceGetAttribute] got attribute {}, which the interpreter does not know", int(attribute));
  }
  return cudaSuccess;
}

cudaError_t set_function_attribute(const void* function, cudaFuncAttribute attribute, int value, Site site) {
  const Architecture& a = architecture();
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  lem::check(attribute == cudaFuncAttributeMaxDynamicSharedMemorySize,
             "[cudaFuncSetAttribute] at {}:{}: got attribute {}, expected cudaFuncAttributeMaxDynamicSharedMemorySize",
             site.file_name(), site.line(), int(attribute));
  lem::check(value >= 0 && size_t(value) <= a.shared_opt_in,
             "[cudaFuncSetAttribute] dynamic shared memory at {}:{}: got {} bytes, expected at most {} (sm_{})",
             site.file_name(), site.line(), value, a.shared_opt_in, a.version);
  allow_shared(function, size_t(value));
  return cudaSuccess;
}

static bool device_code = true;
void set_device_code(bool there) { device_code = there; }
cudaError_t function_attributes(cudaFuncAttributes* attributes) {
  if (!device_code) return remember(cudaErrorNoKernelImageForDevice);
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->maxDynamicSharedSizeBytes = int(architecture().shared_default);
  return cudaSuccess;
}

void set_device_memory(size_t bytes) { Memory::instance().set_device_total(bytes); }

}  // namespace simt
