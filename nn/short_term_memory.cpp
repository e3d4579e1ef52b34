#include "nn/short_term_memory.h"

#include <algorithm>
#include <utility>

namespace lem {
namespace {

// Where a row's document is younger than the short-term memory, the keys before it are another document's.
Tokens first_keys(const std::vector<int64_t>& ages, int64_t stm, Device device) {
  std::vector<int32_t> first;
  for (int64_t age : ages) first.push_back(int32_t(std::max<int64_t>(0, stm - age)));
  if (std::all_of(first.begin(), first.end(), [](int32_t f) { return f == 0; })) return {};
  return Tokens::from(first, {int64_t(first.size())}, device);
}

}  // namespace

void ShortTermState::visit(Fields& fields) {
  fields.tensor("recent", recent, 0, {kRows, kAny, width});
  fields.cache(kept.k, 0), fields.cache(kept.v, 0), fields.cache(kept.r, -1);
}

void ShortTermState::check(const StateCheck& check, const std::string& name, const std::vector<int64_t>& ages) const {
  const bool read = std::any_of(ages.begin(), ages.end(), [](int64_t age) { return age > 0; });
  check.require(recent.defined() || !read, name + "recent", "is missing");
  if (!recent.defined()) return;
  for (size_t b = 0; b < ages.size(); ++b)
    check.require_zeros(name + "recent", recent, int64_t(b), recent.dim(1) - ages[b]);
}

Recent ShortTermState::advance(const Variable& x, int64_t S, const std::vector<int64_t>& ages, const Pass& pass) {
  Recent past;
  if (recent.defined()) {
    const int64_t n = recent.dim(1), stays = std::min(n, S);
    past.stm = slice_time(recent, n - stays, stays);
    if (n > stays) {
      past.leaving = slice_time(recent, 0, n - stays);
      for (int64_t age : ages) past.newcomers.push_back(std::clamp<int64_t>(age - stays, 0, n - stays));
    }
  }
  past.first_key = first_keys(ages, past.steps(), x.device());
  recent = concat_time(past.stm, x.value());
  past.kept = std::exchange(kept, {});
  if (past.kept.weights != pass.weights) past.kept = {.k = {}, .v = {}, .r = {}, .weights = pass.weights};
  return past;
}

}  // namespace lem
