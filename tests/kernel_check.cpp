#include "tests/kernel_check.h"

#include <omp.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "tests/numeric.h"

namespace lem::test {
namespace {

constexpr int32_t kIntPoison = 0x5EEDBAD;
constexpr char kGuardByte = char(0xA5);

/// A NaN that no computation makes: an output that still holds it was not written.
real poison() {
  using Bits = std::conditional_t<kDouble, uint64_t, uint32_t>;
  return std::bit_cast<real>(Bits(kDouble ? 0x7FF8DEADBEEF0001 : 0x7FC0DEAD));
}

template <class T>
T element(const char* bytes, size_t i) {
  T value;
  std::memcpy(&value, bytes + i * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

// ---- the arrays

template <class T>
Array<T> KernelCall::make(const char* name, std::vector<T> values, bool may_change) {
  const size_t inside = values.size() * sizeof(T), guard = size_t(guard_) * sizeof(T);
  std::vector<char> bytes(inside + 2 * guard, kGuardByte);
  if (inside) std::memcpy(bytes.data() + guard, values.data(), inside);
  char* base = static_cast<char*>(backend(device).allocate(bytes.size()));
  backend(device).upload(base, bytes.data(), bytes.size());
  buffers_.push_back({name, std::is_same_v<T, real>, may_change, base, std::move(bytes)});
  return {buffers_.size() - 1, reinterpret_cast<T*>(base + guard), std::make_shared<std::vector<T>>(std::move(values))};
}

KernelCall::~KernelCall() {
  for (const Buffer& b : buffers_) backend(device).release(b.base);
}

namespace {

std::vector<real> random_reals(uint64_t stream, int64_t n, const Draw& draw) {
  std::vector<real> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = real(draw(Stream{71, stream}, i));
  return x;
}

}  // namespace

Reals KernelCall::input(const char* name, int64_t n, const Draw& draw) {
  return make(name, random_reals(buffers_.size(), n, draw), false);
}
Reals KernelCall::in_out(const char* name, int64_t n, const Draw& draw) {
  return make(name, random_reals(buffers_.size(), n, draw), true);
}
Ints KernelCall::input(const char* name, const std::vector<int32_t>& values) { return make(name, values, false); }
Reals KernelCall::output(const char* name, int64_t n) {
  return make(name, std::vector<real>(static_cast<size_t>(n), poison()), true);
}
Ints KernelCall::int_output(const char* name, int64_t n) {
  return make(name, std::vector<int32_t>(static_cast<size_t>(n), kIntPoison), true);
}

void KernelCall::expect(const Reals& y, const std::function<double(int64_t)>& value, double magnitude) {
  if (!judged) return;
  Buffer& b = buffers_.at(y.index);
  for (int64_t i = 0; i < y.size(); ++i) b.expected.push_back(value(i));
  b.magnitude = magnitude;
}
void KernelCall::expect(const Ints& y, const std::function<int32_t(int64_t)>& value) {
  if (!judged) return;
  Buffer& b = buffers_.at(y.index);
  for (int64_t i = 0; i < y.size(); ++i) b.expected.push_back(value(i));
}
void KernelCall::expect(const Reals& y, const std::vector<double>& values, double magnitude) {
  if (!judged) return;
  check(int64_t(values.size()) == y.size(), "[expect] {}: got {} values for {} elements", buffers_.at(y.index).name,
        values.size(), y.size());
  expect(
      y, [&](int64_t i) { return values[size_t(i)]; }, magnitude);
}

// ---- the verdict

template <class T>
std::string KernelCall::compare(const Buffer& b, const std::vector<char>& after) const {
  const size_t guard = size_t(guard_) * sizeof(T), n = (b.bytes.size() - 2 * guard) / sizeof(T);
  const auto unchanged = [&](size_t at, size_t count) {
    return std::memcmp(after.data() + at, b.bytes.data() + at, count) == 0;
  };
  for (size_t i = 0; i < guard; ++i) {
    if (!unchanged(i, 1)) return fmt::format("{}: wrote {} bytes before the array", b.name, guard - i);
    if (!unchanged(guard + n * sizeof(T) + i, 1))
      return fmt::format("{}: wrote at byte {} behind the array", b.name, i);
  }
  if (!b.may_change && !unchanged(guard, n * sizeof(T))) return fmt::format("{}: an input was changed", b.name);

  double difference = 0, norm = b.magnitude * b.magnitude;
  Largest worst;
  for (size_t i = 0; b.may_change && i < n; ++i) {
    const double got = double(element<T>(after.data() + guard, i));
    if (b.expected.empty()) {
      if (std::isnan(got) || got == kIntPoison) return fmt::format("{}[{}]: never written, or NaN", b.name, i);
    } else if (std::isnan(b.expected[i])) {
      if (!unchanged(guard + i * sizeof(T), sizeof(T))) return fmt::format("{}[{}]: written, must not be", b.name, i);
    } else {
      const double d = got == b.expected[i] ? 0 : got - b.expected[i];  // equal infinities differ by nothing
      difference += d * d;
      if (std::isfinite(b.expected[i])) norm += b.expected[i] * b.expected[i];
      worst.add(std::abs(d), i);
    }
  }
  if (std::sqrt(difference) <= kKernelTolerance * std::sqrt(norm)) return "";
  return fmt::format("{}: relative error {:.2g}, tolerance {:.2g}; worst at {}: got {:.9g}, expected {:.9g}", b.name,
                     std::sqrt(difference / norm), kKernelTolerance, worst.at,
                     double(element<T>(after.data() + guard, worst.at)), b.expected[worst.at]);
}

std::string KernelCall::finish() {
  backend(device).synchronize();
  std::string wrong;
  for (const Buffer& b : buffers_) {
    std::vector<char> after(b.bytes.size());
    backend(device).download(after.data(), b.base, after.size());
    if (b.may_change) output_bytes_.append(after.begin(), after.end());
    if (judged && wrong.empty()) wrong = b.is_real ? compare<real>(b, after) : compare<int32_t>(b, after);
  }
  return wrong;
}

// ---- a case of the table

namespace {

/// The bytes of the outputs of one more run.
std::string bytes_again(const KernelCase& c, Device device, int64_t guard = 16) {
  KernelCall call(device, guard, false);
  c.run(call);
  call.finish();
  return call.output_bytes();
}

std::string bytes_on_threads(const KernelCase& c, Device device, int threads) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  std::string bytes = bytes_again(c, device);
  omp_set_num_threads(before);
  return bytes;
}

}  // namespace

std::string check_kernel(const KernelCase& c, Device device) {
  const std::string about = fmt::format("{} [{}] on {}: ", c.kernel, c.options, name(device));
  KernelCall first(device);
  c.run(first);
  if (std::string wrong = first.finish(); !wrong.empty()) return about + wrong;
  if (bytes_again(c, device) != first.output_bytes()) return about + "other bits in a second run";
  if (device == Device::cpu && c.any_threads)
    for (int threads : {1, 3})
      if (bytes_on_threads(c, device, threads) != first.output_bytes())
        return about + fmt::format("other bits on {} threads", threads);

  bytes_again(c, device, 0);  // no guards: the address sanitizer sees who reads beyond an array
  KernelCall unaligned(device, 13);
  c.run(unaligned);
  if (std::string wrong = unaligned.finish(); !wrong.empty()) return about + "unaligned: " + wrong;
  return "";
}

const std::vector<KernelCase>& kernel_table() {
  static const std::vector<KernelCase> table = [] {
    std::vector<KernelCase> all;
    add_elementwise_kernels(all);
    add_reduction_kernels(all);
    add_gemm_kernels(all);
    add_row_kernels(all);
    add_attention_kernels(all);
    add_memory_kernels(all);
    add_continuous_kernels(all);
    return all;
  }();
  return table;
}

std::vector<Device> devices() {
  if (const char* only = std::getenv("LEM_DEVICE")) {
    backend(parse_device(only));  // an error if it is not there
    return {parse_device(only)};
  }
  std::vector<Device> found;
  for (Device device : {Device::cpu, Device::simt, Device::cuda}) try {
      backend(device);
      found.push_back(device);
    } catch (const Error&) {
    }
  return found;
}

}  // namespace lem::test
