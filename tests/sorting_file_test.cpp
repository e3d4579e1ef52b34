#include "data/sorting_file.h"

#include <fstream>
#include <numeric>
#include <set>

#include "tensor/io/files.h"
#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;
using Tokens = std::vector<int32_t>;

namespace {

/// What opening a file with this content says, symbols 0 … 4.
std::string error_for(const std::string& content) {
  const ScratchFolder folder;
  std::ofstream(folder / "data.txt") << content;
  const std::string message = error_of([&] { SortingFile(folder / "data.txt", 5); });
  return message.starts_with("[sorting] " + (folder / "data.txt")) ? message.substr(10 + folder.path().size() + 1)
                                                                   : message;
}

}  // namespace

TEST_CASE("generated files read back as the samples they were written from", "[sorting]") {
  const ScratchFolder folder;
  std::vector<int64_t> written;
  write_sorting_file(folder / "data.txt", 9, Split::validation, 30, 8, 257, [&](int64_t n) { written.push_back(n); });
  CHECK(written.size() == 30);
  CHECK(written.back() == 30);
  const SortingFile file(folder / "data.txt", 8);
  CHECK(file.size() == 30);
  CHECK(file.length() == 257);
  for (const int64_t i : {0, 29, 13, 13}) {
    const SortingSample expected = sorting_sample(9, Split::validation, i, 8, 257);
    CHECK(file.sample(i).tokens == expected.tokens);
    CHECK(file.sample(i).sorted == expected.sorted);
  }
  CHECK_THAT(error_of([&] { file.sample(30); }), Contains("sequence 30 asked for, the file has 30"));
  CHECK_THAT(error_of([&] { file.sample(-1); }), Contains("sequence -1 asked for"));
}

TEST_CASE("the text is one sequence a line, symbols separated by single spaces", "[sorting]") {
  const ScratchFolder folder;
  write_sorting_file(folder / "a", 1, Split::train, 2, 20, 3);
  const Tokens a = sorting_sample(1, Split::train, 0, 20, 3).tokens,
               b = sorting_sample(1, Split::train, 1, 20, 3).tokens;
  CHECK(read_text(folder / "a") == fmt::format("{} {} {}\n{} {} {}\n", a[0], a[1], a[2], b[0], b[1], b[2]));
}

TEST_CASE("files made by others: Windows line ends, tabs, stray spaces, no last line end", "[sorting]") {
  const ScratchFolder folder;
  for (const std::string content :
       {"0 1 2\n3 4 0\n", "0 1 2\r\n3 4 0\r\n", "0\t1 2 \n  3   4 0", "0 1 2\r\n3 4 0\r", "00 01 02\n3 4 0\n",
        "\xEF\xBB\xBF"
        "0 1 2\r\n3 4 0\r\n",
        "0 1 2\n3 4 0\n\n", "0 1 2\r\n3 4 0\r\n\r\n \n"}) {
    std::ofstream(folder / "a") << content;
    const SortingFile file(folder / "a", 5);
    CHECK(file.size() == 2);
    CHECK(file.length() == 3);
    CHECK(file.sample(0).tokens == Tokens{0, 1, 2});
    CHECK(file.sample(1).tokens == Tokens{3, 4, 0});
  }
}

TEST_CASE("wrong content is refused with file and line", "[sorting]") {
  CHECK(error_for("") == "data.txt: the file is empty; expected one sequence a line");
  CHECK(error_for("\xEF\xBB\xBF") == "data.txt: the file is empty; expected one sequence a line");
  CHECK(error_for("\n\n") == "data.txt: the file is empty; expected one sequence a line");
  CHECK(error_for("\n0 1\n") == "data.txt:1: empty line; expected a sequence of symbols: remove the line");
  CHECK_THAT(error_for("0 1\n\n0 1\n"), Contains("data.txt:2: empty line"));
  CHECK_THAT(error_for("0 1\n \r\n1 0\n"), Contains("data.txt:2: empty line"));
  CHECK_THAT(error_for("0 1\n1 0\n0 1 2\n"),
             Contains("data.txt:3: got 3 symbols, expected 2 as in line 1: all lines must be equally long"));
  CHECK_THAT(error_for("0 1\n1"), Contains("data.txt:2: got 1 symbols, expected 2"));
  CHECK(error_for("0 1\n1 5\n") ==
        "data.txt:2: symbol out of range: got 5 as symbol 2, expected 0 … 4; does --symbols match the file?");
  CHECK_THAT(error_for("0 -1\n"), Contains("data.txt:1: symbol out of range: got -1 as symbol 2"));
  CHECK_THAT(error_for("0 99999999999999999999\n"), Contains("out of range: got 99999999999999999999 as symbol 2"));
  CHECK(error_for("0 1\n1 x\n") ==
        "data.txt:2: not a number: got \"x\" as symbol 2, expected 0 … 4 separated by spaces");
  CHECK_THAT(error_for("0,1,2\n"), Contains("data.txt:1: not a number: got \"0,1,2\" as symbol 1"));
  CHECK_THAT(error_for("0 1.0\n"), Contains("not a number: got \"1.0\""));
  CHECK_THAT(error_for("0 +1\n"), Contains("not a number: got \"+1\""));
  CHECK_THAT(error_for(std::string(100, 'x')), Contains("got \"xxxxxxxxxxxxxxxxxxxxxxxx…\" as symbol 1"));
  CHECK_THAT(error_for(std::string("0 \0 1\n", 6)), Contains("got \"?\" as symbol 2"));
}

TEST_CASE("paths that are no sequence files are refused", "[sorting]") {
  const ScratchFolder folder;
  CHECK_THAT(error_of([&] { SortingFile(folder / "none", 5); }), Contains("No such file"));
  CHECK_THAT(error_of([&] { SortingFile(folder.path(), 5); }), Contains("Is a directory"));
  CHECK_THAT(error_of([&] { SortingFile("/dev/null", 5); }), Contains("/dev/null is not a plain file"));
  CHECK_THAT(error_of([&] { write_sorting_file(folder / "none/a", 1, Split::train, 1, 8, 9); }),
             Contains("No such file"));
  CHECK_THAT(error_of([&] { write_sorting_file(folder / "a", 1, Split::train, 0, 8, 9); }),
             Contains("sequences to generate: got 0"));
  CHECK_THAT(error_of([&] { write_sorting_file(folder / "a", 1, Split::train, 1, 1, 9); }), Contains("symbols: got 1"));
  CHECK(folder.entries() == 0);
}

TEST_CASE("a file that changes while it is read is noticed", "[sorting]") {
  const ScratchFolder folder;
  std::ofstream(folder / "a") << "0 1 2\n3 4 0\n";
  const SortingFile file(folder / "a", 5);
  std::ofstream(folder / "a") << "0 1 2\n3";
  CHECK_THAT(error_of([&] { file.sample(1); }),
             Contains("a:2: the file has changed since it was opened: got 1 symbols"));
}

TEST_CASE("lines longer than a chunk, and chunks that end inside a number", "[sorting]") {
  const ScratchFolder folder;
  write_sorting_file(folder / "a", 2, Split::train, 3, 1000, 400000);  // 1.6 MB a line
  const SortingFile file(folder / "a", 1000);
  CHECK(file.length() == 400000);
  CHECK(file.sample(2).tokens == sorting_sample(2, Split::train, 2, 1000, 400000).tokens);
}

TEST_CASE("a shuffle is a permutation, each its own", "[sorting]") {
  for (const int64_t n : {1, 2, 3, 31, 33, 64, 257, 1000}) {
    std::set<int64_t> seen;
    for (int64_t i = 0; i < n; ++i) seen.insert(shuffled(5, 0, i, n));
    CHECK(int64_t(seen.size()) == n);
    CHECK(*seen.begin() == 0);
    CHECK(*seen.rbegin() == n - 1);
  }
  // Over many permutations every place receives every number equally often: chi-square, 15 · 16 degrees of freedom.
  constexpr int kPlaces = 16, kPermutations = 4000;
  std::vector<double> found(kPlaces * kPlaces, 0);
  for (int which = 0; which < kPermutations; ++which)
    for (int i = 0; i < kPlaces; ++i) ++found[i * kPlaces + shuffled(5, which, i, kPlaces)];
  double chi2 = 0;
  const double expected = double(kPermutations) / kPlaces;
  for (const double f : found) chi2 += (f - expected) * (f - expected) / expected;
  CHECK(std::abs(chi2 - 240) <= 5 * std::sqrt(480.0));
  CHECK_THAT(error_of([] { shuffled(1, 0, 4, 4); }), Contains("place 4 of 4"));
}

TEST_CASE("data by number: drawn without end, or a file's lines over and over", "[sorting]") {
  const SortingData drawn = SortingData::drawn(3, Split::test, 8, 50);
  CHECK(drawn.size() == 0);
  CHECK(drawn.length() == 50);
  CHECK(drawn.sample(1000000).tokens == sorting_sample(3, Split::test, 1000000, 8, 50).tokens);

  const ScratchFolder folder;
  write_sorting_file(folder / "a", 3, Split::train, 11, 8, 40);
  const SortingData in_order = SortingData::file(folder / "a", 8);
  CHECK(in_order.size() == 11);
  CHECK(in_order.length() == 40);
  CHECK(in_order.sample(13).tokens == sorting_sample(3, Split::train, 2, 8, 40).tokens);
  CHECK_THAT(error_of([&] { in_order.sample(-1); }), Contains("[sorting]"));

  const SortingData mixed = SortingData::file(folder / "a", 8, 17);
  std::vector<Tokens> first_epoch, second_epoch;
  for (int64_t i = 0; i < 11; ++i) first_epoch.push_back(mixed.sample(i).tokens);
  for (int64_t i = 11; i < 22; ++i) second_epoch.push_back(mixed.sample(i).tokens);
  CHECK(first_epoch != second_epoch);
  CHECK(std::set(first_epoch.begin(), first_epoch.end()) == std::set(second_epoch.begin(), second_epoch.end()));
  CHECK(std::set(first_epoch.begin(), first_epoch.end()).size() == 11);
}
