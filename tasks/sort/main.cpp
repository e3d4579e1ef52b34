// The sorting task: generate | train | eval | stream | compare. Run with --help.
#include <fmt/color.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "nn/checkpoint.h"
#include "tasks/common/program.h"
#include "tasks/common/progress.h"
#include "tasks/sort/compare.h"
#include "tasks/sort/stream.h"
#include "tasks/sort/train.h"
#include "tensor/io/files.h"

using namespace lem;

namespace {

void print_score(const SortScore& s) {
  fmt::print("accuracy {:.1f} %   loss {:.3f} nats a symbol   {} samples\n", 100 * s.accuracy, s.loss, s.samples);
  fmt::print("ceilings by counting: {:.1f} % all tokens, {:.1f} % only what a model without long-term memory sees\n",
             100 * s.ceiling_all, 100 * s.ceiling_visible);
}

struct Generate {
  std::string out = "-", split = "train", preset = "demo";
  int64_t count = 8000, symbols = 0, length = 0, seed = 1;

  void add_to(CLI::App& app) {
    app.add_option("--out", out, "file to write; - for standard output")->capture_default_str();
    app.add_option("--count", count, "sequences")
        ->capture_default_str()
        ->check(CLI::Range(int64_t(1), int64_t(1) << 40));
    app.add_option("--split", split, "train, validation or test: they never share a sequence")
        ->capture_default_str()
        ->check(CLI::IsMember({"train", "validation", "test"}));
    app.add_option("--preset", preset, "whose symbols and length: demo, paper-4000, paper-8000 or paper-16000")
        ->capture_default_str()
        ->check(CLI::IsMember({"demo", "paper-4000", "paper-8000", "paper-16000"}));
    app.add_option("--symbols", symbols, "different symbols [demo: 8; paper: 20]")->check(CLI::Range(2, 10000));
    app.add_option("--length", length, "tokens in a sequence [demo: 500; paper: 4000, 8000, 16000]")
        ->check(CLI::Range(int64_t(1), int64_t(1) << 30));
    app.add_option("--seed", seed, "seed")->capture_default_str()->check(CLI::Range(int64_t(0), int64_t(1) << 62));
  }
  int run() const {
    const SortOptions base = preset_options(preset, "infinity");
    catch_interrupts();  // so that the partial file is removed
    Progress progress("generate", 0, count);
    const int64_t each = length > 0 ? length : base.length;
    write_sorting_file(out, uint64_t(seed), parse_split(split), count, int32_t(symbols > 0 ? symbols : base.symbols),
                       each, [&](int64_t written) {
                         stop_if_interrupted();
                         progress.update(written, each);
                       });
    progress.erase();
    return 0;
  }
};

struct Train {
  SortFlags flags;
  std::string resume;
  bool change = false;

  void add_to(CLI::App& app) {
    flags.add_to(app);
    CLI::Option* resumed = app.add_option(
        "--resume", resume, "go on with the run in this folder, exactly where its last checkpoint stands");
    app.add_flag("--change-training", change,
                 "let it go on with other settings of the training (--steps, --lr, --batch, …), which its record notes")
        ->needs(resumed);
  }
  int run() const {
    SortOptions o;
    if (resume.empty()) {
      o = flags.resolve();
    } else {
      const std::string folder = resumed_folder(resume);
      const SortOptions saved = options_from_json(Checkpoint(folder + "/last.safetensors").config, folder);
      o = flags.resolve_over(saved, change ? Scope::function : Scope::training,
                             change ? "a model stays as it was made: leave these out, or start anew"
                                    : "leave these out; --change-training lets settings of the training differ");
      o.run.out = folder;
    }
    const TrainResult result = train_sort(o, resume.empty() ? Start::fresh : change ? Start::changed : Start::resumed);
    if (result.interrupted) {
      fmt::print("stopped after step {} of {}; everything is saved. Go on with:\n    build/sort train --resume {}\n",
                 result.step, o.training.steps, shell_word(o.run.out));
      return interrupted_code();
    }
    print_score(sort_score(result.test));
    fmt::print("{:.1f} s of training; {}/ holds weights, metrics and configuration\n", result.seconds, o.run.out);
    return 0;
  }
};

struct Eval {
  SortFlags flags;
  std::string checkpoint;

  void add_to(CLI::App& app) {
    flags.add_to(app);
    app.add_option("--checkpoint", checkpoint, "a run's folder (its last checkpoint) or a .safetensors file")
        ->required();
  }
  int run() const {
    catch_interrupts();
    const std::string path = checkpoint_path(checkpoint);
    const Checkpoint saved(path);
    const SortOptions o = flags.resolve_over(options_from_json(saved.config, path), Scope::weights);
    use_machine(o.run);
    check_memory(o, false);
    SortModel net(o);
    saved.load(net.parameters);
    print_score(evaluate(*net.model, o, sorting_data(o, Split::test), o.run.test_samples, "test"));
    print_warning(*net.model);
    return 0;
  }
};

struct StreamTask {
  SortFlags flags;
  std::string checkpoint;
  int64_t tokens = 1000000;

  void add_to(CLI::App& app) {
    flags.add_to(app);
    app.add_option("--checkpoint", checkpoint, "a trained model; without it, a fresh one: the price is the same");
    app.add_option("--tokens", tokens, "tokens to read")
        ->capture_default_str()
        ->check(CLI::Range(int64_t(1), int64_t(1) << 50));
  }
  int run() const {
    std::optional<Checkpoint> saved;
    if (!checkpoint.empty()) saved.emplace(checkpoint_path(checkpoint));
    SortOptions o =
        saved ? flags.resolve_over(options_from_json(saved->config, checkpoint), Scope::weights) : flags.resolve();
    o.training.batch = 1, o.length = std::min(o.length, o.segment);  // what is streamed: one row, segment by segment
    use_machine(o.run);
    check_memory(o, false);
    SortModel net(o);
    if (saved) saved->load(net.parameters);
    catch_interrupts();
    stream_sort(*net.model, o, tokens, [](const StreamReport& r) {
      fmt::print(
          "{{\"tokens\": {}, \"ms_per_segment\": {:.4f}, \"resident_mib\": {:.2f}, \"state_bytes\": {}, "
          "\"memory_vectors\": {}}}\n",
          r.tokens, r.ms_per_segment, double(r.resident_bytes) / (1 << 20), r.state_bytes, r.memory_vectors);
      std::fflush(stdout);
    });
    print_warning(*net.model);
    return interrupted() ? interrupted_code() : 0;
  }
};

struct Compare {
  SortFlags flags;

  void add_to(CLI::App& app) { flags.add_to(app); }
  int run() const {
    const SortOptions o = flags.resolve();
    // Where a run's own folder would be, both models' stand side by side.
    const bool usual = o.run.out == preset_options(o.preset, o.model).run.out;
    return compare_sort(o, usual ? parent_folder(o.run.out) : o.run.out);
  }
};

/// A subcommand: its flags, and what runs if it is given.
template <class Task>
CLI::App* add(CLI::App& app, Task& task, const char* name, const char* help) {
  CLI::App* command = app.add_subcommand(name, help);
  task.add_to(*command);
  return command;
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  bound_spinning(argv);
  CLI::App app{
      "The sorting task of the ∞-former paper: read a long sequence, then name its symbols by falling count.\n"
      "  build/sort compare                          train the ∞-former and a Transformer-XL, draw their curves\n"
      "  build/sort train --preset demo --seed 3     train one model\n"
      "  build/sort train --resume runs/demo/infinity\n"
      "  build/sort eval --checkpoint runs/demo/infinity --test-data mine.txt\n"
      "  build/sort stream --tokens 1000000          what an endless past costs\n"
      "  build/sort generate --count 800 --split test --out test.txt"};
  app.require_subcommand(1);
  Generate generate;
  Train train;
  Eval eval;
  StreamTask stream;
  Compare compare;
  CLI::App* const commands[] = {
      add(app, generate, "generate", "write sequences to a text file"),
      add(app, train, "train", "train a model"),
      add(app, eval, "eval", "measure a trained model on held-out samples"),
      add(app, stream, "stream", "feed an endless sequence and report time and memory per segment, as JSON lines"),
      add(app, compare, "compare", "train both models the same way; a table, curves.svg and summary.json"),
  };
  return run_program(app, argc, argv, [&] {
    if (commands[0]->parsed()) return generate.run();
    if (commands[1]->parsed()) return train.run();
    if (commands[2]->parsed()) return eval.run();
    if (commands[3]->parsed()) return stream.run();
    return compare.run();
  });
}
