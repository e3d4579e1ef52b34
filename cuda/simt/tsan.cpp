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
int __tsan_get_report_mop(void* report, unsigned long i, int* tid, void** address, int* size, int* write, int* atomic,
                          void** trace, unsigned long trace_size);
int __tsan_get_report_data(void* report, const char** description, int* count, int* stacks, int* mops, int* locations,
                           int* mutexes, int* threads, int* unique_tids, void** sleep_trace, unsigned long trace_size);
int __tsan_get_report_thread(void* report, unsigned long i, int* tid, int* os_id, int* running, const char** name,
                             int* parent, void** trace, unsigned long trace_size);
}

namespace simt::tsan {

namespace {
constexpr size_t kTokens = 1 << 20;
char* tokens = nullptr;
size_t tokens_used = 0;

// The first report, as plain data: it is made in the middle of the sanitizer's own work, where nothing may be
// allocated.
struct Access {
  int write, atomic, size;
  void *address, *code;
  char thread[64];
};
struct Report {
  int accesses;
  Access access[4];
} report = {};
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
  lem::check(p != MAP_FAILED, "[simt] no memory for the thread sanitizer's tokens: got none, expected {} bytes",
             kTokens);
  tokens = static_cast<char*>(p);
  tokens_used = 0;
}

void* create_context() { return __tsan_create_fiber(0); }

void name_fiber(const Fiber& fiber, const std::string& name) {
  __tsan_set_fiber_name(fiber.sanitizer_handle(), name.c_str());
}

Context::Context(void* context) : before_(__tsan_get_current_fiber()) { __tsan_switch_to_fiber(context, 1); }
Context::~Context() { __tsan_switch_to_fiber(before_, 1); }

Neutral::Neutral(const Fiber& scheduler) : token_(fresh_token()) {
  release(token_);
  context_ = std::make_unique<Context>(scheduler.sanitizer_handle());
  acquire(token_);
}

Neutral::~Neutral() {
  release(token_);
  context_.reset();
  acquire(token_);
}

std::string take_report() {
  std::string text;
  for (int i = 0; i < report.accesses; ++i) {
    const Access& a = report.access[i];
    text += fmt::format(
        "{}{} {}{} {} bytes at {} at {}", i ? ", and before that, with nothing that orders the two, " : "", a.thread,
        a.write ? "writes" : "reads", a.atomic ? " (atomically)" : "", a.size, a.address, source_of(a.code));
  }
  report.accesses = 0;
  return text;
}

namespace {

void copy_name(char (&out)[64], void* sanitizers_report, int threads, int tid) {
  const char* name = "the host";
  for (int i = 0; i < threads; ++i) {
    int id = 0, os_id = 0, running = 0, parent = 0;
    const char* found = nullptr;
    void* trace[1];
    __tsan_get_report_thread(sanitizers_report, static_cast<unsigned long>(i), &id, &os_id, &running, &found, &parent,
                             trace, 1);
    if (id == tid && found) name = found;
  }
  size_t n = 0;
  for (; n + 1 < sizeof out && name[n]; ++n) out[n] = name[n];
  out[n] = 0;
}

}  // namespace
}  // namespace simt::tsan

// The sanitizer calls this for each report, before it prints it.
extern "C" void __tsan_on_report(void* sanitizers_report) {
  using namespace simt::tsan;
  if (report.accesses) return;
  const char* description = nullptr;
  int count, stacks, mops = 0, locations, mutexes, threads = 0, tids;
  void* trace[8];
  __tsan_get_report_data(sanitizers_report, &description, &count, &stacks, &mops, &locations, &mutexes, &threads, &tids,
                         trace, 8);
  for (int i = 0; i < mops && i < 4; ++i) {
    Access& a = report.access[i];
    int tid = 0;
    void* code[8] = {};
    __tsan_get_report_mop(sanitizers_report, static_cast<unsigned long>(i), &tid, &a.address, &a.size, &a.write,
                          &a.atomic, code, 8);
    a.code = code[0];
    copy_name(a.thread, sanitizers_report, threads, tid);
    report.accesses = i + 1;
  }
}

#endif
