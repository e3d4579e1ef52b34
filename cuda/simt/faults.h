// Processor faults (a bad address, a division by zero), named: in a kernel they become the launch's error, in host code
// they end the program with a line that says whose memory was touched.
#pragma once

#include <cstdint>
#include <string>

namespace simt {

/// Once per CPU thread that runs blocks; the handlers themselves are the process's.
void install_fault_handlers();
/// "softmax.cu:41" for an address in the program's code, or its name in hexadecimal when there is no debug information.
std::string source_of(const void* code);

}  // namespace simt
