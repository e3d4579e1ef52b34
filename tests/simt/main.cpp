// Every CUDA test of this folder runs in the order that SIMT_ORDER says; the ones that must not depend on it try all
// three.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
