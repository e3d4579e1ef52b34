#include "tests/gradient_check.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace lem::test {

// ---- finite differences
//
// D(h) = (f(h) − f(−h)) / 2h = f' + c₂ h² + c₄ h⁴ + …; combining D(h) and D(h/2) removes one power after the other
// (Richardson): T[k][m] = (4^m T[k][m−1] − T[k−1][m−1]) / (4^m − 1). Small m suffers from the powers that are left,
// small h from rounding, ε |f| / h. Neighbours in the tableau tell how much, and the entry that agrees best is taken
// (Ridders 1982). A plain difference in double reaches 1e-10 relative at best and 1e-5 at a badly chosen step; this
// reaches 1e-11 or so without choosing.

double derivative_at_zero(const std::function<double(double)>& f, double step) {
  constexpr int kLevels = 9;
  double previous[kLevels], current[kLevels];
  double best = std::numeric_limits<double>::quiet_NaN(), best_error = std::numeric_limits<double>::infinity();
  for (int k = 0; k < kLevels; ++k, step /= 2) {
    current[0] = (f(step) - f(-step)) / (2 * step);
    double power = 1;
    for (int m = 1; m <= k; ++m) {
      power *= 4;
      current[m] = (power * current[m - 1] - previous[m - 1]) / (power - 1);
      const double error = std::max(std::abs(current[m] - current[m - 1]), std::abs(current[m] - previous[m - 1]));
      if (error <= best_error) best = current[m], best_error = error;
    }
    if (best_error <= 1e-13 * std::abs(best)) break;
    std::copy(current, current + k + 1, previous);
  }
  return best;
}

namespace {

constexpr double kTolerance = 1e-7;
constexpr int kDirections = 3;
constexpr int64_t kAllElements = 24;  // larger arguments: this many of their elements

std::vector<real> to_reals(const std::vector<double>& x) { return {x.begin(), x.end()}; }

double norm(const std::vector<real>& x) {
  double sum = 0;
  for (real v : x) sum += double(v) * double(v);
  return std::sqrt(sum);
}

/// Leaves NaN in the buffers that the pool hands out next: who reads what nobody wrote gets it.
void poison_pool(Device device) {
  std::vector<Tensor> buffers;
  for (int64_t bytes = 64; bytes <= 65536; bytes += bytes < 4096 ? bytes : 4096)
    for (int copies = 0; copies < 6; ++copies)
      buffers.push_back(full({bytes / int64_t(sizeof(real))}, std::numeric_limits<real>::quiet_NaN(), device));
}

/// One entry at one point, with a cotangent: everything that is differentiated.
struct Problem {
  const OpCase& c;
  Device device;
  std::vector<Tensor> inputs;
  Tensor cotangent;
  double magnitude = 0;  // Σ |cotangent y|: what rounding errors are relative to

  Problem(const OpCase& c, Device device) : c(c), device(device), inputs(make_inputs(c, device)) {
    const std::vector<real> y = forward(inputs, cotangent_shape);
    std::vector<double> w(y.size());
    for (size_t i = 0; i < w.size(); ++i) {
      w[i] = Stream{51, 52}.normal(i);
      magnitude += std::abs(w[i] * double(y[i]));
    }
    cotangent = Tensor::from(to_reals(w), cotangent_shape, device);
    weights = std::move(w);
  }

  std::vector<real> forward(const std::vector<Tensor>& values, Shape& shape) const {
    const NoGrad none;
    const Variable y = c.apply(Arguments(values.begin(), values.end()));
    shape = y.shape();
    return y.value().to_vector();
  }

  /// Σ cotangent ⊙ y with argument `which` moved by t along `direction`.
  double moved(size_t which, const std::vector<double>& direction, double t) const {
    std::vector<Tensor> values = inputs;
    std::vector<real> x = inputs[which].to_vector();
    for (size_t i = 0; i < x.size(); ++i) x[i] = real(double(x[i]) + t * direction[i]);
    values[which] = Tensor::from(x, inputs[which].shape(), device);
    Shape shape;
    const std::vector<real> y = forward(values, shape);
    long double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += static_cast<long double>(weights[i]) * y[i];
    return double(sum);
  }

  /// The leaves after backward; those with want[i] false are constants.
  Arguments backward(const Wrap& wrap, const std::vector<bool>& want = {}) const {
    tape().clear();
    poison_pool(device);
    Arguments leaves, arguments;
    for (size_t i = 0; i < inputs.size(); ++i) {
      leaves.push_back(want.empty() || want[i] ? Variable::leaf(inputs[i]) : Variable(inputs[i]));
      arguments.push_back(wrap ? wrap(leaves[i], i) : leaves[i]);
    }
    run_backward(arguments);
    return leaves;
  }
  void run_backward(const Arguments& arguments) const { lem::backward(weighted_sum(c.apply(arguments), cotangent)); }

 private:
  Shape cotangent_shape;
  std::vector<double> weights;
};

/// Compares got with expected where nothing of the size of 1e-7 of `scale` may differ.
std::string compare(const Problem& p, const std::string& what, double got, double expected, double scale) {
  const double tolerance = kTolerance * scale + 1e-12 * p.magnitude;
  if (std::abs(got - expected) <= tolerance && std::isfinite(expected)) return "";
  return fmt::format("{}: {}: got {:.12g}, expected {:.12g}, tolerance {:.2g}", p.c.label(), what, got, expected,
                     tolerance);
}

std::string compare_directions(const Problem& p, size_t which, const std::vector<real>& grad) {
  double got[kDirections], expected[kDirections], scale = 0;
  for (int k = 0; k < kDirections; ++k) {
    std::vector<double> direction(grad.size());
    for (size_t i = 0; i < direction.size(); ++i)
      direction[i] = Stream{53, uint64_t(k)}.bits(i) & 1 ? 1 : -1;  // so that gradients of any element weigh the same
    got[k] = 0;
    for (size_t i = 0; i < grad.size(); ++i) got[k] += direction[i] * double(grad[i]);
    expected[k] = derivative_at_zero([&](double t) { return p.moved(which, direction, t); }, p.c.step);
    scale = std::max(scale, std::abs(expected[k]));
  }
  for (int k = 0; k < kDirections; ++k) {
    const std::string what = fmt::format("gradient of {} along direction {}", p.c.inputs[which].name, k);
    if (std::string wrong = compare(p, what, got[k], expected[k], scale); !wrong.empty()) return wrong;
  }
  return "";
}

std::string compare_elements(const Problem& p, size_t which, const std::vector<real>& grad) {
  const int64_t n = int64_t(grad.size()), count = std::min(n, kAllElements);
  std::vector<int64_t> at(static_cast<size_t>(count));
  std::vector<double> expected(at.size());
  double scale = 0;
  for (size_t k = 0; k < at.size(); ++k) {
    // all of a small argument; first, last and some between of a large one
    at[k] = n <= kAllElements ? int64_t(k) : k == 0 ? 0 : k == 1 ? n - 1 : int64_t(Stream{54, 0}.bits(k) % uint64_t(n));
    std::vector<double> direction(grad.size());
    direction[size_t(at[k])] = 1;
    expected[k] = derivative_at_zero([&](double t) { return p.moved(which, direction, t); }, p.c.step);
    scale = std::max(scale, std::abs(expected[k]));
  }
  for (size_t k = 0; k < at.size(); ++k) {
    const std::string what = fmt::format("gradient of {}[{}]", p.c.inputs[which].name, at[k]);
    if (std::string wrong = compare(p, what, double(grad[size_t(at[k])]), expected[k], scale); !wrong.empty())
      return wrong;
  }
  return "";
}

/// Why this gradient cannot be used at all, or nothing.
std::string unusable(const Problem& p, size_t which, const Variable& leaf) {
  const std::string about = fmt::format("{}: gradient of {}", p.c.label(), p.c.inputs[which].name);
  if (!leaf.slot()->made()) return about + " was never made";
  if (leaf.grad().shape() != leaf.shape()) return about + " has shape " + leaf.grad().shape().str();
  if (count_nonfinite(leaf.grad()) > 0) return about + " is not finite";
  return "";
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const std::vector<real> x = a.to_vector(), y = b.to_vector();
  return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(real)) == 0);
}

}  // namespace

std::string check_gradients(const OpCase& c, Device device, const Wrap& wrap) {
  const Problem p(c, device);
  const Arguments leaves = p.backward(wrap);
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (std::string wrong = unusable(p, i, leaves[i]); !wrong.empty()) return wrong;
    if (!kDouble) continue;
    const std::vector<real> grad = leaves[i].grad().to_vector();
    if (std::string wrong = compare_directions(p, i, grad); !wrong.empty()) return wrong;
    if (std::string wrong = compare_elements(p, i, grad); !wrong.empty()) return wrong;
  }
  return "";
}

std::string check_conduct(const OpCase& c, Device device) {
  const Problem p(c, device);
  const Arguments first = p.backward({}), second = p.backward({});
  tape().detect_anomaly = true;
  const Arguments watched = p.backward({});
  tape().detect_anomaly = false;
  {
    const NoGrad none;
    const Variable y = c.apply(Arguments(p.inputs.begin(), p.inputs.end()));
    if (y.needs_grad() || tape().size() > 0) return c.label() + ": records under NoGrad";
  }
  for (size_t i = 0; i < first.size(); ++i) {
    const std::string about = fmt::format("{}: gradient of {}", c.label(), c.inputs[i].name);
    if (!same_bits(first[i].grad(), second[i].grad())) return about + " has other bits in a second run";
    if (!same_bits(first[i].grad(), watched[i].grad())) return about + " has other bits when anomalies are looked for";

    std::vector<bool> only(first.size(), false);
    only[i] = true;
    if (!same_bits(first[i].grad(), p.backward({}, only)[i].grad())) return about + " differs when it is the only one";
  }

  // Backward once more on top of a gradient that is there, as parameters see it in a second segment.
  std::vector<Tensor> starts;
  Arguments leaves;
  for (const Tensor& x : p.inputs) {
    std::vector<real> start(static_cast<size_t>(x.numel()));
    for (size_t i = 0; i < start.size(); ++i) start[i] = real(Stream{55, starts.size()}.normal(i));
    starts.push_back(Tensor::from(start, x.shape(), device));
    leaves.emplace_back(x, std::make_shared<Gradient>(starts.back().clone()));
  }
  p.run_backward(leaves);
  for (size_t i = 0; i < leaves.size(); ++i) {
    const std::vector<real> start = starts[i].to_vector(), own = first[i].grad().to_vector();
    const std::vector<real> both = leaves[i].grad().to_vector();
    const double scale = norm(start) + norm(own), tolerance = (kDouble ? 1e-13 : 1e-5) * scale;
    for (size_t j = 0; j < both.size(); ++j) {
      const double expected = double(start[j]) + double(own[j]);
      if (!(std::abs(double(both[j]) - expected) <= tolerance))
        return fmt::format(
            "{}: gradient of {}[{}] on top of an earlier one: got {:.9g}, expected {:.9g}, tolerance "
            "{:.2g}",
            c.label(), c.inputs[i].name, j, both[j], expected, tolerance);
    }
  }
  return "";
}

}  // namespace lem::test
