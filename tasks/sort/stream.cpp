#include "tasks/sort/stream.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "tasks/common/program.h"
#include "tasks/common/progress.h"

namespace lem {
namespace {

int64_t resident_bytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + int64_t(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

void stream_sort(const Model& model, const SortOptions& o, int64_t tokens,
                 const std::function<void(const StreamReport&)>& report) {
  const NoGrad no_grad;
  const int64_t T = o.segment;
  Random random{uint64_t(o.training.seed), 0};
  const Pass pass{.training = false, .random = &random, .weights = new_weights_number()};
  const Stream symbols{uint64_t(o.training.seed), uint64_t(1) << 40};
  const std::unique_ptr<State> state = model.new_state(1);
  state->draw_from({random.child(0)});
  Losses auxiliary;
  int64_t next_report = 1;
  while (next_report < 10 * T) next_report *= 10;

  std::vector<double> milliseconds;  // of the segments since the last report
  milliseconds.reserve(1 << 20);     // once: the process should not grow because of the bookkeeping
  std::vector<int32_t> segment(static_cast<size_t>(T));
  Progress progress("stream", 0, (tokens + T - 1) / T);
  for (int64_t read = 0; read < tokens && !interrupted();) {
    const int64_t n = std::min(T, tokens - read);
    segment.resize(size_t(n));
    for (int64_t i = 0; i < n; ++i)
      segment[size_t(i)] = int32_t(symbols.bits(uint64_t(read + i)) % uint32_t(o.symbols));
    const auto start = std::chrono::steady_clock::now();
    const Variable hidden = model.forward({Tokens::from(segment, {1, n}, model.device())}, *state, pass, n, auxiliary);
    model.head.logits(hidden);
    auxiliary.terms.clear();
    if (n == T)
      milliseconds.push_back(1e3 * std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (milliseconds.size() == milliseconds.capacity()) milliseconds.clear();
    read += n;
    progress.update((read + T - 1) / T, n);
    if (read < next_report && read < tokens) continue;
    progress.erase();
    const auto* infinity = dynamic_cast<const InfinityFormer::States*>(state.get());
    report({read, median(milliseconds), resident_bytes(), int64_t(state->bytes()),
            infinity ? infinity->layers[0].ltm.count[0] : 0});
    milliseconds.clear();
    while (next_report <= read) next_report *= 10;
  }
}

}  // namespace lem
