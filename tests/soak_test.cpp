// Documents of any length, read without end: what is held stays flat, and so does the time a token takes.
#if !defined(__SANITIZE_ADDRESS__)  // which keeps what is freed, to see who uses it still
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <functional>

#include "tensor/pool.h"
#include "tests/catch.h"
#include "tests/small_model.h"

namespace lem {
namespace {

double resident_mib() {
  int64_t size = 0, pages = 0;
  std::ifstream("/proc/self/statm") >> size >> pages;
  return double(pages) * double(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

/// Of all threads: other programs do not count.
double processor_seconds() { return double(std::clock()) / CLOCKS_PER_SEC; }

/// One thread: threads that wait for each other take processor time as others let them.
struct OneThread {
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before); }
  int before = omp_get_max_threads();
};

/// 4 rows read `blocks` blocks of `segments` segments of 1 to `longest` steps; before a segment a row's document ends
/// with a chance of one in eight. One segment in sixteen is learnt from. The first block is for what must be made once.
void soak(int blocks, int segments, int64_t longest, const std::function<void(const std::string&)>& say) {
  const OneThread one_thread;
  constexpr int64_t B = 4, V = 50;
  const TransformerOptions transformer{.vocab = V, .layers = 3, .width = 32, .heads = 2, .ff = 32, .stm = longest / 2};
  const MemoryOptions memory{.N = 32, .widths = {.02, .1}, .R = 64};
  Parameters parameters(Device::cpu, 1);
  InfinityFormer model(transformer, memory, parameters);
  parameters.pack();
  const Stream dice{3, 1};
  uint64_t draw = 0;
  const auto below = [&](int64_t n) { return int64_t(dice.bits(draw++) % uint64_t(n)); };

  const std::unique_ptr<State> state = model.new_state(B);
  std::vector<double> mib, nanoseconds;
  for (int block = 0; block < blocks; ++block) {
    const double start = processor_seconds();
    int64_t tokens = 0;
    for (int i = 0; i < segments; ++i) {
      const int64_t T = 1 + below(longest);
      std::vector<int32_t> ids(size_t(B * T));
      for (int32_t& id : ids) id = int32_t(below(V));
      for (int64_t b = 0; b < B; ++b)
        if (below(8) == 0) state->clear_row(b);
      Random random{5, uint64_t(block * segments + i)};
      const bool learns = i % 16 == 0;
      const Pass pass{.training = learns, .random = &random, .weights = 1};
      if (learns) {
        const test::Answer out = test::read(model, {Tokens::from(ids, {B, T})}, *state, pass, 1);
        parameters.zero_grad();
        backward(weighted_sum(out.logits, full(out.logits.shape(), real(.1), Device::cpu)));
      } else {
        const NoGrad no_grad;
        test::read(model, {Tokens::from(ids, {B, T})}, *state, pass, 1);
      }
      tokens += B * T;
    }
    mib.push_back(resident_mib());
    nanoseconds.push_back(1e9 * (processor_seconds() - start) / double(tokens));
    say(fmt::format("{:6} segments  {:7.1f} MiB resident  {:6.0f} ns of processor time a token\n",
                    (block + 1) * segments, mib.back(), nanoseconds.back()));
  }
  CHECK(*std::max_element(mib.begin() + 1, mib.end()) <= 1.05 * mib[0] + 8);
  // The fastest of some blocks: other programs can only add.
  const auto half = nanoseconds.begin() + blocks / 2;
  const double early = *std::min_element(nanoseconds.begin(), half), late = *std::min_element(half, nanoseconds.end());
  CHECK(late <= 1.2 * early);
}

}  // namespace

TEST_CASE("memory and time stay flat over documents of any length", "[soak]") {
  soak(8, 150, 128, [](const std::string& line) { UNSCOPED_INFO(line); });
}

// `make soak`
TEST_CASE("memory and time stay flat over 20,000 segments of 1 to 512 steps", "[.][long-soak]") {
  soak(20, 1000, 512, [](const std::string& line) {
    fmt::print("{}", line);
    std::fflush(stdout);
  });
}

}  // namespace lem
#endif
