// Files that lie: each must give an error that says where and what, and none may crash or exhaust the memory.
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>
#include <random>

#include "tensor/io/safetensors.h"
#include "tests/file_helpers.h"
#include "tests/scratch.h"

using namespace lem;
using namespace lem::test;
using Catch::Contains;

namespace {

/// A file with this header, at the length it claims for it, and these data.
std::string file_of(const std::string& header, const std::string& data, std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}
std::string file_of(const std::string& header, const std::string& data = "") {
  return file_of(header, data, header.size());
}

/// A header with one entry "x"; F32 of shape (2) at [0, 8] unless told otherwise.
std::string entry(const std::string& dtype = "\"F32\"", const std::string& shape = "[2]",
                  const std::string& offsets = "[0,8]") {
  return R"({"x":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

/// U8 entries "a", "b", … at these offsets.
std::string layout(const std::vector<std::pair<int, int>>& places) {
  std::string header = "{";
  for (std::size_t i = 0; i < places.size(); i++)
    header += fmt::format("{}\"{}\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", i ? "," : "",
                          char('a' + i), places[i].second - places[i].first, places[i].first, places[i].second);
  return header + "}";
}

std::string repeat(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; i++) result += text;
  return result;
}

struct Malformed {
  std::string file;
  std::string error;
};

const std::string kEight(8, 'd');

void check_errors(const std::vector<Malformed>& table) {
  const ScratchFolder folder;
  const std::string path = folder / "lies";
  for (const auto& [bytes, expected] : table) {
    write_whole(path, bytes);
    const std::string error = error_of([&] { SafetensorsFile file(path); });
    CHECK_THAT(error, Catch::StartsWith("[safetensors] \"" + path + "\"") && Contains(expected) && Contains("; "));
    CHECK(error.size() < 800);
  }
}

}  // namespace

TEST_CASE("safetensors: what is no file at all", "[safetensors]") {
  const ScratchFolder folder;
  const std::string path = folder / "x";
  CHECK(error_of([&] { SafetensorsFile file(path); }) ==
        "[safetensors] cannot open \"" + path + "\": No such file or directory; check the path and its permissions");
  CHECK(error_of([&] { SafetensorsFile file(folder.path()); }) ==
        "[safetensors] \"" + folder.path() + "\" is a folder, expected a regular file; give the path of a file");
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  CHECK_THAT(error_of([&] { SafetensorsFile file(path); }), Contains("is no regular file, expected a regular file"));
  CHECK_THAT(error_of([&] { SafetensorsFile file("/dev/zero"); }), Contains("is no regular file"));
}

TEST_CASE("safetensors: lengths that lie", "[safetensors]") {
  check_errors({
      {"", "is empty"},
      {"12345", "is truncated: got 5 bytes, expected 8 for the header's length alone"},
      {file_of("{}", "", 3), "is truncated: got 2 bytes after the header's length, expected a header of 3"},
      {file_of("{}", "", 99'000'000), "is truncated: got 2 bytes after the header's length, expected a header of 990"},
      {file_of("{}", "", 100'000'001), "got a header of 100000001 bytes, expected at most 100000000"},
      {file_of("{}", "", UINT64_MAX), "got a header of 18446744073709551615 bytes, expected at most 100000000"},
      {file_of(""), "header: got nothing, expected an opening brace"},
      {file_of(" {}"), "header: got \" \", expected an opening brace"},
      {file_of("[]"), "header: got \"[\", expected an opening brace"},
      {file_of(entry(), kEight.substr(1)),
       "entry \"x\": truncated file: got 7 bytes of data, expected at least 8 to hold this entry"},
      {file_of(entry(), kEight + "!"), "trailing bytes that belong to no entry: got 9 bytes of data, expected 8"},
      {file_of("{}", "!"), "trailing bytes that belong to no entry: got 1 bytes of data, expected 0"},
  });
}

TEST_CASE("safetensors: headers that are not JSON", "[safetensors]") {
  check_errors({
      {file_of("{"), "header: not valid JSON at byte 2: "},
      {file_of("{} {}"), "header: not valid JSON at byte 4: "},
      {file_of("{}x"), "header: not valid JSON at byte 3: "},
      {file_of(std::string("{}\0{", 4)), "header: got a zero byte at byte 3, expected JSON"},
      {file_of("{'x':1}"), "header: not valid JSON"},
      {file_of("{} // comment"), "header: not valid JSON"},
      {file_of(R"({"x":{"dtype":"F32","shape":[2,],"data_offsets":[0,8]}})", kEight),
       "entry \"x\": not valid JSON at byte 32: "},
      {file_of(entry().substr(0, 30), kEight), "entry \"x\": not valid JSON at byte 31: "},
      {file_of("{\"bad\xff\":1}"),
       "header: not valid JSON at byte 6: syntax error while parsing object key - invalid string: ill-formed UTF-8 "
       "byte"},
      {file_of("{\"cut\xe2\x88\":1}"),
       "header: not valid JSON at byte 8: syntax error while parsing object key - invalid string: ill-formed UTF-8 "
       "byte"},
      {file_of("{\"long\xc0\xaf\":1}"), "ill-formed UTF-8 byte"},
      {file_of(R"({"half \ud800":1})"), "not valid JSON at byte"},
      {file_of("{\"escape\x1b\":1}"), "control character U+001B (ESC) must be escaped"},
      {file_of("{\"" + std::string(100'000, 'y')), "not valid JSON at byte 100003"},
  });
}

TEST_CASE("safetensors: depth bombs", "[safetensors]") {
  constexpr int kDeep = 1'000'000;
  check_errors({
      {file_of(entry("\"F32\"", repeat("[", kDeep))), "entry \"x\": shape: got an array, expected a whole number"},
      {file_of(entry("\"F32\"", repeat("[", kDeep) + repeat("]", kDeep))),
       "entry \"x\": shape: got an array, expected"},
      {file_of(R"({"x":)" + repeat("[", kDeep)), "value of \"x\": got an array, expected a JSON object"},
      {file_of(repeat(R"({"x":)", kDeep)), "entry \"x\": unknown field: got \"x\""},
      {file_of(repeat(R"({"__metadata__":)", kDeep)), "value of \"__metadata__\": got an object, expected a string"},
      {file_of(R"({"x":{"dtype":)" + repeat(R"({"dtype":)", kDeep)),
       "dtype: got an object, expected the name of a dtype"},
  });
}

TEST_CASE("safetensors: entries of the wrong form", "[safetensors]") {
  check_errors({
      {file_of(R"({"x":1})"), "header: value of \"x\": got the number 1, expected a JSON object"},
      {file_of(R"({"x":null})"), "header: value of \"x\": got null, expected a JSON object"},
      {file_of(R"({"__metadata__":[]})"), "header: value of \"__metadata__\": got an array, expected a JSON object"},
      {file_of(R"({"__metadata__":{"k":1}})"), "__metadata__: value of \"k\": got the number 1, expected a string"},
      {file_of(R"({"__metadata__":{"k":{}}})"), "__metadata__: value of \"k\": got an object, expected a string"},
      {file_of(R"({"__metadata__":{"k":"1","k":"2"}})"), "__metadata__: the key \"k\" appears twice"},
      {file_of(R"({"__metadata__":{},"__metadata__":{}})"), "header: the key \"__metadata__\" appears twice"},
      {file_of(R"({"x":{}})"), "entry \"x\": the field dtype is missing"},
      {file_of(R"({"x":{"dtype":"F32","data_offsets":[0,8]}})", kEight), "entry \"x\": the field shape is missing"},
      {file_of(R"({"x":{"dtype":"F32","shape":[2]}})", kEight), "entry \"x\": the field data_offsets is missing"},
      {file_of(R"({"x":{"dtype":"F32","dtype":"F32"}})"), "entry \"x\": the field dtype appears twice"},
      {file_of(R"({"x":{"extra":1}})"), "unknown field: got \"extra\", expected dtype, shape and data_offsets"},
      {file_of(layout({{0, 4}}).insert(1, layout({{0, 4}}).substr(1, layout({{0, 4}}).size() - 2) + ","), "data"),
       "header: the key \"a\" appears twice, expected once"},
      {file_of(entry("\"F31\""), kEight), "entry \"x\": unknown dtype: got \"F31\", expected one of the format's"},
      {file_of(entry("\"f32\""), kEight), "entry \"x\": unknown dtype: got \"f32\""},
      {file_of(entry("32"), kEight), "entry \"x\": dtype: got the number 32, expected the name of a dtype"},
      {file_of(entry("[\"F32\"]"), kEight), "entry \"x\": dtype: got an array, expected the name of a dtype"},
      {file_of(R"({"\u001b[31m)" + std::string(10'000, 'y') + R"(":1})"), "value of \"\\u001b[31myyyy"},
  });
}

TEST_CASE("safetensors: shapes that lie", "[safetensors]") {
  const auto shaped = [](const std::string& shape) { return file_of(entry("\"F32\"", shape), kEight); };
  check_errors({
      {shaped("2"), "entry \"x\": shape: got the number 2, expected an array of sizes"},
      {shaped("{}"), "entry \"x\": shape: got an object, expected an array of sizes"},
      {shaped("[\"2\"]"), "entry \"x\": shape: got the string \"2\", expected a whole number from 0 to"},
      {shaped("[-2]"), "entry \"x\": shape: got the number -2, expected a whole number from 0 to 9223372036854775807"},
      {shaped("[2.0]"), "entry \"x\": shape: got the number \"2.0\", expected a whole number"},
      {shaped("[true]"), "entry \"x\": shape: got true, expected a whole number"},
      {shaped("[null]"), "entry \"x\": shape: got null, expected a whole number"},
      {shaped("[9223372036854775808]"), "shape: got the number 9223372036854775808, expected a whole number"},
      {shaped("[99999999999999999999]"), "shape: got the number \"99999999999999999999\", expected a whole number"},
      {shaped("[9223372036854775807]"), "shape (9223372036854775807) of F32: got a size that overflows"},
      {shaped("[2147483648,2147483648,2]"), "shape (2147483648, 2147483648, 2) of F32: got a size that overflows"},
      {shaped("[4294967296,4294967296,0]"), "got a size that overflows"},
      {shaped("[3]"), "data_offsets [0, 8]: got 8 bytes, expected 12 for shape (3) of F32"},
      {shaped("[]"), "data_offsets [0, 8]: got 8 bytes, expected 4 for shape () of F32"},
      {shaped("[2,0]"), "data_offsets [0, 8]: got 8 bytes, expected 0 for shape (2, 0) of F32"},
      {shaped("[2" + repeat(",1", 64) + "]"), "shape: got more than 64 dimensions"},
      {file_of(entry("\"F4\"", "[3]", "[0,1]"), "d"), "shape (3) of F4: got a size that overflows or is no whole"},
      {file_of(entry("\"F64\""), kEight), "data_offsets [0, 8]: got 8 bytes, expected 16 for shape (2) of F64"},
  });
}

TEST_CASE("safetensors: offsets that lie", "[safetensors]") {
  const auto placed = [](const std::string& offsets) { return file_of(entry("\"F32\"", "[2]", offsets), kEight); };
  check_errors({
      {placed("8"), "entry \"x\": data_offsets: got the number 8, expected an array of two offsets"},
      {placed("[]"), "entry \"x\": data_offsets: got 0 numbers, expected 2"},
      {placed("[8]"), "entry \"x\": data_offsets: got 1 numbers, expected 2"},
      {placed("[0,8,8]"), "entry \"x\": data_offsets: got more than 2 numbers, expected 2"},
      {placed("[-8,0]"), "entry \"x\": data_offsets: got the number -8, expected a whole number"},
      {placed("[8,0]"), "entry \"x\": data_offsets: got [8, 0], expected the begin before the end"},
      {placed("[0,9]"), "entry \"x\": data_offsets [0, 9]: got 9 bytes, expected 8"},
      {placed("[1,9]"), "entry \"x\": truncated file: got 8 bytes of data, expected at least 9"},
      {placed("[9223372036854775799,9223372036854775807]"), "expected at least 9223372036854775807 to hold this entry"},
      {placed("[0,18446744073709551615]"), "data_offsets: got the number 18446744073709551615, expected a whole"},
      {file_of(layout({{4, 8}}), kEight),
       "entry \"a\" leaves a hole after the start of the data: got begin 4, expected 0"},
      {file_of(layout({{0, 3}, {4, 8}}), kEight),
       "entry \"b\" leaves a hole after entry \"a\": got begin 4, expected 3"},
      {file_of(layout({{0, 5}, {4, 8}}), kEight), "entry \"b\" overlaps entry \"a\": got begin 4, expected 5"},
      {file_of(layout({{0, 8}, {0, 8}}), kEight), "overlaps entry \"a\": got begin 0, expected 8"},
      {file_of(layout({{0, 8}, {2, 6}}), kEight), "entry \"b\" overlaps entry \"a\": got begin 2, expected 8"},
      {file_of(layout({{0, 8}, {4, 4}}), kEight), "entry \"b\" overlaps entry \"a\": got begin 4, expected 8"},
      {file_of(layout({{0, 4}, {4, 7}}), kEight),
       "trailing bytes that belong to no entry: got 8 bytes of data, expected 7"},
  });
}

TEST_CASE("safetensors: unusual files that are right", "[safetensors]") {
  const ScratchFolder folder;
  for (const std::string& bytes :
       {file_of("{}"), file_of("{}\n\t "), file_of(R"({"__metadata__":{}})"), file_of(layout({{4, 8}, {0, 4}}), kEight),
        file_of(layout({{8, 8}, {0, 8}, {0, 0}}), kEight), file_of(entry("\"F4\"", "[4,4]"), kEight),
        file_of("{ \"x\" : { \"data_offsets\" : [ 0 , 8 ] , \"shape\" : [ 2 ] , \"dtype\" : \"\\u00463\\u0032\" } }",
                kEight)}) {
    write_whole(folder / "x", bytes);
    CHECK(error_of([&] { SafetensorsFile file(folder / "x"); }) == "(no error)");
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // these reserve terabytes of address space
TEST_CASE("safetensors: nothing is allocated on the header's word", "[safetensors]") {
  const ScratchFolder folder;
  const auto opens_in_32_mib = [&](const std::string& bytes) {
    write_whole(folder / "x", bytes);
    return wait_for(start_child([&] {
      std::uint64_t pages = 0;
      std::ifstream("/proc/self/statm") >> pages;
      const rlim_t bytes_now = pages * std::uint64_t(sysconf(_SC_PAGESIZE));
      const rlimit limit = {bytes_now + (32 << 20), bytes_now + (32 << 20)};
      if (setrlimit(RLIMIT_AS, &limit) != 0) throw 0;
      SafetensorsFile file(folder / "x");
    }));
  };
  // 1: a lem::Error; std::bad_alloc would be 2.
  CHECK(opens_in_32_mib(file_of("{}", "", 99'000'000)) == 1);
  CHECK(opens_in_32_mib(file_of(entry("\"F32\"", "[1099511627776]", "[0,4398046511104]"), kEight)) == 1);
  CHECK(opens_in_32_mib(file_of(entry("\"F32\"", repeat("[", 4'000'000)))) == 1);
  CHECK(opens_in_32_mib(file_of(entry("\"F32\"", fmt::format("[{}2]", repeat("1,", 4'000'000))))) == 1);
  CHECK(opens_in_32_mib(file_of("{}")) == 0);
}
#endif

TEST_CASE("safetensors: mutated files are read or refused, nothing else", "[safetensors]") {
  const ScratchFolder folder;
  const float floats[6] = {1, 2, 3, 4, 5, 6};
  const double scalar = 7;
  SafetensorsWriter writer;
  writer.set_metadata("step", "1000");
  writer.set_metadata("configuration", R"({"layers": 3, "name": "∞"})");
  writer.add("embedding.weight", {2, 3}, floats);
  writer.add("head.bias", {3}, floats);
  writer.add("scalar", {}, &scalar);
  writer.add("empty", {0, 4}, floats);
  writer.write(folder / "valid");
  const std::string valid = read_whole(folder / "valid");
  REQUIRE(valid.size() > 350);

  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return std::size_t(random() % n); };
  const std::string likely = R"({}[]",:0123456789-.eE\ )";  // what hits the header's grammar
  int good = 0, refused = 0;
  for (int i = 0; i < 6000; i++) {
    std::string bytes = valid;
    for (std::size_t changes = 1 + below(4); changes > 0; changes--) {
      const std::size_t at = below(bytes.size());
      switch (below(6)) {
        case 0:
          bytes[at] = char(bytes[at] ^ (1 << below(8)));
          break;
        case 1:
          bytes[at] = char(below(256));
          break;
        case 2:
          bytes[at] = likely[below(likely.size())];
          break;
        case 3:
          bytes.insert(at, 1, likely[below(likely.size())]);
          break;
        case 4:
          bytes.erase(at, 1 + below(8));
          break;
        case 5:
          if (below(4) == 0) bytes.resize(1 + at);
          break;
      }
      if (bytes.empty()) bytes.push_back('x');
    }
    write_whole(folder / "x", bytes);
    try {
      const SafetensorsFile file(folder / "x");
      for (const std::string& name : file.names()) {
        const Entry& entry = file.entry(name);
        REQUIRE(entry.end - entry.begin <= bytes.size());
        std::vector<char> data(entry.end - entry.begin);
        file.read(name, data.data(), entry.dtype, entry.shape);
      }
      good++;
    } catch (const Error& error) {
      if (std::string(error.what()).rfind("[safetensors] \"", 0) != 0) FAIL(error.what());
      refused++;
    }
  }
  CHECK(good > 100);
  CHECK(refused > 1000);
}
