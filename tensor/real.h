// The number type of every tensor. `float` in all programs; the tests also build the CPU library with
// `double` (make REAL=double), where gradients must agree with finite differences to 1e-7.
#pragma once

#include <cstdint>

#ifndef LEM_REAL
#define LEM_REAL float
#endif

namespace lem {

using real = LEM_REAL;
inline constexpr bool kDouble = sizeof(real) == 8;

}  // namespace lem
