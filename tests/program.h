// build/sort as a test runs it: in an environment of its choice, its output in a file, and never for longer than a
// minute (under sanitizers, ten).
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tensor/error.h"
#include "tensor/io/files.h"

extern char** environ;

namespace lem {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr double kSlowdown = 10;
#else
inline constexpr double kSlowdown = 1;
#endif

class Program {
 public:
  struct Options {
    std::vector<std::string> environment = {};  // "OMP_NUM_THREADS=1", on top of the test's own
    std::vector<int> closed = {};               // standard streams that are closed
    std::vector<std::string> wrapper = {};      // a command that starts it: {"taskset", "-c", "0"}
    double seconds = 60;                        // longer than this is a hang
  };
  Program(const std::vector<std::string>& arguments, const std::string& output) : Program(arguments, output, {}) {}
  Program(const std::vector<std::string>& arguments, const std::string& output, const Options& options)
      : output_(output),
        deadline_(Clock::now() + std::chrono::milliseconds(int64_t(1e3 * kSlowdown * options.seconds))) {
    std::vector<std::string> words = options.wrapper;
    words.push_back(path());
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<std::string> settings = options.environment;
    for (char** setting = environ; *setting; ++setting) {
      const std::string name(*setting, std::string(*setting).find('=') + 1);
      if (std::none_of(settings.begin(), settings.end(), [&](const std::string& s) { return s.starts_with(name); }))
        settings.push_back(*setting);
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    for (int stream : options.closed) posix_spawn_file_actions_addclose(&actions, stream);
    std::vector<char*> argv = pointers(words), env = pointers(settings);
    const int failed = posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), env.data());
    posix_spawn_file_actions_destroy(&actions);
    if (failed) fail("[test] cannot start {}: build it with make programs", words[0]);
  }
  ~Program() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Program(const Program&) = delete;

  static std::string path() {
    const char* folder = std::getenv("LEM_BIN");
    return std::string(folder ? folder : "build") + "/sort";
  }
  /// Exit code, or 1000 + the signal that ended it; 1000 + SIGKILL after the time limit.
  int wait() {
    int status = 0;
    while (waitpid(pid_, &status, WNOHANG) == 0) {
      if (Clock::now() > deadline_) kill(pid_, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  void signal(int number) { kill(pid_, number); }
  /// How many threads it has right now.
  int threads() const {
    std::ifstream status(fmt::format("/proc/{}/status", pid_));
    for (std::string word; status >> word;)
      if (int n = 0; word == "Threads:" && status >> n) return n;
    return 0;
  }
  /// What it was started with, one setting behind the other's 0.
  std::string environment() const {
    std::ifstream in(fmt::format("/proc/{}/environ", pid_), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string output() const { return read_text(output_); }
  /// Waits until the program has written this; false if it never does.
  bool says(const std::string& text) const {
    while (output().find(text) == std::string::npos) {
      if (Clock::now() > deadline_) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> all;
    for (std::string& word : words) all.push_back(word.data());
    all.push_back(nullptr);
    return all;
  }

  pid_t pid_ = 0;
  std::string output_;
  Clock::time_point deadline_;
};

/// A training of a second or so, with every source of randomness on.
inline std::vector<std::string> small_training(const std::string& out) {
  return {"train",
          "--symbols",
          "5",
          "--length",
          "90",
          "--segment",
          "16",
          "--stm",
          "16",
          "--width",
          "16",
          "--heads",
          "2",
          "--ff",
          "24",
          "--N",
          "16",
          "--R",
          "16",
          "--batch",
          "4",
          "--steps",
          "60",
          "--dropout",
          "0.1",
          "--attention-dropout",
          "0.1",
          "--sticky",
          "--save-every",
          "5",
          "--validate-every",
          "20",
          "--validation-samples",
          "8",
          "--test-samples",
          "8",
          "--threads",
          "1",
          "--out",
          out};
}

/// The same with other values for some flags, given as flag, value, flag, value, ….
inline std::vector<std::string> with_flags(std::vector<std::string> arguments, const std::vector<std::string>& flags) {
  for (size_t i = 0; i + 1 < flags.size(); i += 2) {
    const auto found = std::find(arguments.begin(), arguments.end(), flags[i]);
    if (found == arguments.end())
      arguments.insert(arguments.end(), {flags[i], flags[i + 1]});
    else
      *(found + 1) = flags[i + 1];
  }
  return arguments;
}

}  // namespace lem
