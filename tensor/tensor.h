// Tensors: n-dimensional, contiguous, row-major arrays on a device. A Tensor is a handle: copying it shares the
// numbers. Views are reshapes and slices of the leading dimension; everything else is a kernel's business.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/backend.h"
#include "tensor/error.h"

namespace lem {

/// Up to six sizes, held without touching the heap.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);
  explicit Shape(const std::vector<int64_t>& sizes);

  int rank() const { return rank_; }
  /// Size of axis i; negative i counts from the last.
  int64_t operator[](int i) const;
  int64_t numel() const;
  bool operator==(const Shape& other) const;
  std::string str() const;  // "(2, 3)"
  std::vector<int64_t> vector() const { return {sizes_.begin(), sizes_.begin() + rank_}; }

 private:
  static constexpr int kMaxRank = 6;
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

/// Memory on a device, or a part of a larger Storage (an arena).
struct Storage {
  Storage(Device device, size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  /// Moves the contents into `arena` at byte `offset`, and this storage's every holder with them.
  void move_into(std::shared_ptr<Storage> arena, size_t offset);

  Device device;
  size_t bytes;
  char* data;
  std::shared_ptr<Storage> arena;  // set: data lies inside it
  /// The least and the largest of tokens that came from the host, so that they can be checked wherever they are at no
  /// cost. Unknown (least > most) for what kernels make.
  int32_t least = 1, most = 0;
};

/// T is real for numbers that are computed with, int32_t for tokens, Stream for the random streams of a batch's rows.
template <class T>
class TensorOf {
 public:
  TensorOf() = default;
  /// Uninitialised memory.
  TensorOf(const Shape& shape, Device device);
  static TensorOf from(const std::vector<T>& values, const Shape& shape, Device device = Device::cpu);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return check_defined(), shape_[i]; }
  /// None if undefined.
  int64_t numel() const { return storage_ ? shape_.numel() : 0; }
  Device device() const { return check_defined(), storage_->device; }
  T* data() const { return storage_ ? reinterpret_cast<T*>(storage_->data) + offset_ : nullptr; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  /// The same numbers under another shape of as many elements.
  TensorOf reshape(const Shape& shape) const;
  /// Rows [begin, end) of the leading dimension.
  TensorOf slice(int64_t begin, int64_t end) const;
  TensorOf clone() const;
  TensorOf to(Device device) const;
  void copy_from(const TensorOf& src) const;
  std::vector<T> to_vector() const;

 private:
  void check_defined() const {
    check(storage_ != nullptr, "[tensor] an undefined tensor has no numbers: nothing was ever assigned to it");
  }
  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // in elements
  Shape shape_;
};

extern template class TensorOf<real>;
extern template class TensorOf<int32_t>;
extern template class TensorOf<Stream>;
using Tensor = TensorOf<real>;
using Tokens = TensorOf<int32_t>;
using Streams = TensorOf<Stream>;

/// An Error, "[op] what …", unless all tokens are below `end` and, if `no_negative`, none is negative. On a device it
/// goes by what the host put there.
void check_tokens(const char* op, const char* what, const Tokens& tokens, int64_t end, bool no_negative);

Tensor full(const Shape& shape, real value, Device device);
inline Tensor zeros(const Shape& shape, Device device) { return full(shape, 0, device); }
/// The one number of a tensor of one element. Waits for the device.
double item(const Tensor& x);
/// How many elements are NaN or infinite.
int64_t count_nonfinite(const Tensor& x);
/// dst[:, to : to + n] = src[:, from : from + n]
void copy_time(const Tensor& dst, int64_t to, const Tensor& src, int64_t from, int64_t n);
/// Copies rows [begin, begin + n) of axis 1: (B, T, …) → (B, n, …).
Tensor slice_time(const Tensor& x, int64_t begin, int64_t n);
/// Joins along axis 1; an undefined `a` gives b.
Tensor concat_time(const Tensor& a, const Tensor& b);

}  // namespace lem

/// Shapes are formatted where a message is, not where it might be: pass them to check() as they are.
template <>
struct fmt::formatter<lem::Shape> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const lem::Shape& shape, Context& context) const {
    return fmt::formatter<std::string_view>::format(shape.str(), context);
  }
};
