// README, chapters and comments against the tree: the files, targets and names they speak of exist, and the code they
// quote is the code.
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tensor/error.h"
#include "tests/catch.h"

namespace lem {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

bool ends_with_any(const std::string& name, std::initializer_list<const char*> ends) {
  return std::any_of(ends.begin(), ends.end(), [&](const std::string& end) { return name.ends_with(end); });
}

/// Every file of the project by its path from the root: prose (.md) and code.
std::map<std::string, std::string> project() {
  std::map<std::string, std::string> files;
  for (fs::recursive_directory_iterator at("."), end; at != end; ++at) {
    const std::string path = at->path().lexically_normal().string(), name = at->path().filename().string();
    if (at->is_directory() && (name == "build" || name == "runs" || name == ".git" || name == "golden"))
      at.disable_recursion_pending();
    else if (at->is_regular_file() && (name == "Makefile" || path == ".ci/run" ||
                                       ends_with_any(name, {".md", ".h", ".cpp", ".cu", ".py", ".sh", ".mk"})))
      files[path] = read(at->path());
  }
  if (files.size() < 100) fail("[test] run the tests from the root of the project");
  return files;
}

std::vector<std::string> matches(const std::string& text, const char* pattern, int group = 1) {
  std::vector<std::string> found;
  const std::regex regex(pattern);
  for (std::sregex_iterator at(text.begin(), text.end(), regex), end; at != end; ++at)
    found.push_back((*at)[size_t(group)]);
  return found;
}

std::string without_indent(const std::string& line) {
  const size_t begin = line.find_first_not_of(" \t");
  return begin == std::string::npos ? "" : line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1);
}

/// The lines of a text as they are compared: no indentation, no blank lines, a newline around each.
std::string bare_lines(const std::string& text) {
  std::istringstream in(text);
  std::string bare = "\n", line;
  while (std::getline(in, line))
    if (!(line = without_indent(line)).empty()) bare += line + "\n";
  return bare;
}

const std::map<std::string, std::string>& files() {
  static const std::map<std::string, std::string> all = project();
  return all;
}

TEST_CASE("files that prose and comments name exist", "[docs]") {
  const char* path =
      "(?:^|[^\\w./…-])((?:(?:tensor|cuda|autograd|nn|models|data|tasks|tests|bench|docs|examples)/)[\\w./-]*"
      "\\.(?:cpp|cuh|cu|h|py|md|svg|mk|sh))";
  for (const auto& [name, text] : files())
    for (const std::string& named : matches(text, path)) {
      INFO(name << " names " << named);
      if (named.find("NAME") == std::string::npos)  // stands for any
        CHECK((fs::exists(named) || fs::exists(fs::path(name).parent_path() / named)));
    }
  const std::regex code_block("```[^`]*```");
  for (const auto& [name, text] : files())
    if (name.ends_with(".md"))
      for (const std::string& link :
           matches(std::regex_replace(text, code_block, ""), "\\]\\(([^)#:]+)(?:#[^)]*)?\\)")) {
        INFO(name << " links to " << link);
        CHECK(fs::exists(fs::path(name).parent_path() / link));
      }
}

TEST_CASE("pages that prose and comments name are in the project", "[docs]") {
  std::set<std::string> pages;
  for (const auto& [name, text] : files())
    if (name.ends_with(".md")) pages.insert(fs::path(name).filename());
  for (const auto& [name, text] : files())
    if (!name.starts_with("tests/"))
      for (const std::string& page : matches(text, "\\b([A-Za-z][\\w-]*\\.md)\\b")) {
        INFO(name << " names " << page);
        CHECK(pages.count(page) == 1);
      }
}

TEST_CASE("sections that chapters link to exist", "[docs]") {
  const auto anchors = [](const std::string& text) {
    std::set<std::string> all;
    for (const std::string& heading : matches(text, "(?:^|\\n)#+ ([^\\n]+)")) {
      std::string anchor;
      for (const char c : heading)
        if (std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_')
          anchor += char(std::tolower(static_cast<unsigned char>(c)));
        else if (c == ' ')
          anchor += '-';
      all.insert(anchor);
    }
    return all;
  };
  for (const auto& [name, text] : files())
    if (name.ends_with(".md"))
      for (const std::string& link : matches(text, "\\]\\(([^):]*#[^)]+)\\)")) {
        const size_t hash = link.find('#');
        const fs::path target = hash == 0 ? fs::path(name) : (fs::path(name).parent_path() / link.substr(0, hash));
        INFO(name << " links to " << link);
        CHECK(anchors(read(target)).count(link.substr(hash + 1)) == 1);
      }
}

TEST_CASE("make targets that prose and comments name exist", "[docs]") {
  std::set<std::string> targets;
  for (const char* makefile : {"Makefile", "cuda/simt/simt.mk"})
    for (const std::string& line : matches(files().at(makefile), "(?:^|\\n)(?:\\.PHONY: *)?([\\w -]+):"))
      for (const std::string& target : matches(line, "([\\w-]+)")) targets.insert(target);
  for (const char* makefile : {"Makefile", "cuda/simt/simt.mk"})
    for (const std::string& line : matches(files().at(makefile), "\\n\\.PHONY: *([\\w -]+)"))
      for (const std::string& target : matches(line, "([\\w-]+)")) targets.insert(target);
  for (const auto& [name, text] : files())
    for (const std::string& target :
         matches(text, "(?:`|\\n *|# )make (?:-j\\S* )?([a-z][\\w-]*)(?:`| +[A-Z]+=|  +#|\\n)")) {
      INFO(name << " names make " << target);
      CHECK(targets.count(target) == 1);
    }
}

TEST_CASE("code that chapters quote stands in the tree", "[docs]") {
  std::string code;
  for (const auto& [name, text] : files())
    if (!name.ends_with(".md")) code += bare_lines(text);
  for (const auto& [name, text] : files())
    if (name.ends_with(".md"))
      for (const std::string& block : matches(text, "```cpp\\n([^`]*)```")) {
        // "…" stands for what a quotation leaves out
        std::istringstream in(block);
        std::string part, line;
        const auto check_part = [&, &name = name] {
          INFO(name << " quotes\n" << part);
          CHECK((bare_lines(part) == "\n" || code.find(bare_lines(part)) != std::string::npos));
          part.clear();
        };
        while (std::getline(in, line))
          if (without_indent(line) == "…")
            check_part();
          else
            part += line + "\n";
        check_part();
      }
}

TEST_CASE("tests include Catch2 in whichever version is there", "[docs]") {
  for (const auto& [name, text] : files())
    if (name.starts_with("tests/") && name != "tests/catch.h") {
      INFO(name << ": include tests/catch.h instead");
      CHECK(matches(text, "#include (<catch2/)").empty());
    }
}

TEST_CASE("names in backticks stand in the tree", "[docs]") {
  std::set<std::string> words;
  for (const auto& [name, text] : files())
    if (!name.ends_with(".md"))
      for (const std::string& word : matches(text, "([A-Za-z_]\\w*)")) words.insert(word);
  // `scale_` stands for all that begins so; a name may be made of two, of which the first ends with an underscore.
  const auto known = [&](const std::string& word) {
    if (words.count(word)) return true;
    if (word.ends_with('_') && words.lower_bound(word)->starts_with(word)) return true;
    for (size_t at = word.find('_'); at != std::string::npos; at = word.find('_', at + 1))
      if (words.count(word.substr(0, at + 1)) && words.count(word.substr(at + 1))) return true;
    return false;
  };
  for (const auto& [name, text] : files())
    if (name.ends_with(".md"))
      // identifiers that only a program would have: with an underscore, a scope, or parentheses behind them
      for (const std::string& named : matches(text, "`([A-Za-z][\\w:]*(?:\\(\\))?)`")) {
        if (named.find('_') == std::string::npos && named.find("::") == std::string::npos && !named.ends_with("()"))
          continue;
        for (const std::string& word : matches(named, "([A-Za-z_]\\w*)")) {
          INFO(name << " names " << named);
          CHECK(known(word));
        }
      }
}

}  // namespace
}  // namespace lem
