#include "cuda/simt/tsan.h"

#if SIMT_WITH_TSAN

#include <fmt/format.h>
#include <sys/mman.h>

#include "cuda/simt/faults.h"
#include "tensor/error.h"

extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
int __tsan_get_report_mop(void* report, unsigned long i, int* tid, void** address, int* size, int* write, int* atomic, void** trace,
                          unsigned long trace_size);
int __tsan_get_report_data(void* report, const char** description, int* count, int* stacks, int* mops, int* locations, int* mutexes,
                           int* threads, int* unique_tids, void** sleep_trace, unsigned long trace_size);
int __tsan_get_report_thread(void* report, unsigned long i, int* tid, int* os_id, int* running, const char** name, int* parent,
                             void** trace, unsigned long trace_size);
}

namespace simt::tsan {

namespace {
constexpr size_t kTokens = 1 << 20;
char* tokens = nullptr;
size_t tokens_used = 0;
std::string first_report;
}  // namespace

void acquire(void* token) { __tsan_acquire(token); }
void release(void* token) { __tsan_release(token); }

void* fresh_token() {
  if (!tokens || tokens_used + 8 > kTokens) recycle();
  return tokens + (tokens_used += 8) - 8;
}

void recycle() {
  // Mapping the pages again makes the sanitizer forget what was released there.
  if (tokens && tokens_used < kTokens / 2) return;
  const int fixed = tokens ? MAP_FIXED : 0;
  void* p = mmap(tokens, kTokens, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
  lem::check(p != MAP_FAILED, "[simt] no memory for the thread sanitizer's tokens: got none, expected {} bytes", kTokens);
  tokens = static_cast<char*>(p);
  tokens_used = 0;
}

void* create_context() { return __tsan_create_fiber(0); }

void name_fiber(const Fiber& fiber, const std::string& name) { __tsan_set_fiber_name(fiber.sanitizer_handle(), name.c_str()); }

Context::Context(void* context) : before_(__tsan_get_current_fiber()) { __tsan_switch_to_fiber(context, 1); }
Context::~Context() { __tsan_switch_to_fiber(before_, 1); }

std::string take_report() { return std::exchange(first_report, {}); }

namespace {

std::string thread_name(void* report, int threads, int tid) {
  for (int i = 0; i < threads; ++i) {
    int id = 0, os_id = 0, running = 0, parent = 0;
    const char* name = nullptr;
    void* trace[1];
    __tsan_get_report_thread(report, static_cast<unsigned long>(i), &id, &os_id, &running, &name, &parent, trace, 1);
    if (id == tid && name) return name;
  }
  return "the host";
}

}  // namespace
}  // namespace simt::tsan

// The sanitizer calls this for each report, before it prints it.
extern "C" void __tsan_on_report(void* report) {
  using namespace simt;
  if (!tsan::first_report.empty()) return;
  const char* description = nullptr;
  int count, stacks, mops = 0, locations, mutexes, threads = 0, tids;
  void* trace[8];
  __tsan_get_report_data(report, &description, &count, &stacks, &mops, &locations, &mutexes, &threads, &tids, trace, 8);
  std::string text;
  for (int i = 0; i < mops; ++i) {
    int tid = 0, size = 0, write = 0, atomic = 0;
    void* address = nullptr;
    for (void*& t : trace) t = nullptr;
    __tsan_get_report_mop(report, static_cast<unsigned long>(i), &tid, &address, &size, &write, &atomic, trace, 8);
    text += fmt::format("{}{} {}{} {} bytes at {} at {}", i ? ", and before that, with nothing that orders the two, " : "",
                        tsan::thread_name(report, threads, tid), write ? "writes" : "reads", atomic ? " (atomically)" : "", size,
                        address, source_of(trace[0]));
  }
  tsan::first_report = text.empty() ? "reported above" : text;
}

#endif
