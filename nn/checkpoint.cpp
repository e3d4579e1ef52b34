#include "nn/checkpoint.h"

#include <set>

#include "tensor/io/json.h"

namespace lem {
namespace {

/// Adam's moments of one parameter: the part of the flat arena that lies where the parameter lies in its own.
Tensor arena_part(const Tensor& arena, const Parameters& parameters, const Tensor& value) {
  const int64_t offset = value.data() - parameters.values().data();
  return arena.slice(offset, offset + value.numel()).reshape(value.shape());
}

void load_into(const SafetensorsFile& file, const std::string& name, const Tensor& into) {
  std::vector<real> values(static_cast<size_t>(into.numel()));
  file.read_as<real>(name, values.data(), into.shape().vector());
  backend(into.device()).upload(into.data(), values.data(), values.size() * sizeof(real));
}

nlohmann::json parse(const SafetensorsFile& file, const std::string& path, const char* key) {
  const std::string& text = file.metadata(key);
  nlohmann::json value = nests_too_deep(text) ? nlohmann::json() : nlohmann::json::parse(text, nullptr, false);
  check(value.is_object(), "[checkpoint] {}: its metadata \"{}\" is not a JSON object; the file is damaged or not ours",
        path, key);
  return value;
}

}  // namespace

void add_tensor(SafetensorsWriter& writer, const std::string& name, const Tensor& tensor) {
  writer.add(name, dtype_of<real>(), tensor.shape().vector(), [tensor](const SafetensorsWriter::Sink& sink) {
    const std::vector<real> values = tensor.to_vector();
    sink(values.data(), values.size() * sizeof(real));
  });
}

void save_checkpoint(const std::string& path, const Parameters& parameters, const Adam* optimizer,
                     const nlohmann::ordered_json& config, const nlohmann::ordered_json& progress,
                     const std::function<void(SafetensorsWriter&)>& extra) {
  SafetensorsWriter writer;
  nlohmann::ordered_json full = progress;
  for (const Parameters::Named& p : parameters.named()) {
    add_tensor(writer, p.name, p.value);
    if (!optimizer || !p.grad.defined()) continue;
    add_tensor(writer, "optimizer.m." + p.name, arena_part(optimizer->m, parameters, p.value));
    add_tensor(writer, "optimizer.v." + p.name, arena_part(optimizer->v, parameters, p.value));
  }
  if (optimizer) full["optimizer_steps"] = optimizer->steps;
  if (extra) extra(writer);
  writer.set_metadata("format", kCheckpointFormat);
  writer.set_metadata("config", config.dump());
  writer.set_metadata("progress", full.dump());
  writer.write(path);
}

Checkpoint::Checkpoint(const std::string& path) : path_(path), file_(path) {
  const auto format = file_.metadata().find("format");
  check(
      format != file_.metadata().end() && format->second == kCheckpointFormat,
      "[checkpoint] {} is a safetensors file but no checkpoint of this program: its metadata \"format\" should say {}",
      path, kCheckpointFormat);
  config = parse(file_, path, "config");
  progress = parse(file_, path, "progress");
}

void Checkpoint::load(const Parameters& parameters) const {
  std::set<std::string> expected;
  for (const Parameters::Named& p : parameters.named()) {
    check(file_.contains(p.name), "[checkpoint] {} lacks the parameter {} {}: it belongs to another configuration",
          path_, p.name, p.value.shape());
    load_into(file_, p.name, p.value);
    expected.insert(p.name);
  }
  for (const std::string& name : file_.names())
    check(expected.count(name) || name.starts_with("optimizer.") || name.starts_with("state."),
          "[checkpoint] {} holds a parameter {} that this model has not: it belongs to another configuration", path_,
          name);
}

void Checkpoint::load(Adam& optimizer, const Parameters& parameters) const {
  check(progress.contains("optimizer_steps") && progress["optimizer_steps"].is_number_integer(),
        "[checkpoint] {} holds weights alone, no optimiser: training can't go on from it exactly", path_);
  for (const Parameters::Named& p : parameters.named()) {
    if (!p.grad.defined()) continue;  // frozen
    load_into(file_, "optimizer.m." + p.name, arena_part(optimizer.m, parameters, p.value));
    load_into(file_, "optimizer.v." + p.name, arena_part(optimizer.v, parameters, p.value));
  }
  optimizer.steps = progress["optimizer_steps"];
}

}  // namespace lem
