// Every CUDA test of this folder runs in the order that SIMT_ORDER says; the ones that must not depend on it try all
// three. These tests count themselves like the others.
#include "tests/counter.cpp"
