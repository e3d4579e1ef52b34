// Safetensors files: what is accepted can be read, and what is written of it reads the same.
#include "tensor/io/safetensors.h"

#include "tests/fuzz/input.h"

using namespace lem;

std::vector<std::string> fuzz::seeds() {
  const float floats[6] = {1, 2, 3, 4, 5, 6};
  const double doubles[2] = {7, 1e300};
  SafetensorsWriter writer;
  writer.set_metadata("step", "1000");
  writer.add("weight", {2, 3}, floats);
  writer.add("bias", {2}, doubles);
  writer.add("packed", DType::F4, {4, 2}, floats);
  writer.add("scalar", {}, floats);
  writer.add("empty", {0, 4}, floats);
  return {written([&](const std::string& path) { writer.write(path); })};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::InputFile input({reinterpret_cast<const char*>(data), size});
  fuzz::succeeds([&] {
    const SafetensorsFile file(input.path());
    for (const std::string& name : file.names()) {
      const Entry& entry = file.entry(name);
      fuzz::require(entry.end <= size && byte_count(entry.dtype, entry.shape) == entry.end - entry.begin);
      std::vector<char> bytes(entry.end - entry.begin);
      file.read(name, bytes.data(), entry.dtype, entry.shape);
      if (entry.dtype != DType::F32 && entry.dtype != DType::F64) continue;
      std::vector<float> numbers(bytes.size() / (entry.dtype == DType::F32 ? 4 : 8));
      fuzz::succeeds([&] { file.read_as<float>(name, numbers.data(), entry.shape); });  // may overflow
    }
  });
  return 0;
}
