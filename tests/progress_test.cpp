#include "tasks/common/progress.h"

#include <chrono>
#include <cmath>
#include <vector>

#include "tests/catch.h"

using namespace lem;
using Catch::Contains;

namespace {

/// A screen that remembers what was written, and a clock that is set by hand.
struct FakeScreen {
  std::string written;
  double now = 100;
  int columns = 200;
  bool ready = true;

  ProgressScreen screen(bool terminal) {
    return {.terminal = terminal,
            .width = [this] { return columns; },
            .ready = [this] { return ready; },
            .write = [this](std::string_view text) { written += text; },
            .seconds = [this] { return now; }};
  }
  int64_t count(const std::string& what) const {
    int64_t n = 0;
    for (size_t at = written.find(what); at != std::string::npos; at = written.find(what, at + 1)) ++n;
    return n;
  }
  /// What the terminal's last line shows: what follows the last return or line end, without the escape behind it.
  std::string last_line() const {
    std::string line = written.substr(written.find_last_of("\r\n") + 1);
    return line.ends_with("\x1b[K") ? line.substr(0, line.size() - 3) : line;
  }
};

}  // namespace

TEST_CASE("a terminal's line: what it says", "[progress]") {
  FakeScreen fake;
  Progress progress("infinity", 0, 1000, fake.screen(true));
  CHECK(fake.written.empty());
  for (int step = 1; step <= 250; ++step) {
    fake.now += 0.1001;
    progress.update(step, 0.5, 0.75, 4000);
  }
  CHECK(fake.last_line() == "infinity  step 250/1000  25%  loss 0.5000  accuracy 75.0%  39,960 tokens/s  1:15 left");
  CHECK(fake.written.find('\n') == std::string::npos);
  progress.finish();
  CHECK(fake.written.ends_with(
      "\r\x1b[Kinfinity  step 250/1000  25%  loss 0.5000  accuracy 75.0%  39,960 tokens/s  in 25 s\n"));
  const std::string before = fake.written;
  progress.finish();  // once is enough
  CHECK(fake.written == before);
}

TEST_CASE("loss and accuracy are running means, from the first step on", "[progress]") {
  FakeScreen fake;
  Progress progress("x", 0, 100, fake.screen(true));
  fake.now += 1;
  progress.update(1, 2.0, NAN, 1);
  CHECK_THAT(fake.last_line(), Contains("loss 2.0000") && !Contains("accuracy"));
  fake.now += 1;
  progress.update(2, 1.0, 0.5, 1);  // (0.95 · 2 + 1) / 1.95
  CHECK_THAT(fake.last_line(), Contains("loss 1.4872") && Contains("accuracy 50.0%"));
  fake.now += 1;
  progress.update(3, NAN, 0.5, 1);
  CHECK_THAT(fake.last_line(), Contains("loss nan"));
}

TEST_CASE("a terminal is redrawn at most ten times a second, and never waited for", "[progress]") {
  FakeScreen fake;
  Progress progress("x", 0, 100000, fake.screen(true));
  for (int step = 1; step <= 10000; ++step) {
    fake.now += 0.001;
    progress.update(step, 1, 1, 1);
  }
  CHECK(fake.count("\r") <= 100);
  CHECK(fake.count("\r") >= 95);
  fake.ready = false;  // stopped with Ctrl-S
  const std::string before = fake.written;
  for (int step = 10001; step <= 11000; ++step) {
    fake.now += 1;
    progress.update(step, 1, 1, 1);
  }
  CHECK(fake.written == before);
  fake.ready = true;
  fake.now += 1;
  progress.update(11001, 1, 1, 1);
  CHECK_THAT(fake.last_line(), Contains("step 11001/100000  11%"));
}

TEST_CASE("the line is cut to the window, by characters and not by bytes", "[progress]") {
  FakeScreen fake;
  Progress progress("∞-former", 0, 10, fake.screen(true));
  fake.columns = 20;
  fake.now += 1;
  progress.update(1, 1, 1, 1);
  CHECK(fake.last_line() == "∞-former  step 1/10");  // 19 characters, 21 bytes
  fake.columns = 2;
  fake.now += 1;
  progress.update(2, 1, 1, 1);
  CHECK(fake.last_line() == "∞");
}

TEST_CASE("a line can be shown before the first step, without a loss, and be taken away", "[progress]") {
  FakeScreen fake;
  Progress progress("ours", 0, 4, fake.screen(true));
  progress.draw();
  CHECK(fake.last_line() == "ours  step 0/4  0%");
  fake.now += 10;
  progress.update(1, 5000);
  CHECK(fake.last_line() == "ours  step 1/4  25%  500 tokens/s  30 s left");
  progress.erase();
  CHECK(fake.last_line().empty());
  CHECK(fake.written.find('\n') == std::string::npos);
}

TEST_CASE("messages stand above the live line", "[progress]") {
  FakeScreen fake;
  {
    Progress progress("x", 0, 10, fake.screen(true));
    progress.message("before");
    CHECK(fake.written == "before\n");
    fake.now += 1;
    progress.update(1, 1, NAN, 0);
    const std::string line = fake.last_line();
    progress.message("saved");
    CHECK(fake.written == "before\n\r" + line + "\x1b[K\r\x1b[Ksaved\n\r" + line + "\x1b[K");
  }
  CHECK(fake.written.ends_with("\x1b[K\n"));  // what the shell prints next has a line of its own
}

TEST_CASE("without a terminal: plain lines, rarer and rarer", "[progress]") {
  FakeScreen fake;
  {
    Progress progress("x", 0, 100000, fake.screen(false));
    for (int step = 1; step <= 1800; ++step) {  // three minutes
      fake.now += 0.1;
      progress.update(step, 1, .5, 100);
    }
    CHECK(fake.count("\n") >= 8);
    CHECK(fake.count("\n") <= 20);
    const int64_t before = fake.count("\n");
    for (int step = 1801; step <= 1801 + 36000; ++step) {  // an hour: about one a minute
      fake.now += 0.1;
      progress.update(step, 1, .5, 100);
    }
    CHECK(fake.count("\n") - before >= 55);
    CHECK(fake.count("\n") - before <= 70);
    progress.message("saved");
    CHECK(fake.written.ends_with("left\nsaved\n"));
    progress.finish();
    CHECK(fake.written.ends_with("tokens/s  in 1:03:00\n"));
  }
  CHECK(fake.count("\r") == 0);
  CHECK(fake.count("\x1b") == 0);
}

TEST_CASE("a resumed run's time left comes from its own steps", "[progress]") {
  FakeScreen fake;
  Progress progress("x", 900, 1000, fake.screen(true));
  fake.now += 20;
  progress.update(910, 1, NAN, 0);
  CHECK(fake.last_line() == "x  step 910/1000  91%  loss 1.0000  3:00 left");
}

TEST_CASE("a pause does not lower the tokens per second", "[progress]") {
  FakeScreen fake;
  Progress progress("x", 0, 1000, fake.screen(true));
  fake.now += 1;
  progress.update(1, 1, NAN, 1000);
  fake.now += 99;
  progress.skip_pause();
  progress.update(2, 1, NAN, 1000);  // at once: no rate from it
  fake.now += 1;
  progress.update(2, 1, NAN, 0);
  CHECK_THAT(fake.last_line(), Contains("1,000 tokens/s  13:59:59 left"));  // 101 s for 2 steps
}

TEST_CASE("an update is cheap", "[progress]") {
  Progress progress("x", 0, 1 << 30);
  const auto start = std::chrono::steady_clock::now();
  for (int step = 1; step <= 100000; ++step) progress.update(step, 1, 1, 1);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  CHECK(seconds.count() / 100000 <= 20e-6);  // a step takes milliseconds
}

TEST_CASE("durations and counts as people read them", "[progress]") {
  CHECK(format_duration(0) == "0 s");
  CHECK(format_duration(59.4) == "59 s");
  CHECK(format_duration(59.6) == "1:00");
  CHECK(format_duration(3599) == "59:59");
  CHECK(format_duration(3600) == "1:00:00");
  CHECK(format_duration(86400 * 2) == "48:00:00");
  CHECK(format_duration(86400 * 3.6) == "4 days");
  CHECK(format_duration(NAN) == "?");
  CHECK(format_duration(INFINITY) == "?");
  CHECK(format_duration(-1) == "?");
  CHECK(format_count(0) == "0");
  CHECK(format_count(999) == "999");
  CHECK(format_count(1000) == "1,000");
  CHECK(format_count(1234567.8) == "1,234,568");
  CHECK(format_count(-123456) == "-123,456");
}
