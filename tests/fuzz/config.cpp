// Option files: what is accepted is saved as a file that is accepted and says the same.
#include <nlohmann/json.hpp>

#include "tasks/sort/options.h"
#include "tests/fuzz/input.h"

using namespace lem;

std::vector<std::string> fuzz::seeds() {
  std::vector<std::string> files;
  for (const char* model : {"infinity", "transformer-xl"}) {
    SortOptions options = preset_options("demo", model);
    files.push_back(to_json(option_table(options)).dump());
  }
  return files;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::InputFile input({reinterpret_cast<const char*>(data), size});
  fuzz::succeeds([&] {
    SortOptions options = options_from_json(read_config(input.path()), "input");
    const fuzz::InputFile saved(to_json(option_table(options)).dump());
    SortOptions again = options_from_json(read_config(saved.path()), "saved");
    fuzz::require(differences(option_table(options), option_table(again), Scope::run).empty());
  });
  return 0;
}
