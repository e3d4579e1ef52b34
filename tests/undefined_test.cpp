// What was never made: every operation says so, none runs into it.
#include "nn/layers.h"
#include "tests/catch.h"
#include "tests/op_table.h"
#include "tests/scratch.h"

namespace lem {
namespace {

using Catch::Contains;

TEST_CASE("an undefined tensor has no elements, and says so when it is asked for more", "[undefined]") {
  const Tensor none;
  CHECK(none.numel() == 0);
  CHECK(Variable().numel() == 0);
  CHECK(none.data() == nullptr);
  CHECK(Tensor(Shape(), Device::cpu).numel() == 1);  // a number without axes is one number
  for (const auto& ask : std::vector<std::function<void()>>{
           [&] { none.device(); }, [&] { none.dim(0); }, [&] { none.clone(); }, [&] { none.to_vector(); },
           [&] { none.to(Device::cpu); }, [&] { item(none); }, [&] { count_nonfinite(none); },
           [&] { none.slice(0, 0); }, [&] { none.reshape({0}); }, [&] { none.copy_from(none); },
           [&] { slice_time(none, 0, 0); }, [&] { copy_time(none, 0, none, 0, 0); },
           [&] {
             concat_time(zeros({1, 1}, Device::cpu), none);
           }})
    CHECK_THROWS_AS(ask(), Error);
}

TEST_CASE("every operation refuses an undefined input, or does without it", "[undefined]") {
  int refused = 0;
  for (const test::OpCase& c : test::op_table()) {
    const std::vector<Tensor> inputs = test::make_inputs(c, Device::cpu);
    for (size_t missing = 0; missing < inputs.size(); ++missing) {
      test::Arguments arguments;
      for (size_t i = 0; i < inputs.size(); ++i) arguments.push_back(i == missing ? Variable() : Variable(inputs[i]));
      INFO(c.label() << ", without " << c.inputs[missing].name);
      try {
        c.apply(arguments);  // an optional input
      } catch (const Error& error) {
        CHECK(std::string(error.what()).starts_with("["));
        ++refused;
      }
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("undefined tokens are refused by name", "[undefined]") {
  const Variable table = zeros({3, 2}, Device::cpu);
  CHECK_THROWS_WITH(embedding(Tokens(), table, 1), Contains("undefined"));
  CHECK_THROWS_AS(cross_entropy(zeros({2, 3}, Device::cpu), Tokens(), 1), Error);
}

}  // namespace
}  // namespace lem
