#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // a false alarm of g++ 12 inside <regex>, with sanitizers only
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
