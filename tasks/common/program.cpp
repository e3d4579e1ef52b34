#include "tasks/common/program.h"

#include <fcntl.h>
#include <omp.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>

#include "tensor/error.h"

namespace lem {
namespace {

std::string whole_file(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Calls visit(folder) for the group of each line of /proc/self/cgroup that `controller` governs, and for all groups
/// above it: each may set a limit of its own.
template <class Visit>
void each_cgroup(const std::string& root, const std::string& groups, const std::string& controller, Visit visit) {
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && ("," + controllers + ",").find("," + controller + ",") == std::string::npos) continue;
    const std::string mount = unified ? root : root + "/" + controller;
    for (std::string group = line.substr(second + 1);; group = group.substr(0, group.rfind('/'))) {
      visit(mount + (group == "/" ? "" : group), unified);
      if (group.empty() || group == "/") break;
    }
  }
}

int affinity_processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : std::numeric_limits<int>::max();
}

/// Threads that OpenMP gives when it is asked for n.
int given_threads(int n) {
  int given = 1;
#pragma omp parallel num_threads(n)
#pragma omp single
  given = omp_get_num_threads();
  return given;
}

volatile std::sig_atomic_t interrupts = 0, interrupt_signal = 0;

void on_interrupt(int signal) {
  const int code = errno;
  interrupts = interrupts + 1;
  interrupt_signal = signal;
  if (interrupts > 1) {  // the person is in a hurry; the last checkpoint is whole all the same
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  static constexpr char kText[] = "\nstopping as soon as nothing is lost; once more stops at once\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kText, sizeof kText - 1);
  errno = code;
}

}  // namespace

void open_standard_streams() {
  for (int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(descriptor, F_GETFD) == -1 && errno == EBADF)
      // The lowest free number is this one: those below it are open by now.
      if (::open("/dev/null", O_RDWR) != descriptor) std::_Exit(kFailed);
}

void bound_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  ::setenv("GOMP_SPINCOUNT", "5000", 1);  // some 20 µs: longer than most of our loops are apart
  char self[4096];                        // the program's own path, so that it keeps its name in ps and in gdb
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0) return;  // where that cannot be, all works as well, but for other programs
  self[n] = 0;
  ::execv(self, argv);
}

int cgroup_processors(const std::string& root, const std::string& groups) {
  int least = 0;
  each_cgroup(root, groups, "cpu", [&](const std::string& folder, bool unified) {
    std::string quota;
    double period = 0;
    if (unified) {
      std::ifstream(folder + "/cpu.max") >> quota >> period;  // "max 100000" or "150000 100000"
    } else {
      std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;  // "-1" or "150000"
      std::ifstream(folder + "/cpu.cfs_period_us") >> period;
    }
    const double microseconds = std::strtod(quota.c_str(), nullptr);
    if (!(microseconds > 0 && period > 0)) return;
    const int processors = int(std::min((microseconds + period - 1) / period, 1e6));
    least = least == 0 ? std::max(processors, 1) : std::min(least, std::max(processors, 1));
  });
  return least;
}

int use_threads(int64_t threads) {
  omp_set_dynamic(0);
  int n = int(std::min<int64_t>(threads, 1 << 20));
  if (n <= 0) {
    static const int asked = omp_get_max_threads();  // OMP_NUM_THREADS, before we change it
    n = std::min({asked, omp_get_num_procs(), affinity_processors()});
    if (const int share = cgroup_processors("/sys/fs/cgroup", whole_file("/proc/self/cgroup")); share > 0)
      n = std::min(n, share);
  }
  n = std::max(1, std::min(n, omp_get_thread_limit()));
  n = given_threads(n);  // also less where OMP_MAX_ACTIVE_LEVELS or the like forbid it
  omp_set_num_threads(n);
  return n;
}

std::string shell_word(const std::string& path) {
  const bool plain = std::all_of(path.begin(), path.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string("_./+:,@%-").find(c) != std::string::npos;
  });
  if (plain && !path.empty() && path[0] != '-') return path;
  std::string quoted = path[0] == '-' ? "./" : "";  // not a flag
  for (char c : path) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + quoted + "'";
}

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;  // a write to the disk is not broken into
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return interrupts > 0; }

int interrupted_code() { return 128 + int(interrupt_signal); }

int64_t available_memory() {
  int64_t least = std::numeric_limits<int64_t>::max();
  std::istringstream meminfo(whole_file("/proc/meminfo"));
  for (std::string key; meminfo >> key;) {
    int64_t kib = 0;
    meminfo >> kib;
    if (key == "MemAvailable:") least = std::min(least, kib << 10);
    meminfo.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  rlimit limit{};
  int64_t pages = 0;
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      std::ifstream("/proc/self/statm") >> pages)
    least = std::min(least, std::max<int64_t>(0, int64_t(limit.rlim_cur) - pages * sysconf(_SC_PAGESIZE)));
  each_cgroup("/sys/fs/cgroup", whole_file("/proc/self/cgroup"), "memory",
              [&](const std::string& folder, bool unified) {
                int64_t most = 0, used = 0;  // "max" is no number and no limit
                if (std::ifstream(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes")) >> most &&
                    std::ifstream(folder + (unified ? "/memory.current" : "/memory.usage_in_bytes")) >> used)
                  least = std::min(least, std::max<int64_t>(0, most - used));
              });
  return least;
}

}  // namespace lem
