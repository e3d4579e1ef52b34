// Round trips through safetensors files, and agreement with the Python package byte for byte.
#include "tensor/io/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/file_helpers.h"
#include "tests/scratch.h"

using namespace lem;
using namespace lem::test;
using Catch::Contains;

namespace {

using Sizes = std::vector<std::int64_t>;

template <class T>
std::vector<T> read_back(const SafetensorsFile& file, const std::string& name, const Sizes& shape) {
  std::vector<T> values(*byte_count(dtype_of<T>(), shape) / sizeof(T));
  file.read(name, values.data(), dtype_of<T>(), shape);
  return values;
}

template <class T>
void check_round_trip() {
  using Limits = std::numeric_limits<T>;
  const ScratchFolder folder;
  const std::vector<T> values = {Limits::lowest(), Limits::max(), T(0), T(1), Limits::min(), T(7)};
  SafetensorsWriter writer;
  writer.add("x", {3, 2}, values.data());
  writer.write(folder / "x.safetensors");
  const SafetensorsFile file(folder / "x.safetensors");
  CHECK(file.entry("x").dtype == dtype_of<T>());
  CHECK(read_back<T>(file, "x", {3, 2}) == values);
}

}  // namespace

TEST_CASE("safetensors: every C++ number comes back as it was", "[safetensors]") {
  check_round_trip<float>();
  check_round_trip<double>();
  check_round_trip<std::int8_t>();
  check_round_trip<std::uint8_t>();
  check_round_trip<std::int16_t>();
  check_round_trip<std::uint16_t>();
  check_round_trip<std::int32_t>();
  check_round_trip<std::uint32_t>();
  check_round_trip<std::int64_t>();
  check_round_trip<std::uint64_t>();
}

TEST_CASE("safetensors: dtypes have names and sizes", "[safetensors]") {
  for (int i = 0; i <= int(DType::U64); i++) CHECK(dtype_from_name(dtype_name(DType(i))) == DType(i));
  CHECK_FALSE(dtype_from_name("f32").has_value());
  CHECK(dtype_of<bool>() == DType::BOOL);
  CHECK(dtype_bits(DType::BF16) == 16);
  CHECK(byte_count(DType::F32, {}) == 4u);
  CHECK(byte_count(DType::F64, {3, 0}) == 0u);
  CHECK(byte_count(DType::F4, {6}) == 3u);
  CHECK_FALSE(byte_count(DType::F4, {3}).has_value());
  CHECK_FALSE(byte_count(DType::U8, {-1}).has_value());
  CHECK_FALSE(byte_count(DType::U8, {std::int64_t(1) << 31, std::int64_t(1) << 31, 2}).has_value());
  CHECK_FALSE(byte_count(DType::U8, {0, std::int64_t(1) << 62}).has_value());
}

TEST_CASE("safetensors: awkward sizes, scalars and empty arrays", "[safetensors]") {
  const ScratchFolder folder;
  const std::vector<Sizes> shapes = {{}, {0}, {5, 0, 2}, {1}, {31}, {33}, {257}, {3, 5, 7}, {1, 1, 1, 1, 1, 1, 1}};
  std::vector<float> values(257);
  std::iota(values.begin(), values.end(), 0.5f);
  const std::uint8_t byte = 200;
  SafetensorsWriter writer;
  for (std::size_t i = 0; i < shapes.size(); i++) writer.add("array" + std::to_string(i), shapes[i], values.data());
  writer.add("", {}, &byte);  // an empty name is a name
  writer.write(folder / "x");

  const SafetensorsFile file(folder / "x");
  const std::vector<std::string> names = file.names();
  REQUIRE(names.size() == shapes.size() + 1);
  CHECK(std::is_sorted(names.begin(), names.end()));
  CHECK(read_back<std::uint8_t>(file, "", {}) == std::vector<std::uint8_t>{byte});
  for (std::size_t i = 0; i < shapes.size(); i++) {
    const std::string name = "array" + std::to_string(i);
    const std::vector<float> got = read_back<float>(file, name, shapes[i]);
    CHECK(file.entry(name).shape == shapes[i]);
    CHECK(std::equal(got.begin(), got.end(), values.begin()));
  }
  CHECK(file.metadata().empty());
}

TEST_CASE("safetensors: a file without arrays holds its metadata", "[safetensors]") {
  const ScratchFolder folder;
  SafetensorsWriter writer;
  writer.write(folder / "nothing");
  CHECK(read_whole(folder / "nothing") == std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  CHECK(SafetensorsFile(folder / "nothing").names().empty());

  writer.set_metadata("step", "1");
  writer.set_metadata("step", "2");
  writer.set_metadata("text", std::string("tab\t zero\0 quote\" ∞", 21));
  writer.write(folder / "text");
  const SafetensorsFile file(folder / "text");
  CHECK(file.metadata().size() == 2);
  CHECK(file.metadata("step") == "2");
  CHECK(file.metadata("text") == std::string("tab\t zero\0 quote\" ∞", 21));
  CHECK(error_of([&] { file.metadata("seed"); }) ==
        "[safetensors] \"" + (folder / "text") +
            "\" has no metadata \"seed\": got 2 texts; use a file that was saved by the same model and configuration");
}

// The same content, saved by Python's safetensors 0.8.0 with numpy:
//   save({"weights": float32 [[1, -2.5, 3], [4, 5, 6]], "a.scalar": float64 0.1, "empty": int64 of shape (0, 7),
//         "bytes": uint8 [0, 1, 255], 'naïve "q"\n': int32 [7], "b": float32 [2]}, metadata={"form\tat": …})
const std::string kFromPython =
    std::string("\xa0\x01\0\0\0\0\0\0", 8) +
    R"({"__metadata__":{"form\tat":"größe \u0001)"
    "\x7f"
    R"(/\\"},)"
    R"("empty":{"dtype":"I64","shape":[0,7],"data_offsets":[0,0]},)"
    R"("a.scalar":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
    R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
    R"("weights":{"dtype":"F32","shape":[2,3],"data_offsets":[12,36]},)"
    R"("naïve \"q\"\n":{"dtype":"I32","shape":[1],"data_offsets":[36,40]},)"
    R"("bytes":{"dtype":"U8","shape":[3],"data_offsets":[40,43]}}     )" +
    std::string(
        "\x9a\x99\x99\x99\x99\x99\xb9\x3f\0\0\0\x40\0\0\x80\x3f\0\0\x20\xc0\0\0\x40\x40\0\0\x80\x40"
        "\0\0\xa0\x40\0\0\xc0\x40\x07\0\0\0\0\x01\xff",
        43);

TEST_CASE("safetensors: agrees with the Python package byte for byte", "[safetensors]") {
  const ScratchFolder folder;
  const std::vector<float> weights = {1, -2.5, 3, 4, 5, 6}, b = {2};
  const std::vector<std::uint8_t> bytes = {0, 1, 255};
  const double scalar = 0.1;
  const std::int32_t seven = 7;

  write_whole(folder / "python", kFromPython);
  const SafetensorsFile file(folder / "python");
  CHECK(file.names() == std::vector<std::string>{"a.scalar", "b", "bytes", "empty", "na\xc3\xafve \"q\"\n", "weights"});
  CHECK(read_back<float>(file, "weights", {2, 3}) == weights);
  CHECK(read_back<double>(file, "a.scalar", {}) == std::vector<double>{scalar});
  CHECK(read_back<std::int32_t>(file, "na\xc3\xafve \"q\"\n", {1}) == std::vector<std::int32_t>{seven});
  CHECK(read_back<std::uint8_t>(file, "bytes", {3}) == bytes);
  CHECK(read_back<std::int64_t>(file, "empty", {0, 7}).empty());
  CHECK(file.metadata("form\tat") == "größe \x01\x7f/\\");

  SafetensorsWriter writer;
  writer.set_metadata("form\tat", "größe \x01\x7f/\\");
  writer.add("weights", {2, 3}, weights.data());
  writer.add("a.scalar", {}, &scalar);
  writer.add("empty", {0, 7}, static_cast<const std::int64_t*>(nullptr));
  writer.add("bytes", {3}, bytes.data());
  writer.add("naïve \"q\"\n", {1}, &seven);
  writer.add("b", {1}, b.data());
  writer.write(folder / "ours");
  CHECK(read_whole(folder / "ours") == kFromPython);
}

TEST_CASE("safetensors: a source hands over its bytes in pieces", "[safetensors]") {
  const ScratchFolder folder;
  std::vector<std::int32_t> values(1000);
  std::iota(values.begin(), values.end(), -500);
  std::size_t given = 4000;
  SafetensorsWriter writer;
  writer.add("x", DType::I32, {10, 100}, [&](const SafetensorsWriter::Sink& sink) {
    const char* p = reinterpret_cast<const char*>(values.data());
    for (std::size_t done = 0; done < given; done += 33) sink(p + done, std::min<std::size_t>(33, given - done));
  });
  writer.write(folder / "x");
  CHECK(read_back<std::int32_t>(SafetensorsFile(folder / "x"), "x", {10, 100}) == values);

  values[0] = 1;  // sources are asked anew by every write
  writer.write(folder / "x");
  CHECK(read_back<std::int32_t>(SafetensorsFile(folder / "x"), "x", {10, 100}) == values);

  const std::string before = read_whole(folder / "x");
  given = 3999;
  CHECK_THAT(error_of([&] { writer.write(folder / "x"); }),
             Contains("entry \"x\": its source gave 3999 bytes, expected 4000"));
  values.push_back(0);
  given = 4001;
  CHECK_THAT(error_of([&] { writer.write(folder / "x"); }),
             Contains("entry \"x\": its source gave 4001 bytes, expected 4000"));
  CHECK(read_whole(folder / "x") == before);
  CHECK(folder.entries() == 1);
}

TEST_CASE("safetensors: float and double convert on request", "[safetensors]") {
  const ScratchFolder folder;
  std::vector<float> floats(10007);
  std::vector<double> doubles(10007);
  for (int i = 0; i < 10007; i++) {
    doubles[i] = std::sin(i) * 1e3;
    floats[i] = float(std::cos(i));
  }
  doubles[1] = std::numeric_limits<double>::infinity();
  const double huge[] = {1, 2, -1e300};
  const std::int32_t whole = 3;
  SafetensorsWriter writer;
  writer.add("floats", {10007}, floats.data());
  writer.add("doubles", {10007}, doubles.data());
  writer.add("huge", {3}, huge);
  writer.add("whole", {}, &whole);
  writer.write(folder / "x");

  const SafetensorsFile file(folder / "x");
  std::vector<float> f(10007);
  std::vector<double> d(10007);
  file.read_as("floats", f.data(), {10007});
  CHECK(f == floats);
  file.read_as("floats", d.data(), {10007});
  CHECK(d == std::vector<double>(floats.begin(), floats.end()));
  file.read_as("doubles", d.data(), {10007});
  CHECK(d == doubles);
  file.read_as("doubles", f.data(), {10007});
  CHECK(f == std::vector<float>(doubles.begin(), doubles.end()));

  CHECK_THAT(error_of([&] { file.read_as("huge", f.data(), {3}); }),
             Contains("entry \"huge\": element 2: got -1e+300, expected a number that fits F32; read it as F64"));
  CHECK_THAT(error_of([&] { file.read_as("whole", f.data(), {}); }),
             Contains("entry \"whole\": got dtype I32, expected F32 or F64"));
  CHECK_THAT(error_of([&] { file.read_as("floats", f.data(), {10006}); }),
             Contains("entry \"floats\": got shape (10007), expected (10006)"));
}

TEST_CASE("safetensors: reading checks names, dtypes and shapes", "[safetensors]") {
  const ScratchFolder folder;
  const float values[6] = {};
  SafetensorsWriter writer;
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h", "i"}) writer.add(name, {2, 3}, values);
  writer.write(folder / "x");
  const SafetensorsFile file(folder / "x");
  float dst[6];
  const std::string head = "[safetensors] \"" + (folder / "x") + "\"";
  CHECK(file.contains("a"));
  CHECK_FALSE(file.contains("z"));
  CHECK(error_of([&] { file.entry("z"); }) ==
        head + R"( has no entry "z": got 9 entries ("a", "b", "c", "d", "e", "f", "g", "h", …); )" +
            "use a file that was saved by the same model and configuration");
  CHECK(error_of([&] {
          file.read("a", dst, DType::F32, {3, 2});
        }) == head + R"(: entry "a": got shape (2, 3), expected (3, 2); )" +
                  "use a file that was saved by the same model and configuration");
  CHECK_THAT(error_of([&] { file.read("a", dst, DType::F64, {2, 3}); }), Contains("got dtype F32, expected F64"));
  CHECK_THAT(error_of([&] { file.read("a", dst, DType::F32, {6}); }), Contains("got shape (2, 3), expected (6)"));
}

TEST_CASE("safetensors: an open file stays what it was", "[safetensors]") {
  const ScratchFolder folder;
  std::vector<float> values(5000, 1.0f);
  SafetensorsWriter writer;
  writer.add("x", {5000}, values.data());
  writer.write(folder / "x");
  SafetensorsFile first(folder / "x");
  SafetensorsFile file = std::move(first);

  std::fill(values.begin(), values.end(), 2.0f);
  writer.write(folder / "x");  // a new file takes the name; the open one lives on
  CHECK(read_back<float>(file, "x", {5000}) == std::vector<float>(5000, 1.0f));

  file = SafetensorsFile(folder / "x");
  CHECK(read_back<float>(file, "x", {5000}) == values);
  std::filesystem::resize_file(folder / "x", 10000);  // somebody cuts it in place
  CHECK_THAT(error_of([&] { read_back<float>(file, "x", {5000}); }), Contains("became shorter while it was read"));
}

TEST_CASE("safetensors: the writer refuses what cannot be written", "[safetensors]") {
  SafetensorsWriter writer;
  const float x = 1;
  writer.add("x", {}, &x);
  CHECK_THAT(error_of([&] { writer.add("x", {1}, &x); }), Contains("entry \"x\": added twice"));
  CHECK_THAT(error_of([&] { writer.add("__metadata__", {}, &x); }), Contains("call set_metadata"));
  CHECK_THAT(error_of([&] { writer.add("bad\xff", {}, &x); }), Contains("bytes that are not UTF-8"));
  CHECK_THAT(error_of([&] { writer.set_metadata("bad\xff", ""); }), Contains("metadata key \"bad"));
  CHECK_THAT(error_of([&] { writer.set_metadata("", "bad\xff"); }), Contains("metadata text \"bad"));
  CHECK_THAT(error_of([&] { writer.add("y", {2, -3}, &x); }), Contains("entry \"y\": got shape (2, -3) of F32"));
  CHECK_THAT(error_of([&] { writer.add("y", {INT64_MAX, 2}, &x); }), Contains("below 2^60"));
  CHECK_THAT(error_of([&] { writer.add("y", {2}, static_cast<const float*>(nullptr)); }),
             Contains("got no data, expected 8 bytes"));
  CHECK_THAT(error_of([&] { writer.add("y", Sizes(65, 1), &x); }), Contains("got 65 dimensions, expected at most 64"));
}
