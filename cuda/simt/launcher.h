// From LAUNCH(kernel, grid, block, shared_bytes, stream)(arguments…) to a Launch in a stream's queue, and what a
// running thread asks first: who am I, and where is my shared memory?
#pragma once

#include <driver_types.h>

#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda/simt/block.h"
#include "cuda/simt/launch.h"
#include "cuda/simt/site.h"

namespace simt {

// In a sanitizer's build these must be calls, or the compiler would have the interpreter's own data checked in the
// kernel.
SIMT_UNCHECKED inline uint3 thread_index() { return here.thread; }
SIMT_UNCHECKED inline uint3 block_index() { return here.block; }
SIMT_UNCHECKED inline dim3 block_size() { return here.block_dim; }
SIMT_UNCHECKED inline dim3 grid_size() { return here.grid_dim; }

/// Appends a launch to a stream; an lem::Error if the configuration is impossible.
void submit(std::shared_ptr<Launch> launch, const void* kernel, cudaStream_t stream);
/// An lem::Error unless p is null or device memory: what a kernel may be handed.
void check_kernel_pointer(const char* kernel, int argument, const void* p, Site site);

void* shared_array(size_t bytes, size_t alignment, const char* name, Site site);
void* shared_dynamic(Site site = Site::current());

/// The block's array of type T: the same one for all its threads. `Tag` tells one SHARED from another.
template <class T, class Tag>
SIMT_UNCHECKED T& shared(Tag, const char* name, Site site = Site::current()) {
  static_assert(std::is_trivially_default_constructible_v<T>, "shared memory has no constructors: use plain types");
  static thread_local constinit uint64_t epoch = 0;
  static thread_local constinit void* array = nullptr;
  if (epoch != here.epoch) {
    array = shared_array(sizeof(T), alignof(T), name, site);
    epoch = here.epoch;
  }
  return *static_cast<T*>(array);
}

/// A kernel with its arguments, which every thread gets a copy of.
template <class... P>
struct Call {
  void (*kernel)(P...);
  std::tuple<P...> arguments;

  SIMT_UNCHECKED static void invoke(const void* self) {
    static_cast<const Call*>(self)->invoke(std::index_sequence_for<P...>{});
  }
  template <size_t... I>
  SIMT_UNCHECKED void invoke(std::index_sequence<I...>) const {
    kernel(std::get<I>(arguments)...);
  }
};

template <class... P>
class Launcher {
 public:
  Launcher(std::shared_ptr<Launch> launch, void (*kernel)(P...), cudaStream_t stream)
      : launch_(std::move(launch)), kernel_(kernel), stream_(stream) {}

  // The parameters' own types: a call converts as any call of the kernel would.
  void operator()(P... arguments) const {
    static_assert((!std::is_reference_v<P> && ...), "a kernel takes its arguments by value");
    [[maybe_unused]] int i = 0;
    (check(++i, arguments), ...);
    launch_->invoke = &Call<P...>::invoke;
    launch_->arguments = std::make_shared<const Call<P...>>(Call<P...>{kernel_, {std::move(arguments)...}});
    submit(launch_, reinterpret_cast<const void*>(kernel_), stream_);
  }

 private:
  template <class T>
  void check(int i, const T& argument) const {
    if constexpr (std::is_pointer_v<T>) check_kernel_pointer(launch_->kernel, i, argument, launch_->site);
  }
  std::shared_ptr<Launch> launch_;
  void (*kernel_)(P...);
  cudaStream_t stream_;
};

template <class... P>
Launcher<P...> launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes = 0,
                      cudaStream_t stream = nullptr, Site site = Site::current()) {
  auto launch = std::make_shared<Launch>();
  launch->kernel = name;
  launch->site = site;
  launch->grid = grid;
  launch->block = block;
  launch->shared_bytes = shared_bytes;
  return {std::move(launch), kernel, stream};
}

}  // namespace simt

#define threadIdx (::simt::thread_index())
#define blockIdx (::simt::block_index())
#define blockDim (::simt::block_size())
#define gridDim (::simt::grid_size())
