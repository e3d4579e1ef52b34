// Files of sequences: each that is accepted has sequences of one length and symbols in range, in any order of reading.
#include "data/sorting_file.h"

#include "tests/fuzz/input.h"

using namespace lem;

std::vector<std::string> fuzz::seeds() {
  return {written([](const std::string& path) { write_sorting_file(path, 1, Split::train, 4, 20, 9); }),
          "\xEF\xBB\xBF"
          "1\t2  3\r\n4 5 19"};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int32_t kSymbols = 20;
  const fuzz::InputFile input({reinterpret_cast<const char*>(data), size});
  fuzz::succeeds([&] {
    const SortingFile file(input.path(), kSymbols);
    fuzz::require(file.size() > 0 && file.length() > 0);
    for (int64_t i = file.size() - 1; i >= 0; --i) {
      const SortingSample sample = file.sample(i);
      fuzz::require(int64_t(sample.tokens.size()) == file.length());
      for (const int32_t token : sample.tokens) fuzz::require(token >= 0 && token < kSymbols);
    }
  });
  return 0;
}
