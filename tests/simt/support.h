// Device arrays and launches in every order, for the tests of the interpreter. Compiles under nvcc, too.
#pragma once

#include <vector>

#include "cuda/simt/simt.h"
#include "tests/catch.h"

/// Fails the test unless a CUDA call succeeded.
#define OK(call) REQUIRE((call) == cudaSuccess)

/// n numbers on the device, and back.
template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& host) : n_(host.size()) {
    OK(cudaMalloc(&p_, n_ * sizeof(T)));
    OK(cudaMemcpy(p_, host.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  explicit Device(size_t n, T value = T{}) : Device(std::vector<T>(n, value)) {}
  Device(const Device&) = delete;
  ~Device() { (void)cudaFree(p_); }
  T* get() const { return p_; }
  std::vector<T> host() const {
    std::vector<T> out(n_);
    OK(cudaMemcpy(out.data(), p_, n_ * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  T* p_ = nullptr;
  size_t n_;
};

/// Runs body in each order of threads and blocks.
template <class Body>
void in_every_order(Body body) {
#ifdef __CUDACC__
  body();
#else
  const simt::Order before = simt::order();
  for (const char* order : {"forward", "reverse", "random:1", "random:2"}) {
    INFO("SIMT_ORDER=" << order);
    simt::set_order(simt::Order::parse(order));
    body();
  }
  simt::set_order(before);
#endif
}
