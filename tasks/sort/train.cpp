#include "tasks/sort/train.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace lem {
namespace {

class SortTraining final : public Trainee {
 public:
  explicit SortTraining(const SortOptions& o)
      : o_(o),
        net_(o),
        data_(sorting_data(o, Split::train)),
        validation_(sorting_data(o, Split::validation)),
        test_(sorting_data(o, Split::test)) {}

  nlohmann::ordered_json settings() const override {
    SortOptions options = o_;
    return to_json(option_table(options));
  }
  Parameters& parameters() override { return net_.parameters; }
  const Model& model() const override { return *net_.model; }

  std::vector<StepPart> next_step() override {
    std::vector<StepPart> parts;
    const int64_t end = next_sample_ + o_.training.batch, most = rows_at_once(o_.training);
    for (; next_sample_ < end; next_sample_ += parts.back().size.rows) {
      DocumentBatch batch = sorting_batch(data_, next_sample_, std::min(most, end - next_sample_));
      const BatchSize size = size_of(batch);
      parts.push_back({size, [this, batch = std::move(batch)](const BatchSize& whole) {
                         // Behind the streams that the initial weights were drawn from; the same in each step, as no
                         // two read the same sample.
                         Random random{uint64_t(o_.training.seed), uint64_t(1) << 32};
                         return read_documents(*net_.model, batch, o_.segment, {.training = true, .random = &random},
                                               true, nullptr, &whole);
                       }});
    }
    return parts;
  }

  Measured measure(Split split) const override {
    const bool test = split == Split::test;
    const SortingData& data = test ? test_ : validation_;
    const SortScore score =
        evaluate(*net_.model, o_, data, test ? o_.run.test_samples : o_.run.validation_samples, name(split));
    if (!test) return {score.accuracy, {{"loss", score.loss}, {"accuracy", score.accuracy}}};
    Measured measured{score.accuracy, to_json(score)};
    measured.figures["test_data"] = data.identity();
    return measured;
  }

  std::string data_identity() const override { return data_.identity(); }
  nlohmann::ordered_json place() const override { return {{"next_sample", next_sample_}}; }
  void go_to(const nlohmann::json& progress) override {
    next_sample_ = progress.at("next_sample");
    check(next_sample_ >= 0 && next_sample_ <= std::numeric_limits<int64_t>::max() - o_.training.batch,
          "[checkpoint] the progress in its metadata is damaged: next sample {}", next_sample_);
  }

 private:
  SortOptions o_;
  SortModel net_;
  SortingData data_, validation_, test_;
  int64_t next_sample_ = 0;
};

}  // namespace

TrainResult train_sort(const SortOptions& o, Start start) {
  use_machine(o.run);
  check_memory(o, true);
  SortTraining training(o);
  return train(training, "sort", o.training, o.run, start);
}

std::optional<TrainResult> finished_sort(const SortOptions& o) {
  std::optional<TrainResult> result = finished_result(o.run.out, o.training.steps);
  if (!result) return std::nullopt;
  const SortingData data = sorting_data(o, Split::test);
  const int64_t samples = data.size() > 0 ? std::min(o.run.test_samples, data.size()) : o.run.test_samples;
  try {
    sort_score(result->test);
    if (result->test.at("test_samples") != samples || result->test.at("test_data") != data.identity())
      return std::nullopt;
    return result;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // damaged: the test is made again
  }
}

}  // namespace lem
