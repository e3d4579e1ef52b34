#include "tensor/tensor.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "tensor/pool.h"

namespace lem {

// ---- Shape ----------------------------------------------------------------------------------------------------------

Shape::Shape(std::initializer_list<int64_t> sizes) : Shape(std::vector<int64_t>(sizes)) {}

Shape::Shape(const std::vector<int64_t>& sizes) : rank_(int(sizes.size())) {
  check(sizes.size() <= kMaxRank, "[shape] too many axes: got {}, expected at most {}", sizes.size(), int(kMaxRank));
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) {
    check(sizes[i] >= 0 && !__builtin_mul_overflow(n, sizes[i], &n),
          "[shape] sizes must not be negative, nor their product overflow: got axis {} = {}", i, sizes[i]);
    sizes_[i] = sizes[i];
  }
}

int64_t Shape::operator[](int i) const {
  const int axis = i < 0 ? i + rank_ : i;
  check(axis >= 0 && axis < rank_, "[shape] no axis {} in shape {}", i, *this);
  return sizes_[axis];
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= sizes_[i];
  return n;
}

bool Shape::operator==(const Shape& other) const {
  return rank_ == other.rank_ && std::equal(sizes_.begin(), sizes_.begin() + rank_, other.sizes_.begin());
}

std::string Shape::str() const {
  std::string text = "(";
  for (int i = 0; i < rank_; ++i) text += fmt::format("{}{}", i ? ", " : "", sizes_[i]);
  return text + ")";
}

// ---- Storage --------------------------------------------------------------------------------------------------------

Storage::Storage(Device device, size_t bytes)
    : device(device), bytes(bytes), data(static_cast<char*>(pool_allocate(device, bytes))) {}

Storage::~Storage() {
  if (!arena) pool_release(device, data, bytes);
}

void Storage::move_into(std::shared_ptr<Storage> into, size_t offset) {
  check(!arena && into->device == device && offset + bytes <= into->bytes, "[storage] does not fit into the arena");
  backend(device).copy(into->data + offset, 0, data, 0, bytes, 1);
  pool_release(device, data, bytes);
  data = into->data + offset;
  arena = std::move(into);
}

// ---- Tensor ---------------------------------------------------------------------------------------------------------

namespace {

template <class T>
size_t bytes_of(const Shape& shape) {
  int64_t bytes = 0;  // signed: leaves room for rounding up
  check(!__builtin_mul_overflow(shape.numel(), int64_t(sizeof(T)), &bytes),
        "[tensor] shape {} is larger than any memory", shape);
  return size_t(bytes);
}

}  // namespace

template <class T>
TensorOf<T>::TensorOf(const Shape& shape, Device device)
    : storage_(std::make_shared<Storage>(device, bytes_of<T>(shape))), shape_(shape) {}

template <class T>
TensorOf<T> TensorOf<T>::from(const std::vector<T>& values, const Shape& shape, Device device) {
  check(int64_t(values.size()) == shape.numel(), "[tensor] {} values do not fill shape {}", values.size(), shape);
  TensorOf t(shape, device);
  backend(device).upload(t.data(), values.data(), values.size() * sizeof(T));
  if constexpr (std::is_same_v<T, int32_t>) {
    if (const auto [least, most] = std::minmax_element(values.begin(), values.end()); least != values.end())
      t.storage_->least = *least, t.storage_->most = *most;
  }
  return t;
}

template <class T>
TensorOf<T> TensorOf<T>::reshape(const Shape& shape) const {
  check_defined();
  check(shape.numel() == numel(), "[reshape] element counts differ: got {} for {}", shape, shape_);
  TensorOf t = *this;
  t.shape_ = shape;
  return t;
}

template <class T>
TensorOf<T> TensorOf<T>::slice(int64_t begin, int64_t end) const {
  check(shape_.rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0),
        "[slice] rows [{}, {}) are not inside the leading dimension of {}", begin, end, shape_);
  std::vector<int64_t> sizes = shape_.vector();
  const int64_t row = sizes[0] ? numel() / sizes[0] : 0;
  sizes[0] = end - begin;
  TensorOf t = *this;
  t.offset_ += begin * row;
  t.shape_ = Shape(sizes);
  return t;
}

template <class T>
TensorOf<T> TensorOf<T>::clone() const {
  TensorOf t(shape_, device());
  t.copy_from(*this);
  return t;
}

template <class T>
TensorOf<T> TensorOf<T>::to(Device device) const {
  if (device == this->device()) return *this;
  return from(to_vector(), shape_, device);
}

template <class T>
void TensorOf<T>::copy_from(const TensorOf& src) const {
  check(src.shape() == shape_, "[copy] shapes differ: got {}, expected {}", src.shape(), shape_);
  const size_t bytes = size_t(numel()) * sizeof(T);
  if (src.device() == device())
    backend(device()).copy(data(), 0, src.data(), 0, bytes, 1);
  else
    backend(device()).upload(data(), src.to_vector().data(), bytes);
}

template <class T>
std::vector<T> TensorOf<T>::to_vector() const {
  std::vector<T> values(static_cast<size_t>(numel()));
  backend(device()).download(values.data(), data(), values.size() * sizeof(T));
  return values;
}

template class TensorOf<real>;
template class TensorOf<int32_t>;
template class TensorOf<Stream>;

// ---- helpers --------------------------------------------------------------------------------------------------------

void check_tokens(const char* op, const char* what, const Tokens& tokens, int64_t end, bool no_negative) {
  const auto good = [&](int64_t token) { return token < end && !(no_negative && token < 0); };
  const Storage& from_host = *tokens.storage();
  // On the CPU the numbers themselves are looked at: they may have been written there since.
  if (tokens.device() != Device::cpu &&
      (from_host.least > from_host.most || (good(from_host.least) && good(from_host.most))))
    return;
  const std::vector<int32_t> values = tokens.device() == Device::cpu ? std::vector<int32_t>() : tokens.to_vector();
  const int32_t* at = tokens.device() == Device::cpu ? tokens.data() : values.data();
  for (int64_t i = 0; i < tokens.numel(); ++i)
    check(good(at[i]), "[{}] {} {} at position {} is {} {}", op, what, at[i], i,
          no_negative ? "outside the vocabulary of" : "not below the number of classes,", end);
}

Tensor full(const Shape& shape, real value, Device device) {
  Tensor t(shape, device);
  on(device).fill(t.data(), value, t.numel());
  return t;
}

double item(const Tensor& x) {
  check(x.numel() == 1, "[item] needs a tensor of one element: got shape {}", x.shape());
  return x.to_vector()[0];
}

int64_t count_nonfinite(const Tensor& x) {
  Tokens count({1}, x.device());
  on(x.device()).count_nonfinite(count.data(), x.data(), x.numel());
  return count.to_vector()[0];
}

namespace {

Shape with_time(const Tensor& x, int64_t n) {
  check(x.defined() && x.shape().rank() >= 2, "[tensor] steps lie along axis 1: got shape {}{}", x.shape(),
        x.defined() ? "" : " of an undefined tensor");
  std::vector<int64_t> sizes = x.shape().vector();
  sizes.at(1) = n;
  return Shape(sizes);
}

}  // namespace

void copy_time(const Tensor& dst, int64_t to, const Tensor& src, int64_t from, int64_t n) {
  check(dst.shape().rank() >= 2 && src.shape().rank() >= 2 && with_time(dst, 0) == with_time(src, 0),
        "[copy_time] shapes differ beyond axis 1: got {} and {}", dst.shape(), src.shape());
  check(
      dst.device() == src.device() && n >= 0 && to >= 0 && from >= 0 && to + n <= dst.dim(1) && from + n <= src.dim(1),
      "[copy_time] {} steps from step {} of {} on {} do not fit from step {} into {} on {}", n, from, src.shape(),
      name(src.device()), to, dst.shape(), name(dst.device()));
  if (src.numel() == 0 || n == 0) return;
  const int64_t B = src.dim(0), step = src.numel() / (B * src.dim(1));
  const size_t bytes = size_t(step) * sizeof(real);
  backend(src.device())
      .copy(dst.data() + to * step, size_t(dst.dim(1)) * bytes, src.data() + from * step, size_t(src.dim(1)) * bytes,
            size_t(n) * bytes, size_t(B));
}

Tensor slice_time(const Tensor& x, int64_t begin, int64_t n) {
  check(x.shape().rank() >= 2 && 0 <= begin && 0 <= n && begin + n <= x.dim(1),
        "[slice_time] steps [{}, {}) are not inside axis 1 of {}", begin, begin + n, x.shape());
  Tensor y(with_time(x, n), x.device());
  copy_time(y, 0, x, begin, n);
  return y;
}

Tensor concat_time(const Tensor& a, const Tensor& b) {
  if (!a.defined()) return b;
  check(with_time(a, 0) == with_time(b, 0), "[concat_time] shapes differ beyond axis 1: got {} and {}", a.shape(),
        b.shape());
  Tensor y(with_time(a, a.dim(1) + b.dim(1)), a.device());
  copy_time(y, 0, a, 0, a.dim(1));
  copy_time(y, a.dim(1), b, 0, b.dim(1));
  return y;
}

}  // namespace lem
