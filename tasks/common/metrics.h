// metrics.jsonl: what a run measured, one JSON object a line, for people's scripts and for drawing curves.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace lem {

/// Appends lines to a metrics file. A line is in the file, whole, when append() returns: a kill loses nothing that was
/// appended. Every record has an integer "step". Numbers that are not finite become null.
///
/// A resumed run continues where its checkpoint was made, so what was appended after that is cut off: it will be
/// measured again, to the same values. Hence: append a step's records, sync(), then write the checkpoint of that step.
class MetricsFile {
 public:
  /// Begins anew, replacing what was there.
  explicit MetricsFile(const std::string& path) : MetricsFile(path, -1) {}
  /// Continues: keeps the lines of steps up to `step`, and drops a last line that a kill tore. A line in the middle
  /// that is no record is an Error that names it.
  MetricsFile(const std::string& path, int64_t step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  void append(const nlohmann::ordered_json& record);
  /// Forces the lines to the disk: they outlive a power failure, too.
  void sync();

 private:
  std::string path_;
  int descriptor_ = -1;
};

/// The records of a metrics file; a torn last line is left out.
std::vector<nlohmann::json> read_metrics(const std::string& path);

}  // namespace lem
