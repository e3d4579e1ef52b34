// A run's folder: held by one program at a time, for as long as it runs.
#pragma once

#include <string>

namespace lem {

class RunFolder {
 public:
  /// Makes the folder if it is not there and locks it. An Error if another program holds it. The lock goes with this
  /// object or with the process, however that ends.
  explicit RunFolder(const std::string& path);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  /// An Error if another folder, or none, is at the path by now: somebody moved or removed this one.
  void check_in_place() const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace lem
