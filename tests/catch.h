// Catch2 in the version that is there: 2 (one header) or 3 (a library). Tests use the names that are declared here.
#pragma once

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>

using Catch::Approx;
namespace Catch {
using Matchers::EndsWith, Matchers::StartsWith;
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }
}  // namespace Catch

#else
#define CATCH_CONFIG_EXTERNAL_INTERFACES  // for tests/counter.cpp
#include <catch2/catch.hpp>
namespace Catch {
using EventListenerBase = TestEventListenerBase;
}
#endif
