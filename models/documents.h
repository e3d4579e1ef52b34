// Reading a batch of documents with a model that remembers: segment by segment, the state carried across. Losses and
// gradients come from the segments that hold targets; the earlier ones only fill the memories.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/model.h"

namespace lem {

/// B documents of n tokens, one a row.
struct DocumentBatch {
  int64_t B = 0, n = 0;
  uint64_t first = 0;            // the number of row 0's document among all that the run reads; the other rows' follow
  std::vector<int32_t> tokens;   // (B, n)
  std::vector<int32_t> targets;  // (B, n): what the model should say at each token; < 0: not scored
};

/// What a loss is the mean over. Of a batch that is read in parts (gradients add up) each part is given the whole's.
struct BatchSize {
  int64_t rows = 0, scored = 0;  // documents; tokens with a target

  BatchSize& operator+=(const BatchSize& other) {
    rows += other.rows, scored += other.scored;
    return *this;
  }
};
BatchSize size_of(const DocumentBatch& batch);

/// What came of a batch. Numbers stay on the device until they are asked for.
class BatchResult {
 public:
  /// Mean cross entropy per scored token, natural logarithm, without auxiliary losses. Waits for the device.
  double loss() const;
  /// By name, Σ over the segments that hold targets of each auxiliary loss, not yet times its weight. Waits for the
  /// device.
  std::map<std::string, double> auxiliary() const;
  int64_t scored() const { return scored_; }
  int64_t tokens() const { return tokens_; }
  /// How many scored tokens the model's first choice got right.
  int64_t correct() const;
  /// Adds another part of the same batch.
  void add(const BatchResult& part);

 private:
  friend BatchResult read_documents(const Model&, const DocumentBatch&, int64_t, const Pass&, bool, State*,
                                    const BatchSize*);
  std::map<std::string, std::vector<Tensor>> auxiliary_;  // each (1), of a part's segment
  int64_t scored_ = 0, tokens_ = 0;
  // Of each segment that holds targets, (B, outputs):
  std::vector<Tensor> losses_;  // 0 where nothing is scored
  std::vector<Tokens> predicted_;
  std::vector<std::vector<int32_t>> targets_;
};

/// Reads the batch in segments of T tokens. With `learn`, adds to the parameters' gradients those of
///   loss = Σ cross entropy / scored tokens + Σ_segments Σ weight · auxiliary loss,
/// where an auxiliary loss is a mean over rows, and `whole`, if given, says of what batch this one is a part, whose
/// scored tokens and rows count. One backward per segment that holds targets. `state`, if given, is used and moved on;
/// else a new one, in which document number i draws from pass.random->child(i). Dropout takes the next streams of
/// pass.random, and of these each document the draws of its own number. So however documents are cut into batches, they
/// draw the same.
BatchResult read_documents(const Model& model, const DocumentBatch& batch, int64_t T, const Pass& pass, bool learn,
                           State* state = nullptr, const BatchSize* whole = nullptr);

}  // namespace lem
