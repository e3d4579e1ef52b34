// What a person waiting for a training, or anything else in steps, sees: one line that keeps itself up to date on a
// terminal, a plain line now and then anywhere else (a file, a pipe, CI).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

namespace lem {

/// Where progress is shown. The default is standard error; tests bring their own.
struct ProgressScreen {
  bool terminal = false;                        // can the line be drawn over?
  std::function<int()> width;                   // columns; asked at every drawing, as windows change
  std::function<bool()> ready;                  // would writing return at once?
  std::function<void(std::string_view)> write;  // errors are ignored: nobody loses a run because a window closed
  std::function<double()> seconds;              // a clock that never goes back

  static ProgressScreen standard_error();
};

/// A training's progress. update() costs a look at the clock, except at most ten times a second, and never waits for a
/// terminal that has been stopped.
///
///     Progress progress("infinity", first_step, steps);
///     for (…) progress.update(step, loss, accuracy, tokens);
///     progress.finish();
class Progress {
 public:
  /// `done` of `total` steps are behind us (a resumed run begins in the middle).
  Progress(std::string label, int64_t done, int64_t total, ProgressScreen screen = ProgressScreen::standard_error());
  /// Leaves the terminal on a line of its own.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `step` steps are done; the last one read `tokens` tokens. Loss and accuracy (a share; NaN: none) are shown as
  /// running means over about 20 steps.
  void update(int64_t step, double loss, double accuracy, int64_t tokens);
  void update(int64_t step, int64_t tokens);
  /// Call after something else than training (a validation, saving): tokens per second leave that time out. The time
  /// left does not, as more of it will come.
  void skip_pause();
  /// A line that stays, above the live one.
  void message(std::string_view text);
  /// The last state as a line that stays.
  void finish();
  /// Shows the line now (before a first step that takes long); takes it off a terminal (instead of finish()).
  void draw();
  void erase();

 private:
  void count_rate(double now);
  std::string line() const;

  std::string label_;
  int64_t first_, step_, total_;
  ProgressScreen screen_;
  double start_, last_drawn_, interval_, rate_from_;
  double loss_ = 0, accuracy_ = 0, loss_weight_ = 0, accuracy_weight_ = 0;  // running sums and their weights
  int64_t tokens_since_ = 0;
  double tokens_per_second_ = 0;
  bool on_screen_ = false, finished_ = false;
};

/// "7 s", "1:23", "2:03:04", "3 days".
std::string format_duration(double seconds);
/// "38,120".
std::string format_count(double count);

}  // namespace lem
