// Saved states of a model: what is accepted can be read on from.
#include "tests/fuzz/input.h"
#include "tests/fuzz/model.h"

using namespace lem;

std::vector<std::string> fuzz::seeds() {
  Net net;
  const std::unique_ptr<State> state = net.model.new_state(2);
  state->draw_from({Random{1}.child(0), Random{1}.child(1)});
  std::vector<std::string> files;
  for (int segments = 0; segments < 4; ++segments) {
    files.push_back(written([&](const std::string& path) {
      SafetensorsWriter writer;
      state->save(writer);
      writer.write(path);
    }));
    net.read_segment(*state);
    if (segments == 1) state->clear_row(1);
  }
  return files;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static fuzz::Net net;
  const fuzz::InputFile input({reinterpret_cast<const char*>(data), size});
  fuzz::succeeds([&] {
    const std::unique_ptr<State> state = read_state(SafetensorsFile(input.path()), net.model);
    for (int segments = 0; segments < 2; ++segments) net.read_segment(*state);
  });
  return 0;
}
