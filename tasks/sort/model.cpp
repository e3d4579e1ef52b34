#include "tasks/sort/model.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tasks/common/program.h"
#include "tasks/common/progress.h"

namespace lem {

TransformerOptions transformer_options(const SortOptions& o) {
  TransformerOptions transformer = o.transformer;
  transformer.vocab = sorting_vocabulary(int32_t(o.symbols));
  return transformer;
}

SortModel::SortModel(const SortOptions& o) : parameters(parse_device(o.run.device.c_str()), uint64_t(o.training.seed)) {
  if (o.model == "infinity") {
    if (const std::string text = advice(o.memory); !text.empty()) fmt::print(stderr, "warning: {}\n", text);
    model = std::make_unique<InfinityFormer>(transformer_options(o), o.memory, parameters);
  } else {
    model = std::make_unique<TransformerXL>(transformer_options(o), parameters);
  }
  parameters.pack();
}

SortingData sorting_data(const SortOptions& o, Split split) {
  const std::string& path = split == Split::train ? o.data : split == Split::validation ? o.valid_data : o.test_data;
  if (path.empty()) return SortingData::drawn(uint64_t(o.training.seed), split, int32_t(o.symbols), o.length);
  // Only training goes through a file more than once, each time in another order.
  return SortingData::file(path, int32_t(o.symbols),
                           split == Split::train ? std::optional(uint64_t(o.training.seed)) : std::nullopt);
}

DocumentBatch sorting_batch(const SortingData& data, int64_t first, int64_t count) {
  DocumentBatch batch{.B = count, .n = 0, .first = uint64_t(first), .tokens = {}, .targets = {}};
  for (int64_t i = first; i < first + count; ++i) {
    const SortingSample sample = data.sample(i);
    const std::vector<int32_t> input = model_input(sample), targets = model_targets(sample);
    batch.tokens.insert(batch.tokens.end(), input.begin(), input.end());
    batch.targets.insert(batch.targets.end(), targets.begin(), targets.end());
    batch.n = int64_t(input.size());
  }
  return batch;
}

SortScore evaluate(const Model& model, const SortOptions& o, const SortingData& data, int64_t samples,
                   const char* label) {
  const NoGrad no_grad;
  SortScore score;
  score.samples = data.size() > 0 ? std::min(samples, data.size()) : samples;
  SortingCeilings ceilings(int32_t(o.symbols), o.segment, o.transformer.stm);
  // Evaluating draws its own random numbers, so that doing it leaves a training as it was.
  Random random{uint64_t(o.training.seed) ^ 0x6576616c, 0};
  int64_t scored = 0, correct = 0, batches = 0;
  Progress progress(label, 0, (score.samples + o.training.batch - 1) / o.training.batch);
  for (int64_t first = 0; first < score.samples; first += o.training.batch) {
    stop_if_interrupted();
    const int64_t count = std::min(o.training.batch, score.samples - first);
    const DocumentBatch batch = sorting_batch(data, first, count);
    const BatchResult result = read_documents(model, batch, o.segment, {.training = false, .random = &random}, false);
    score.loss += result.loss() * double(result.scored());
    scored += result.scored();
    correct += result.correct();
    for (int64_t i = first; i < first + count; ++i) ceilings.add(data.sample(i));
    progress.update(++batches, result.tokens());
  }
  progress.erase();
  if (scored > 0) score.loss /= double(scored), score.accuracy = double(correct) / double(scored);
  score.ceiling_all = ceilings.all(), score.ceiling_visible = ceilings.visible();
  return score;
}

nlohmann::ordered_json to_json(const SortScore& score) {
  return {{"accuracy", score.accuracy},
          {"loss", score.loss},
          {"test_samples", score.samples},
          {"ceiling_all", score.ceiling_all},
          {"ceiling_visible", score.ceiling_visible}};
}

SortScore sort_score(const nlohmann::ordered_json& result) {
  return {.loss = result.at("loss"),
          .accuracy = result.at("accuracy"),
          .ceiling_all = result.at("ceiling_all"),
          .ceiling_visible = result.at("ceiling_visible"),
          .samples = result.at("test_samples")};
}

namespace {

struct Need {
  double bytes;
  std::string what, options;
};

/// Lower bounds: what is allocated for certain, and nothing that might be freed before the next comes.
std::vector<Need> needs(const SortOptions& o, bool training) {
  const double B = double(training ? rows_at_once(o.training) : o.training.batch),
               T = double(std::min(o.segment, o.length)), C = double(o.transformer.width), V = double(o.symbols),
               layers = double(o.transformer.layers), N = double(o.memory.N), R = double(o.memory.R),
               size = sizeof(real);
  const double weights =
      layers * (5 * C * C + 2 * C * double(o.transformer.ff)) + (o.transformer.tie_embedding ? 1 : 2) * V * C;
  std::vector<Need> all = {
      {weights * size * (training ? 4 : 1), training ? "weights, their gradients and Adam's moments" : "weights",
       "--width, --ff, --layers"},
      {double(o.training.batch) * double(o.length) * 2 * sizeof(int32_t),
       "the tokens of a batch and what is expected of them", "--batch, --length"},
      {B * T * (layers * C * (training ? 6 : 1) + V) * size, "the activations of a segment",
       "--batch, --segment, --width, --layers"},
  };
  if (o.model == "infinity") {
    all.push_back({layers * B * N * C * size, "the memories of a batch", "--batch, --N, --width"});
    all.push_back({(2 * N * N + 2 * (R + T) * N) * sizeof(double),
                   "fitting the signal, in double: F Fᵀ and its factors", "--N, --R"});
  }
  return all;
}

}  // namespace

void check_memory(const SortOptions& o, bool training) {
  if (o.run.device == "cuda") return;  // the pool says what a GPU's memory cannot hold
  std::vector<Need> all = needs(o, training);
  double total = 0;
  for (const Need& n : all) total += n.bytes;
  const double available = double(available_memory());
  if (total <= available) return;
  std::sort(all.begin(), all.end(), [](const Need& a, const Need& b) { return a.bytes > b.bytes; });
  const auto gib = [](double bytes) { return fmt::format("{:.3g} GiB", bytes / double(1 << 30)); };
  fail("[memory] these settings need more than {}, but {} are free: {} for {} ({}), {} for {} ({}); make these smaller",
       gib(total), gib(available), gib(all[0].bytes), all[0].what, all[0].options, gib(all[1].bytes), all[1].what,
       all[1].options);
}

}  // namespace lem
