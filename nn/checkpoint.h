// Checkpoints: one safetensors file with everything that training needs to go on exactly. Weights carry their own
// names, so that the file also is the model, to be read by any safetensors library.
//
//   <parameter>                     the weights
//   optimizer.m.<parameter>, .v.…   Adam's moments
//   state.…                         memory states, where a run carries them (nn/state.h)
//   metadata "format"               kCheckpointFormat
//   metadata "config", "progress"   JSON: the full configuration; the step, place in the data, …
//
// Files appear whole or not at all (tensor/io/safetensors.h): a kill or a full disk leaves the previous checkpoint as
// it was.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "nn/optimizer.h"
#include "tensor/io/safetensors.h"

namespace lem {

inline constexpr const char* kCheckpointFormat = "lemniscate-checkpoint-1";

/// Puts a tensor into a file being written; its numbers are fetched from the device when the file is.
void add_tensor(SafetensorsWriter& writer, const std::string& name, const Tensor& tensor);

/// `optimizer` may be null (weights alone). `extra`, if given, adds more tensors (memory states).
void save_checkpoint(const std::string& path, const Parameters& parameters, const Adam* optimizer,
                     const nlohmann::ordered_json& config, const nlohmann::ordered_json& progress,
                     const std::function<void(SafetensorsWriter&)>& extra = {});

class Checkpoint {
 public:
  /// Opens and validates; an Error names the file and what is wrong with it.
  explicit Checkpoint(const std::string& path);

  /// Weights into a model of the same parameters. An Error names the first that is missing, left over, or of another
  /// shape.
  void load(const Parameters& parameters) const;
  /// The optimiser's moments and step count.
  void load(Adam& optimizer, const Parameters& parameters) const;

  const SafetensorsFile& file() const { return file_; }
  nlohmann::json config, progress;

 private:
  std::string path_;
  SafetensorsFile file_;
};

}  // namespace lem
