// Each bug of planted.cu must be named: what it is, in which kernel, block and thread, and at the very line of its BUG
// comment.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "tests/catch.h"

namespace {

#if defined(SIMT_ASAN)
constexpr bool kAsan = true, kTsan = false;
#elif defined(SIMT_TSAN)
constexpr bool kAsan = false, kTsan = true;
#else
constexpr bool kAsan = false, kTsan = false;
#endif

constexpr const char* kSource = "tests/simt/planted.cu";

struct Result {
  bool failed;
  std::string text;
};

// In a process of its own: some bugs end it. The sanitizer's own report goes nowhere, ours is on standard output or
// error.
Result run(const std::string& bug, const std::string& environment) {
  std::array<char, 4096> buffer;
  const ssize_t n = readlink("/proc/self/exe", buffer.data(), buffer.size());
  const std::string self(buffer.data(), n > 0 ? size_t(n) : 0);
  const std::string planted = self.substr(0, self.rfind('/')) + "/planted";
  Result result;
  FILE* pipe = popen(("{ " + environment + " " + planted + " " + bug + "; } 2>&1").c_str(), "r");
  REQUIRE(pipe);
  while (std::fgets(buffer.data(), int(buffer.size()), pipe)) result.text += buffer.data();
  result.failed = pclose(pipe) != 0;
  return result;
}

// "tests/simt/planted.cu:41" for each line with the comment `BUG name`.
std::vector<std::string> places(const std::string& bug) {
  std::ifstream source(kSource);
  REQUIRE(source);
  std::vector<std::string> found;
  std::string line;
  for (int n = 1; std::getline(source, line); ++n) {
    const size_t at = line.find("// BUG " + bug);
    if (at != std::string::npos && at + 7 + bug.size() == line.size())
      found.push_back(std::string(kSource).append(":").append(std::to_string(n)));
  }
  REQUIRE(!found.empty());
  return found;
}

struct Bug {
  const char* name;
  std::vector<const char*> words;  // all of them must be there
};

void demand_named(const Bug& bug, const std::string& environment) {
  const Result result = run(bug.name, environment);
  INFO(bug.name << ", " << environment << ":\n" << result.text);
  REQUIRE(result.failed);
  for (const char* word : bug.words) REQUIRE_THAT(result.text, Catch::Contains(word));
  for (const std::string& place : places(bug.name)) REQUIRE_THAT(result.text, Catch::Contains(place));
}

constexpr const char* kChosen = "block (1, 0, 0) thread (3, 0, 0)";

// Seen in every build.
const std::vector<Bug> kAlways = {
    {"global_read",
     {"out of bounds on global memory in global_read_kernel", kChosen,
      "0 bytes beyond the end of the 512-byte allocation"}},
    {"global_write", {"out of bounds on global memory in global_write_kernel", kChosen}},
    {"global_far", {"out of bounds on global memory in global_far_kernel", kChosen, "256 bytes beyond the end"}},
    {"host_argument", {"host pointer in a launch of copy_kernel", "argument 2"}},
    {"device_pointer", {"device pointer dereferenced on the host", "12 bytes into the 512-byte allocation"}},
    {"null_pointer", {"bad address in null_pointer_kernel", kChosen, "null pointer"}},
    {"use_after_free", {"out of bounds on global memory in freed_kernel", kChosen, "freed since"}},
    {"double_free", {"[cudaFree]", "freed since"}},
    {"copy_too_much", {"[cudaMemcpy] source", "got 516 bytes", "512-byte allocation"}},
    {"copy_wrong_way", {"[cudaMemcpy] source", "expected device memory"}},
    {"division", {"integer division by zero in division_kernel", kChosen}},
    {"trap", {"trap in trap_kernel", kChosen}},
    {"barrier_exit", {"barrier missed in barrier_exit_kernel", kChosen}},
    {"barrier_divergence", {"barrier divergence in barrier_divergence_kernel", "block (1, 0, 0) thread (0, 0, 0)"}},
    {"shuffle_exited",
     {"shuffle from a lane that is not there in shuffle_exited_kernel", "block (1, 0, 0) thread (34, 0, 0)",
      "reads lane 3", "returned from the kernel"}},
    {"shuffle_beyond",
     {"shuffle from a lane that is not there in shuffle_beyond_kernel", "block (0, 0, 0) thread (4, 0, 0)",
      "reads lane 20", "no such thread"}},
    {"shuffle_unnamed",
     {"shuffle from a lane that is not there in shuffle_unnamed_kernel", "the mask does not name it"}},
    {"mask_without_caller", {"warp mask without the caller in mask_without_caller_kernel", kChosen}},
    {"warp_divergence", {"warp divergence in warp_divergence_kernel", "__shfl_xor_sync"}},
    {"deadlock", {"deadlock in deadlock_kernel", "wait in __shfl_xor_sync", "32 of 64 threads wait in __syncthreads"}},
    {"spinning", {"deadlock in spinning_kernel", "block (0, 0, 0) thread (0, 0, 0)", "repeat atomic operations"}},
    {"too_many_threads",
     {"impossible launch of any_kernel", "got 1056 threads in block (32, 33, 1), expected at most 1024"}},
    {"too_much_shared",
     {"impossible launch of any_kernel", "got 102400 bytes of dynamic shared memory, expected at most 49152", "sm_75"}},
    {"not_opted_in", {"impossible launch of any_kernel", "cudaFuncSetAttribute"}},
    {"empty_grid", {"impossible launch of any_kernel", "got grid (0, 1, 1)"}},
    {"static_too_large",
     {"too much static shared memory in static_too_large_kernel", "49156 bytes, expected at most 49152"}},
    {"missing_synchronisation", {"missing synchronisation", "still has to write", "cudaStreamSynchronize"}},
    {"early_reuse", {"missing synchronisation", "still has to read"}},
};

const std::vector<Bug> kWithAsan = {
    {"static_shared",
     {"out of bounds on shared memory in static_shared_kernel", kChosen, "0 bytes beyond the end of tile (264 bytes"}},
    {"dynamic_shared",
     {"out of bounds on shared memory in dynamic_shared_kernel", kChosen,
      "beyond the end of dynamic shared memory (256 bytes"}},
    {"local_array", {"out of bounds on a local array in local_array_kernel", kChosen}},
    {"host_pointer", {"host pointer dereferenced in a kernel in host_pointer_kernel", kChosen}},
    {"unwritten_shared",
     {"shared memory read before it is written in unwritten_kernel", kChosen, "20 bytes into s (256 bytes"}},
};

const std::vector<Bug> kWithTsan = {
    {"race_threads",
     {"data race in race_threads_kernel", "block (0, 0, 0) thread (0, 0, 0)", "block (0, 0, 0) thread (1, 0, 0)"}},
    {"race_blocks", {"data race in race_blocks_kernel", "block (0, 0, 0) thread (3, 0, 0)", kChosen}},
    {"missing_syncwarp",
     {"data race in missing_syncwarp_kernel", "block (0, 0, 0) thread (0, 0, 0)", "block (0, 0, 0) thread (1, 0, 0)"}},
    {"missing_fence",
     {"data race in missing_fence_kernel", "block (0, 0, 0) thread (0, 0, 0)", "block (1, 0, 0) thread (0, 0, 0)"}},
    {"race_streams", {"data race in read_kernel", "write_kernel block (0, 0, 0) thread (0, 0, 0) writes"}},
};

}  // namespace

TEST_CASE("every planted bug is named, in every build", "[simt][planted]") {
  for (const Bug& bug : kAlways) demand_named(bug, "SIMT_SPIN=1 SIMT_WORKERS=1");
}

TEST_CASE("what only the sanitizers' builds can see", "[simt][planted]") {
  if (kAsan)
    for (const Bug& bug : kWithAsan) demand_named(bug, "SIMT_WORKERS=1");
  if (kTsan)
    for (const Bug& bug : kWithTsan) demand_named(bug, "SIMT_WORKERS=1");
}

TEST_CASE("several workers and other orders name bugs, too", "[simt][planted]") {
  for (const char* order : {"forward", "reverse", "random:5"}) {
    const std::string environment = std::string("SIMT_WORKERS=3 SIMT_ORDER=") + order;
    for (const Bug& bug :
         {Bug{"global_far", {"out of bounds on global memory", kChosen}}, Bug{"trap", {"trap in trap_kernel", kChosen}},
          Bug{"barrier_exit", {"barrier missed", kChosen}}, Bug{"deadlock", {"deadlock in deadlock_kernel"}}})
      demand_named(bug, environment);
  }
}

TEST_CASE("without a sanitizer, unwritten shared memory still poisons the result", "[simt][planted]") {
  if (kAsan || kTsan) return;
  const Result result = run("unwritten_shared", "");
  REQUIRE_THAT(result.text, Catch::Contains("thread 3 has -nan") || Catch::Contains("thread 3 has nan"));
}

TEST_CASE("wrong settings are named", "[simt][planted]") {
  const auto text = [](const char* environment) { return run("trap", environment).text; };
  REQUIRE_THAT(text("SIMT_ORDER=up"), Catch::Contains("SIMT_ORDER: got \"up\""));
  REQUIRE_THAT(text("SIMT_ARCH=61"), Catch::Contains("SIMT_ARCH: got 61, expected one of 75"));
  REQUIRE_THAT(text("SIMT_BREAK=trap_kernel"),
               Catch::Contains("SIMT_BREAK: got \"trap_kernel\", expected kernel:x,y,z:x,y,z"));
}
