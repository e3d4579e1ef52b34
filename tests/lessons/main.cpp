// build/lessons: every version of every lesson with what it asks of memory, counted by the interpreter, what it takes
// on a GPU where there is one, and whether it agrees with the plain evaluation. Fails where a version is wrong, or asks
// for more or less than its comment says.
#include <cstdlib>

#include "tests/lesson_cases.h"
#include "tests/lessons/counts.h"

namespace lem::test {
namespace {

std::string text(dim3 d) {
  return d.z > 1   ? fmt::format("{}×{}×{}", d.x, d.y, d.z)
         : d.y > 1 ? fmt::format("{}×{}", d.x, d.y)
                   : fmt::format("{}", d.x);
}

std::string text(const std::vector<Shape>& launches) {
  std::string all;
  for (const Shape& s : launches)
    all += fmt::format("{}{} of {}", all.empty() ? "" : ", ", text(s.grid), text(s.block));
  return all;
}

bool agrees(const LessonCase& c, Device device, double* seconds = nullptr) {
  KernelCall call(device);
  c.run(call, seconds);
  const std::string wrong = call.finish();
  if (!wrong.empty()) fmt::print("{} {} on {}: {}\n", c.lesson, c.version, name(device), wrong);
  return wrong.empty();
}

/// What the comment of a version says: bytes of an element, and accesses of the thread that reads most.
struct Promise {
  double read, written, reads;
  bool kept(const LessonCase& c, const Counts& n) const {
    const double size = double(c.elements);
    return double(n.read) == read * size && double(n.written) == written * size && double(n.reads) == reads;
  }
};

struct Lesson {
  LessonCase (*counted)(int version);  // at a size that the interpreter runs in a moment
  LessonCase (*timed)(int version);    // at one that keeps a GPU busy
  Promise promises[kLessonVersions];   // at the size that is counted
};

constexpr double kRows = 64, kCols = 512, kNumbers = 65536, kT = 128, kN = 64, kD = 64;

const Lesson kLessons[] = {
    {[](int v) { return softmax_case(v, int64_t(kRows), int64_t(kCols)); },
     [](int v) { return softmax_case(v, 16384, 512); },
     {{12, 4, 3 * kCols}, {12, 4, 3 * kCols / 32}, {8, 4, 2 * kCols / 32}, {4, 4, kCols / 128}}},
    // The third leaves the sums of blocks of 1024 in memory, as floats, the fourth those of 4096, as doubles.
    {[](int v) { return sum_case(v, int64_t(kNumbers)); },
     [](int v) { return sum_case(v, 1 << 20); },
     {{4, 4 / kNumbers, kNumbers},
      {4, 4 / kNumbers, kNumbers / 256},
      {4 + 4.0 / 1024, 4.0 / 1024 + 4 / kNumbers, 4},
      {4 + 8.0 / 4096, 8.0 / 4096 + 4 / kNumbers, 16}}},
    // Written are mean and rstd, too.
    {[](int v) { return layer_norm_case(v, int64_t(kRows), int64_t(kCols)); },
     [](int v) { return layer_norm_case(v, 16384, 512); },
     {{20, 4 + 8 / kCols, 5 * kCols},
      {20, 4 + 8 / kCols, 5 * kCols / 256},
      {12, 4 + 8 / kCols, 3 * kCols / 32},
      {12, 4 + 8 / kCols, 3 * kCols / 128}}},
    {[](int v) { return expectation_case(v, int64_t(kT), int64_t(kN), int64_t(kD)); },
     [](int v) { return expectation_case(v, 4096, 512, 64); },
     {{12 * kN + 8, 4, 3 * kN + 2},
      {8 * kN + 16 * kN / kD, 4 + 4 * kN / kD, 2 * kN},
      {4 * kN + (8 * kN + 512) / kD, 4, kN + kN / 32 + 2},
      {12 * kN / 64 + 0.5, 4, 24 * kN / 32 + 2}}}};

bool count(const Lesson& lesson) {
  bool right = true;
  for (int version = 1; version <= kLessonVersions; ++version) {
    const LessonCase c = lesson.counted(version);
    start_counting();
    const bool agree = agrees(c, Device::simt);
    const Counts n = stop_counting();
    const bool kept = lesson.promises[version - 1].kept(c, n);
    const auto each = [&](uint64_t bytes) { return double(bytes) / double(c.elements); };
    fmt::print("{:<12} {:<18} {:>7}  {:<24} {:>8.2f} {:>8.2f} {:>8.2f} {:>8.2f} {:>8}  {}{}\n",
               version == 1 ? c.lesson : "", version == 1 ? c.size : "", version, text(n.launches), each(n.read),
               each(n.moved_read), each(n.written), each(n.moved_written), n.reads, agree ? "yes" : "NO",
               kept ? "" : ", but its comment counts otherwise");
    right = right && agree && kept;
  }
  return right;
}

bool time(const Lesson& lesson) {
  bool right = true;
  for (int version = 1; version <= kLessonVersions; ++version) {
    const LessonCase c = lesson.timed(version);
    double seconds = 0;
    const bool agree = agrees(c, Device::cuda, &seconds);
    fmt::print("{:<12} {:<24} {:>7} {:>10.3f}  {}\n", version == 1 ? c.lesson : "", version == 1 ? c.size : "", version,
               1e3 * seconds, agree ? "yes" : "NO");
    right = right && agree;
  }
  return right;
}

bool has_gpu() {
  for (Device device : devices())
    if (device == Device::cuda) return true;
  return false;
}

bool run() {
  bool right = true;
  fmt::print(
      "bytes of an element: what the threads ask for, and in sectors of 32 what that moves without a cache;\n"
      "reads: accesses of the thread that reads most\n\n");
  fmt::print("{:<12} {:<18} {:>7}  {:<24} {:>8} {:>8} {:>8} {:>8} {:>8}  {}\n", "lesson", "size", "version",
             "blocks of threads", "read", "moved", "written", "moved", "reads", "agrees");
  for (const Lesson& lesson : kLessons) right = count(lesson) && right;
  if (!has_gpu()) return right;
  fmt::print("\n{:<12} {:<24} {:>7} {:>10}  {}\n", "lesson", "size, on the GPU", "version", "ms", "agrees");
  for (const Lesson& lesson : kLessons) right = time(lesson) && right;
  return right;
}

}  // namespace
}  // namespace lem::test

int main() {
  setenv("SIMT_WORKERS", "1", 1);  // counts are not shared among threads
  setenv("SIMT_ORDER", "forward", 1);
  return lem::test::run() ? 0 : 1;
}
