// Checkpoints: weights and the optimiser's moments into a model, settings into options.
#include "nn/checkpoint.h"

#include "tasks/sort/options.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/model.h"

using namespace lem;

std::vector<std::string> fuzz::seeds() {
  Net net;
  const Adam adam(net.parameters, {});
  SortOptions options;
  return {written([&](const std::string& path) {
    save_checkpoint(path, net.parameters, &adam, to_json(option_table(options)), {{"step", 3}});
  })};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static fuzz::Net net;
  static Adam adam(net.parameters, {});
  const fuzz::InputFile input({reinterpret_cast<const char*>(data), size});
  fuzz::succeeds([&] {
    const Checkpoint checkpoint(input.path());
    fuzz::succeeds([&] { options_from_json(checkpoint.config, input.path()); });
    fuzz::succeeds([&] { checkpoint.load(net.parameters); });
    fuzz::succeeds([&] { checkpoint.load(adam, net.parameters); });
  });
  return 0;
}
