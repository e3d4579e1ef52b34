// Runs one kernel of tensor/kernels.h the hard way: guard elements before and behind every array, outputs poisoned
// with NaN, inputs that must come back unchanged, and results held against a plain evaluation in double.
//
//   KernelCall c(device);
//   const auto x = c.input("x", n);                        // in (-2, 2), or another draw; x[i] is it as a double
//   const auto y = c.output("y", n);                       // poisoned
//   on(c.device).scale(y, 2, x, n);
//   c.expect(y, [&](int64_t i) { return 2 * x[i]; });
//   CHECK(c.finish() == "");
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/op_table.h"

namespace lem::test {

/// Relative to the norm of the whole result.
inline constexpr double kKernelTolerance = kDouble ? 1e-12 : 1e-5;

/// One array of a call: what a kernel gets, and what the test knows of it.
template <class T>
struct Array {
  size_t index = 0;  // in the call
  T* data = nullptr;
  std::shared_ptr<const std::vector<T>> before;

  operator T*() const { return data; }
  int64_t size() const { return int64_t(before->size()); }
  std::vector<double> doubles() const { return {before->begin(), before->end()}; }
  /// The element before the call.
  auto operator[](int64_t i) const {
    return static_cast<std::conditional_t<std::is_same_v<T, real>, double, T>>((*before)[size_t(i)]);
  }
};
using Reals = Array<real>;
using Ints = Array<int32_t>;

class KernelCall {
 public:
  /// `guard` elements stand before and behind each array; 16 keep the alignment that the pool gives. A call that is
  /// not judged only hands out its bytes.
  explicit KernelCall(Device device, int64_t guard = 16, bool judged = true)
      : device(device), judged(judged), guard_(guard) {}
  ~KernelCall();
  KernelCall(const KernelCall&) = delete;

  Reals input(const char* name, int64_t n, const Draw& draw = between(-2, 2));
  Ints input(const char* name, const std::vector<int32_t>& values);
  Reals output(const char* name, int64_t n);
  Ints int_output(const char* name, int64_t n);
  /// For kernels that add (+=) or work in place: an input that the kernel may change.
  Reals in_out(const char* name, int64_t n, const Draw& draw = between(-2, 2));

  /// What y must hold after the call; NaN: what it held before, untouched. `magnitude`: what rounding errors are
  /// relative to where that is more than the result.
  void expect(const Reals& y, const std::function<double(int64_t)>& value, double magnitude = 0);
  void expect(const Ints& y, const std::function<int32_t(int64_t)>& value);
  void expect(const Reals& y, const std::vector<double>& values, double magnitude = 0);

  /// The first thing that is wrong, in words, or nothing.
  std::string finish();
  /// Every byte of the outputs after finish(), to compare two runs.
  const std::string& output_bytes() const { return output_bytes_; }

  const Device device;
  const bool judged;  // if not, expect does nothing: slow oracles need not be asked

 private:
  struct Buffer {
    const char* name;
    bool is_real, may_change;
    char* base;               // on the device, guards included
    std::vector<char> bytes;  // what was uploaded, guards included
    std::vector<double> expected{};
    double magnitude = 0;
  };
  template <class T>
  Array<T> make(const char* name, std::vector<T> values, bool may_change);
  template <class T>
  std::string compare(const Buffer& b, const std::vector<char>& after) const;

  int64_t guard_;
  std::vector<Buffer> buffers_;
  std::string output_bytes_;
};

/// One call of one kernel at one size.
struct KernelCase {
  const char* kernel;
  std::string options;
  std::function<void(KernelCall&)> run;
  bool any_threads = true;  // the same bits for any number of threads; products by BLAS do not promise it
  bool large = false;       // too large for the thread sanitizer's build
};

/// The cases from number `first` on are large.
inline void mark_large(std::vector<KernelCase>& table, size_t first) {
  for (; first < table.size(); ++first) table[first].large = true;
}

/// The devices that this build and this machine have, or the one that the environment's LEM_DEVICE names.
std::vector<Device> devices();

const std::vector<KernelCase>& kernel_table();
/// "" or the first thing that is wrong with this call.
std::string check_kernel(const KernelCase& c, Device device);

// The parts of the table, each in its own file.
void add_elementwise_kernels(std::vector<KernelCase>& table);  // kernel_table.cpp
void add_reduction_kernels(std::vector<KernelCase>& table);    // kernel_table.cpp
void add_gemm_kernels(std::vector<KernelCase>& table);         // kernel_table.cpp
void add_row_kernels(std::vector<KernelCase>& table);          // kernel_table_rows.cpp
void add_attention_kernels(std::vector<KernelCase>& table);    // kernel_table_attention.cpp
void add_memory_kernels(std::vector<KernelCase>& table);       // kernel_table_memory.cpp: scores, densities
void add_continuous_kernels(std::vector<KernelCase>& table);   // kernel_table_continuous.cpp: bases, sticky memories

/// The keep factor of dropout for element i: 0 or 1 / (1 − p).
inline double mask(const Dropout& d, int64_t i) {
  return d.p == 0 ? 1 : d.stream.uniform(d.first + uint64_t(i)) >= double(d.p) ? 1 / (1 - double(d.p)) : 0;
}

}  // namespace lem::test
