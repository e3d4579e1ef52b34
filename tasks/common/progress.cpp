#include "tasks/common/progress.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>

#include "tensor/error.h"

namespace lem {
namespace {

constexpr double kRedrawSeconds = 0.1;                                                // on a terminal
constexpr double kFirstPlainSeconds = 1, kMostPlainSeconds = 60, kPlainGrowth = 1.3;  // elsewhere: rarer and rarer
constexpr double kMemory = 0.95;                                                      // of the running means, per step
constexpr double kRateSeconds = 5;  // over which tokens a second are averaged

void add_to_mean(double& sum, double& weight, double x) {
  sum = kMemory * sum + (1 - kMemory) * x;
  weight = kMemory * weight + (1 - kMemory);
}

/// The first `columns` characters of UTF-8 text, each taken to be one column wide.
std::string_view cut(std::string_view text, int64_t columns) {
  size_t end = 0;
  for (; end < text.size(); ++end) {
    const bool begins = (text[end] & 0xC0) != 0x80;
    if (begins && columns-- <= 0) break;
  }
  return text.substr(0, end);
}

}  // namespace

ProgressScreen ProgressScreen::standard_error() {
  const char* term = std::getenv("TERM");
  return {
      .terminal = isatty(STDERR_FILENO) && term && std::string_view(term) != "dumb",
      .width =
          [] {
            winsize size{};
            return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? int(size.ws_col) : 80;
          },
      .ready =
          [] {
            pollfd screen{STDERR_FILENO, POLLOUT, 0};
            return poll(&screen, 1, 0) == 1;
          },
      .write =
          [](std::string_view text) {
            while (!text.empty()) {
              const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
              if (written <= 0) return;
              text.remove_prefix(size_t(written));
            }
          },
      .seconds =
          [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); },
  };
}

Progress::Progress(std::string label, int64_t done, int64_t total, ProgressScreen screen)
    : label_(std::move(label)),
      first_(done),
      step_(done),
      total_(total),
      screen_(std::move(screen)),
      start_(screen_.seconds()),
      last_drawn_(start_),
      interval_(screen_.terminal ? kRedrawSeconds : kFirstPlainSeconds),
      rate_from_(start_) {}

Progress::~Progress() {
  if (on_screen_) screen_.write("\n");
}

void Progress::update(int64_t step, double loss, double accuracy, int64_t tokens) {
  add_to_mean(loss_, loss_weight_, loss);
  if (!std::isnan(accuracy)) add_to_mean(accuracy_, accuracy_weight_, accuracy);
  update(step, tokens);
}

void Progress::update(int64_t step, int64_t tokens) {
  step_ = step;
  tokens_since_ += tokens;
  const double now = screen_.seconds();
  if (now - last_drawn_ < interval_ || !screen_.ready()) return;
  last_drawn_ = now;
  if (!screen_.terminal) interval_ = std::min(interval_ * kPlainGrowth, kMostPlainSeconds);
  count_rate(now);
  draw();
}

void Progress::count_rate(double now) {
  const double seconds = now - rate_from_;
  if (seconds < kRedrawSeconds / 2) return;  // just after a pause: too little to tell
  const double rate = double(tokens_since_) / seconds, fresh = 1 - std::exp(-seconds / kRateSeconds);
  tokens_per_second_ = tokens_per_second_ == 0 ? rate : tokens_per_second_ + fresh * (rate - tokens_per_second_);
  tokens_since_ = 0, rate_from_ = now;
}

void Progress::skip_pause() {
  tokens_since_ = 0;
  rate_from_ = screen_.seconds();
}

void Progress::message(std::string_view text) {
  erase();
  screen_.write(fmt::format("{}\n", text));
  if (screen_.terminal && step_ > first_ && !finished_) draw();
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  erase();
  screen_.write(line() + "\n");
}

std::string Progress::line() const {
  const double elapsed = screen_.seconds() - start_;
  const int64_t done = step_ - first_;
  std::string text = fmt::format("{}  step {}/{}  {:.0f}%", label_, step_, total_,
                                 total_ > 0 ? std::floor(100.0 * double(step_) / double(total_)) : 100);
  if (loss_weight_ > 0) text += fmt::format("  loss {:.4f}", loss_ / loss_weight_);
  if (accuracy_weight_ > 0) text += fmt::format("  accuracy {:.1f}%", 100 * accuracy_ / accuracy_weight_);
  if (tokens_per_second_ > 0) text += fmt::format("  {} tokens/s", format_count(tokens_per_second_));
  if (finished_)
    text += fmt::format("  in {}", format_duration(elapsed));
  else if (done > 0)
    text += fmt::format("  {} left", format_duration(elapsed / double(done) * double(total_ - step_)));
  return text;
}

void Progress::draw() {
  const std::string text = line();
  if (!screen_.terminal) return screen_.write(text + "\n");
  // One column is left free: some terminals begin a new line when the last one is filled. ESC [K clears what is behind.
  screen_.write(fmt::format("\r{}\x1b[K", cut(text, std::max(screen_.width() - 1, 1))));
  on_screen_ = true;
}

void Progress::erase() {
  if (on_screen_) screen_.write("\r\x1b[K");
  on_screen_ = false;
}

std::string format_duration(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "?";
  const int64_t s = std::llround(seconds);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  if (s < 3 * 86400) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{} days", (s + 43200) / 86400);
}

std::string format_count(double count) {
  std::string text = fmt::format("{:.0f}", count);
  for (int64_t i = int64_t(text.size()) - 3; i > (text[0] == '-' ? 1 : 0); i -= 3) text.insert(size_t(i), 1, ',');
  return text;
}

}  // namespace lem
