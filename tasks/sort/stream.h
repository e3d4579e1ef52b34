// Attention to an unbounded past at a fixed price: feeding a model one endless document and watching what it costs.
#pragma once

#include <functional>
#include <string>

#include "tasks/sort/model.h"

namespace lem {

/// One line of the report.
struct StreamReport {
  int64_t tokens;          // read so far
  double ms_per_segment;   // median over the segments since the last report
  int64_t resident_bytes;  // of this process
  int64_t state_bytes;     // what the model carries from segment to segment
  int64_t memory_vectors;  // stored in the first layer's long-term memory so far
};

/// Feeds `tokens` tokens through the model in segments of o.segment, and reports each time the count has grown tenfold
/// (from the first power of ten that is 10 segments away), and at the end.
void stream_sort(const Model& model, const SortOptions& o, int64_t tokens,
                 const std::function<void(const StreamReport&)>& report);

}  // namespace lem
