// What the host spends on an operation beside its kernel: checks, handles, buffers, the tape.
#include <chrono>

#include "bench/bench.h"
#include "tasks/sort/model.h"

namespace lem {

HostTiming time_host(Device device) {
  SortOptions o = bench_options("demo", "infinity", device);
  o.transformer.width = 8, o.transformer.heads = 2, o.transformer.ff = 8, o.memory.N = 8, o.memory.R = 8,
  o.transformer.stm = 16;  // so small that kernels take next to no time
  const SortModel net(o);
  const NoGrad no_grad;
  Random random{1, 0};
  const Pass pass{.training = false, .random = &random, .weights = new_weights_number()};
  const std::unique_ptr<State> state = net.model->new_state(1);
  const Tokens token = Tokens::from({1}, {1, 1}, device);
  const auto read = [&](int n) {
    for (int i = 0; i < n; ++i) {
      Losses auxiliary;
      net.model->head.logits(net.model->forward({token}, *state, pass, 1, auxiliary));
    }
    backend(device).synchronize();
  };
  read(200);  // buffers and operators are there
  profile_kernels(true);
  read(100);
  profile_kernels(false);
  int count = 0;
  double calls = 0, inside = 0;
  const KernelTime* times = kernel_times(&count);
  for (int i = 0; i < count; ++i) calls += double(times[i].calls) / 100, inside += times[i].seconds / 100;

  HostTiming best{.calls = calls, .seconds = 1e9, .kernel_seconds = inside};
  for (int repeat = 0; repeat < 7; ++repeat) {  // the least: other programs can only add
    const auto start = std::chrono::steady_clock::now();
    read(500);
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 500;
    best.seconds = std::min(best.seconds, s);
  }
  return best;
}

}  // namespace lem
