#include "models/state.h"

#include "nn/checkpoint.h"

namespace lem {
namespace {

/// Calls visit(name, tensor) for every tensor of the state, defined or not.
template <class AnyState, class Visit>
void visit_tensors(AnyState& state, Visit visit) {
  for (size_t l = 0; l < state.layers.size(); ++l) {
    auto& layer = state.layers[l];
    const std::string name = fmt::format("state.{}.", l);
    visit(name + "recent", layer.recent);
    visit(name + "coeffs", layer.memory.coeffs);
    visit(name + "density", layer.memory.density);
    visit(name + "base", layer.memory.base);
    for (size_t i = 0; i < layer.memory.history.size(); ++i) {
      auto& update = layer.memory.history[i];
      const std::string part = fmt::format("{}history.{}.", name, i);
      visit(part + "X", update.X);
      visit(part + "points", update.points);
      visit(part + "after", update.after);
    }
  }
}

template <class T>
void add_integers(SafetensorsWriter& writer, const std::string& name, const std::vector<T>& values) {
  // The source owns a copy: the state may move on before the file is written.
  writer.add(name, DType::I64, {int64_t(values.size())},
             [wide = std::vector<int64_t>(values.begin(), values.end())](const SafetensorsWriter::Sink& sink) {
               sink(wide.data(), wide.size() * 8);
             });
}

template <class T>
void read_integers(const SafetensorsFile& file, const std::string& name, std::vector<T>& values, size_t B) {
  std::vector<int64_t> wide(B);
  file.read(name, wide.data(), DType::I64, {int64_t(B)});
  values.assign(wide.begin(), wide.end());
}

}  // namespace

void add_state(SafetensorsWriter& writer, const State& state) {
  add_integers(writer, "state.valid", state.valid);
  for (size_t l = 0; l < state.layers.size(); ++l) {
    const MemoryState& memory = state.layers[l].memory;
    const std::string name = fmt::format("state.{}.", l);
    add_integers(writer, name + "filled", memory.filled);
    add_integers(writer, name + "count", memory.count);
    if (!memory.random.empty()) {
      std::vector<uint64_t> seeds, next;
      for (const Random& random : memory.random) seeds.push_back(random.seed), next.push_back(random.next);
      add_integers(writer, name + "random.seed", seeds), add_integers(writer, name + "random.next", next);
    }
    for (size_t i = 0; i < memory.history.size(); ++i) {
      add_integers(writer, fmt::format("{}history.{}.filled", name, i), memory.history[i].filled);
      add_integers(writer, fmt::format("{}history.{}.newcomers", name, i), memory.history[i].newcomers);
    }
  }
  visit_tensors(state, [&](const std::string& name, const Tensor& tensor) {
    if (tensor.defined()) add_tensor(writer, name, tensor);
  });
}

State read_state(const SafetensorsFile& file, const TransformerXL& model, Device device) {
  const Entry& rows = file.entry("state.valid");
  check(rows.shape.size() == 1, "[state] state.valid must be a list of batch rows: got rank {}", rows.shape.size());
  const size_t B = size_t(rows.shape[0]);
  State state = model.new_state(int64_t(B));
  read_integers(file, "state.valid", state.valid, B);
  for (size_t l = 0; l < state.layers.size(); ++l) {
    MemoryState& memory = state.layers[l].memory;
    const std::string name = fmt::format("state.{}.", l);
    if (memory.filled.empty()) continue;  // a model without long-term memory
    read_integers(file, name + "filled", memory.filled, B);
    read_integers(file, name + "count", memory.count, B);
    if (file.contains(name + "random.seed")) {
      std::vector<uint64_t> seeds, next;
      read_integers(file, name + "random.seed", seeds, B), read_integers(file, name + "random.next", next, B);
      for (size_t b = 0; b < B; ++b) memory.random.push_back({seeds[b], next[b]});
    }
    for (size_t i = 0; file.contains(fmt::format("{}history.{}.X", name, i)); ++i) {
      memory.history.emplace_back();
      read_integers(file, fmt::format("{}history.{}.filled", name, i), memory.history.back().filled, B);
      read_integers(file, fmt::format("{}history.{}.newcomers", name, i), memory.history.back().newcomers, B);
    }
  }
  visit_tensors(state, [&](const std::string& name, Tensor& tensor) {
    if (file.contains(name)) tensor = read_tensor(file, name, device);
  });
  return state;
}

}  // namespace lem
