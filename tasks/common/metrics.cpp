#include "tasks/common/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tensor/error.h"
#include "tensor/io/files.h"
#include "tensor/io/json.h"

namespace lem {
namespace {

using nlohmann::json;

template <class Json>
bool has_step(const Json& record) {
  return record.is_object() && record.contains("step") && record["step"].is_number_integer();
}

/// Calls use(record, bytes up to and with its line) for each whole line until use returns false. Streams: the file may
/// be long.
template <class Use>
void each_record(const std::string& path, Use use) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_file("read", path, errno);
  std::string line;
  int64_t end = 0, bad = 0;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    // What a kill can leave is a last line without its end, or, after a power failure, a last line of anything.
    check(bad == 0, "[metrics] {}:{}: no record with a step; mend or remove this line", path, bad);
    const json record = nests_too_deep(line) ? json() : json::parse(line, nullptr, false);
    if (file.eof() || !has_step(record)) {
      bad = number;
      continue;
    }
    end += int64_t(line.size()) + 1;
    if (!use(record, end)) return;
  }
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path, int64_t step) : path_(path) {
  int64_t keep = 0;
  if (step >= 0 && ::access(path.c_str(), F_OK) == 0)
    each_record(path, [&](const json& record, int64_t end) {
      if (record["step"].get<int64_t>() > step) return false;
      keep = end;
      return true;
    });
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_file("write", path, errno);
  if (::ftruncate(descriptor_, keep) != 0) {
    const int code = errno;
    ::close(descriptor_);
    fail_file("write", path, code);
  }
}

MetricsFile::~MetricsFile() { ::close(descriptor_); }

void MetricsFile::append(const nlohmann::ordered_json& record) {
  // JSON has no NaN: dump() writes null for what is not finite. The line goes out in one call, behind whatever is
  // there.
  const std::string line = record.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  check(has_step(record), "[metrics] {}: a record needs an integer \"step\": got {}", path_, line);
  const off_t before = ::lseek(descriptor_, 0, SEEK_END);
  try {
    write_all(descriptor_, line.data(), line.size(), path_);
  } catch (...) {  // a full disk: half a line would spoil the file
    if (before >= 0 && ::ftruncate(descriptor_, before) != 0) errno = 0;
    throw;
  }
}

void MetricsFile::sync() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail_file("write", path_, errno);
}

std::vector<json> read_metrics(const std::string& path) {
  std::vector<json> records;
  each_record(path, [&](const json& record, int64_t) {
    records.push_back(record);
    return true;
  });
  return records;
}

}  // namespace lem
