#include "cuda/simt/launch.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "cuda/simt/block.h"
#include "cuda/simt/order.h"
#include "cuda/simt/tsan.h"
#include "tensor/error.h"

namespace simt {

// --- what a GPU allows (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability")
// ----------------

namespace {
constexpr Architecture kArchitectures[] = {
    {75, 48 << 10, 64 << 10},  {80, 48 << 10, 163 << 10},  {86, 48 << 10, 99 << 10},  {89, 48 << 10, 99 << 10},
    {90, 48 << 10, 227 << 10}, {100, 48 << 10, 227 << 10}, {120, 48 << 10, 99 << 10},
};

int chosen_architecture = 0;

const Architecture& find_architecture(int version) {
  for (const Architecture& a : kArchitectures)
    if (a.version == version) return a;
  lem::fail("[simt] SIMT_ARCH: got {}, expected one of 75, 80, 86, 89, 90, 100, 120", version);
}

int environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoi(text) : otherwise;
}

std::map<const void*, size_t>& opt_ins() {
  static std::map<const void*, size_t> bytes;
  return bytes;
}

std::string text(dim3 d) { return fmt::format("({}, {}, {})", d.x, d.y, d.z); }
}  // namespace

const Architecture& architecture() {
  static const int from_environment = environment("SIMT_ARCH", 75);
  return find_architecture(chosen_architecture ? chosen_architecture : from_environment);
}

void set_architecture(int version) {
  if (version) find_architecture(version);
  chosen_architecture = version;
}

void allow_shared(const void* kernel, size_t bytes) { opt_ins()[kernel] = bytes; }

void check_configuration(const Launch& l, const void* kernel) {
  const auto refuse = [&](const std::string& what) {
    lem::fail("[simt] impossible launch of {}, at {}:{}: {}", l.kernel, l.site.file_name(), l.site.line(), what);
  };
  const dim3 b = l.block, g = l.grid;
  const uint64_t threads = uint64_t(b.x) * b.y * b.z;
  if (threads == 0 || g.x == 0 || g.y == 0 || g.z == 0)
    refuse(fmt::format(
        "got grid {} and block {}, expected every dimension to be at least 1; skip the launch when there is "
        "nothing to do",
        text(g), text(b)));
  if (threads > 1024) refuse(fmt::format("got {} threads in block {}, expected at most 1024", threads, text(b)));
  if (b.z > 64) refuse(fmt::format("got block {}, expected at most (1024, 1024, 64)", text(b)));
  if (g.x > 0x7FFFFFFFu || g.y > 65535 || g.z > 65535)
    refuse(fmt::format("got grid {}, expected at most (2147483647, 65535, 65535)", text(g)));
  const Architecture& a = architecture();
  const auto opt_in = opt_ins().find(kernel);
  const size_t limit = opt_in == opt_ins().end() ? a.shared_default : std::max(a.shared_default, opt_in->second);
  if (l.shared_bytes > limit)
    refuse(fmt::format(
        "got {} bytes of dynamic shared memory, expected at most {}{}", l.shared_bytes, limit,
        l.shared_bytes <= a.shared_opt_in
            ? "; allow more by cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)"
            : fmt::format(" (sm_{} has {} at the very most)", a.version, a.shared_opt_in)));
}

int workers() {
  static const int n =
      std::max(1, environment("SIMT_WORKERS", 0) > 0 ? environment("SIMT_WORKERS", 0) : omp_get_max_threads());
  return SIMT_WITH_TSAN ? 1 : n;
}

// --- all blocks of a launch
// -------------------------------------------------------------------------------------------

namespace {

// Each CPU thread keeps its Block, with all the stacks, until the program ends.
Block& block_of_this_worker() {
  static thread_local Block* block = new Block;
  return *block;
}

void run_blocks(Launch& launch, std::atomic<uint64_t>& next, uint64_t chunk) {
  Block& block = block_of_this_worker();
  const uint64_t n = launch.blocks(), salt = mix(launch.number, 0);
  while (!launch.failed.load(std::memory_order_relaxed)) {
    const uint64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
    if (begin >= n) return;
    for (uint64_t i = begin; i < std::min(n, begin + chunk) && !launch.failed; ++i)
      block.run(launch, order().at(i, n, salt));
  }
}

}  // namespace

void run(Launch& launch) {
  static std::atomic<uint64_t> count{0};
  launch.number = ++count;
  std::atomic<uint64_t> next{0};
  const uint64_t n = launch.blocks();
  const int team = int(std::min<uint64_t>(uint64_t(workers()), n));
  // A few chunks for each worker: blocks may take different times, and small ones should not queue for the counter.
  const uint64_t chunk = std::clamp<uint64_t>(n / uint64_t(16 * team), 1, 64);
  if (team == 1 || n * launch.threads() < 512) {
    run_blocks(launch, next, chunk);
  } else {
#pragma omp parallel num_threads(team)
    run_blocks(launch, next, chunk);
  }
  if (const std::string race = tsan::take_report(); !race.empty() && launch.error.empty())
    launch.error = fmt::format("[simt] data race in {}: {} (launched at {}:{})", launch.kernel, race,
                               launch.site.file_name(), launch.site.line());
  if (!launch.error.empty()) throw lem::Error(launch.error);
}

}  // namespace simt
