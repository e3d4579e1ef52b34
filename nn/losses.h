// Terms that a model adds to the loss of what it predicts: regularisers, reconstructions.
#pragma once

#include <string>
#include <vector>

#include "autograd/ops.h"

namespace lem {

struct Losses {
  struct Term {
    std::string name;
    Variable value;  // (1)
    double weight;   // in the loss
  };
  std::vector<Term> terms;

  /// Adds to the term of that name, or begins it.
  void add(const std::string& name, const Variable& value, double weight) {
    for (Term& term : terms)
      if (term.name == name) {
        term.value = lem::add(term.value, value);
        return;
      }
    terms.push_back({name, value, weight});
  }
};

}  // namespace lem
