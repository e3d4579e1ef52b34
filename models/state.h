// Saving and restoring what a model remembers: short-term states, coefficients, densities, counts, and where its rows
// draw their random numbers from.
#pragma once

#include "models/transformer_xl.h"
#include "tensor/io/safetensors.h"

namespace lem {

/// Adds the state to a file being written, under "state.…".
void add_state(SafetensorsWriter& writer, const State& state);
/// The state in a file, on a device. Every part is checked against the model and the others: shapes, counts, numbers
/// that are not finite, rows that should be empty. An Error names the file and the part that does not fit.
State read_state(const SafetensorsFile& file, const TransformerXL& model, Device device);

}  // namespace lem
