// What every program here does alike, however it is started: threads, standard streams, signals, exit codes. The
// promises are written down in docs/architecture.md.
#pragma once

#include <cstdint>
#include <string>

namespace lem {

inline constexpr const char* kVersion = "0.1.0";

/// How a program ends. After a signal: 128 + its number, 130 for Ctrl-C and 143 for SIGTERM.
inline constexpr int kFailed = 1;   // something went wrong at work
inline constexpr int kMisused = 2;  // the command line or a config file asks for what cannot be; nothing was begun

/// First thing in main: opens the standard streams that whoever started us has closed, to nothing. A file opened later
/// would get such a stream's number, and what is meant for the screen would be written into it.
void open_standard_streams();

/// A thread of OpenMP that has nothing to do spins before it sleeps, by default for so long that it hardly ever sleeps.
/// Where another program wants the processors, too, whoever spins keeps them from the thread that has work: both take
/// three times as long as they need. libgomp reads the bound of it (GOMP_SPINCOUNT) before main, so this begins the
/// program anew with one, unless the user has set that or OMP_WAIT_POLICY. Early in main: what was done before is done
/// again.
void bound_spinning(char** argv);

/// Sets the threads of our loops and of BLAS. 0: as many as there are processors to run on, but no more than
/// OMP_NUM_THREADS: the least of what OpenMP would take, the processors this process may use (affinity) and the share
/// of them it is allotted (cgroup). Never more than OpenMP gives, whatever is asked: OpenBLAS would wait for the
/// missing for ever. Returns the number.
int use_threads(int64_t threads);
/// Processors' worth of time that Linux's control groups allot to this process, rounded up; 0: no limit. `root` is
/// where they are mounted, `groups` the text of /proc/self/cgroup.
int cgroup_processors(const std::string& root, const std::string& groups);

/// A path as a word of a command that the user may paste into a shell.
std::string shell_word(const std::string& path);

/// From now on the first Ctrl-C (SIGINT) or SIGTERM only asks to stop, and says so at once; a second one kills.
void catch_interrupts();
/// Has the program been asked to stop? Every loop that may take seconds looks.
bool interrupted();
/// The exit code after that.
int interrupted_code();
/// Thrown where there is nothing to be saved on the way out.
struct Interrupted {};
inline void stop_if_interrupted() {
  if (interrupted()) throw Interrupted{};
}

/// Bytes that this process can still take: the least of free memory, the address space's limit (ulimit -v) and the
/// cgroup's.
int64_t available_memory();

}  // namespace lem
