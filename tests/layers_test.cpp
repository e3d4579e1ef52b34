// Who may use whom: every #include of the project against the order of its folders (docs/architecture.md, "The
// layers").
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "tests/catch.h"
#include "tests/file_helpers.h"

namespace lem {
namespace {

namespace fs = std::filesystem;

using Folders = std::set<std::string>;

/// What each folder may include beside itself.
const std::map<std::string, Folders>& allowed() {
  static const std::map<std::string, Folders> all = [] {
    const Folders tensor = {"tensor"};
    Folders nn = {"tensor", "tensor/io", "autograd"}, models, data = {"tensor", "tensor/io"}, common, sort;
    models = nn, models.insert("nn");
    common = models, common.insert({"models", "data"});
    sort = common, sort.insert("tasks/common");
    return std::map<std::string, Folders>{{"tensor", {"tensor/cpu"}},  // its backend's table of kernels
                                          {"tensor/cpu", tensor},     {"tensor/io", tensor}, {"cuda", tensor},
                                          {"cuda/simt", tensor},      {"autograd", tensor},  {"nn", nn},
                                          {"models", models},         {"data", data},        {"tasks/common", common},
                                          {"tasks/sort", sort}};
  }();
  return all;
}

/// The includes of a file that its folder may not have.
std::string forbidden(const std::string& folder, const std::string& text, const Folders& may) {
  static const std::regex include("(?:^|\\n) *#include \"([^\"]+)/[^\"/]+\"");
  std::string found;
  for (std::sregex_iterator at(text.begin(), text.end(), include), end; at != end; ++at) {
    const std::string from = (*at)[1];
    const bool cuda = folder.starts_with("cuda") && from.starts_with("cuda");
    if (from != folder && !may.count(from) && !cuda) found += from + " ";
  }
  return found;
}

TEST_CASE("the check for who may use whom sees what is forbidden", "[docs]") {
  CHECK(forbidden("nn", "#include \"nn/basis.h\"\n#include \"models/documents.h\"\n", {}) == "models ");
  CHECK(forbidden("nn", "#include <vector>\n  #include \"tensor/tensor.h\"", {"tensor"}).empty());
}

TEST_CASE("a folder uses those before it and none behind", "[docs]") {
  int files = 0;
  for (const auto& [folder, may] : allowed())
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string end = entry.path().extension();
      if (end != ".cpp" && end != ".h" && end != ".cu") continue;
      INFO(entry.path().string());
      CHECK(forbidden(folder, test::read_whole(entry.path()), may).empty());
      ++files;
    }
  CHECK(files > 100);
  for (const char* room : {"tensor", "autograd", "nn", "models", "data", "tasks", "cuda"})  // no room is forgotten
    for (const auto& entry : fs::recursive_directory_iterator(room))
      if (entry.is_regular_file() && entry.path().extension() == ".cpp") {
        const std::string folder = entry.path().parent_path();
        INFO(folder);
        CHECK((allowed().count(folder) || folder.starts_with("cuda/")));
      }
}

}  // namespace
}  // namespace lem
