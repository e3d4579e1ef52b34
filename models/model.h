// What every model here is to those who train it, test it or let it write.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/head.h"
#include "nn/losses.h"
#include "nn/state.h"

namespace lem {

/// T steps of each of B rows' documents. A document begins at the beginning of a segment and ends anywhere.
struct Segment {
  Tokens tokens;                      // (B, T)
  std::vector<int64_t> lengths = {};  // (B): steps that are the row's document's; it ends where they are fewer than T.
                                      // 0: the row has no document. Empty: all T are.
  std::vector<uint8_t> begins = {};   // (B): does a document begin here? Empty: only where nothing was read before.
};

class Model {
 public:
  virtual ~Model() = default;

  /// The state before B documents.
  virtual std::unique_ptr<State> new_state(int64_t B) const = 0;
  /// Reads a segment and moves the state on; after an Error the state is what it was. Returns the hidden states of the
  /// last `outputs` steps, (B, outputs, C), for the head; with 0 the segment merely fills the memories, and the last
  /// layer, of which they keep the input alone, is not computed. [=] A row whose document has ended is empty
  /// afterwards.
  virtual Variable forward(const Segment& segment, State& state, const Pass& pass, int64_t outputs,
                           Losses& auxiliary) const = 0;
  /// What went wrong since the model was made and was made good, in words for the user; empty if nothing did. Waits for
  /// the device.
  virtual std::string warning() const { return {}; }

  Head head;
  Device device() const { return device_; }

 protected:
  explicit Model(Device device) : device_(device) {}

 private:
  Device device_;
};

/// Checks that a segment fits the state, clears the rows where a document begins, and gives the lengths of all rows.
/// What follows a document's end in a segment is read like anything else, but is seen by nothing that is asked for:
/// attention is causal, and end_segment clears the row.
std::vector<int64_t> begin_segment(const Segment& segment, State& state, int64_t outputs);
/// Moves the rows' ages on; rows whose document has ended are cleared.
void end_segment(const Segment& segment, const std::vector<int64_t>& lengths, State& state);

/// The state that a file holds, on the model's device (see State::load).
std::unique_ptr<State> read_state(const SafetensorsFile& file, const Model& model);

/// The state as the type that a model makes.
template <class Own>
Own& own_state(State& state, size_t layers) {
  Own* own = dynamic_cast<Own*>(&state);
  check(own != nullptr, "[model] the state is another kind of model's; take one of new_state()");
  check(own->layers.size() == layers,
        "[model] the state is another model's: got {} layers, expected {}; take one of new_state()", own->layers.size(),
        layers);
  return *own;
}

}  // namespace lem
