# The interpreter that runs .cu files on the CPU, its tests, and gdb at a kernel's thread. The Makefile includes this file.
#
#   make simt-test                      build and run the interpreter's tests (SANITIZE=address or thread: under a sanitizer)
#   make simt-check                     all three ways
#   make simt-nvcc                      the same test kernels through nvcc, warnings as errors (CUDA_ARCHS="75 120")
#   make debug-kernel KERNEL=… BLOCK=1,0,0 THREAD=3,0,0 PROGRAM="build/…  arguments"      gdb at that thread's first line
NVCC       ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
CUDA_HOME  ?= $(if $(NVCC),$(patsubst %/bin/nvcc,%,$(NVCC)),/usr/local/cuda)
# The GPUs that are there, as 90; where none is, an old one and a new one.
GPUS       := $(if $(NVCC),$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -nu))
CUDA_ARCHS ?= $(or $(GPUS),75 120)
# Warnings are errors in CI alone (WERROR=1): a newer compiler than ours has new ones.
NVCC_WARNINGS := -Xcompiler -Wall,-Wextra $(if $(WERROR),-Werror all-warnings -Xcompiler -Werror)
SIMT_CUDA  := -isystem $(CUDA_HOME)/include

# The interpreter is never instrumented itself, but it must know by what the kernels are.
SIMT_SANITIZER := $(if $(findstring address,$(SANITIZE)),-DSIMT_ASAN) $(if $(findstring thread,$(SANITIZE)),-DSIMT_TSAN)
SIMT_CXXFLAGS  := $(filter-out -fsanitize=% -fno-sanitize-recover=%,$(CXXFLAGS)) $(SIMT_SANITIZER) $(SIMT_CUDA)
# Kernels: under the address sanitizer every load and store is a call, which asan_checks.cpp answers.
SIMT_CUFLAGS   := $(CXXFLAGS) $(SIMT_CUDA) -Wno-unknown-pragmas -fno-ipa-icf $(if $(findstring address,$(SANITIZE)),\
                  --param asan-instrumentation-with-call-threshold=0 --param asan-use-after-return=0)

SIMT_SRC := $(wildcard cuda/simt/*.cpp)
SIMT_OBJ := $(SIMT_SRC:%.cpp=$(OBJ)/%.o)

$(SIMT_OBJ): $(OBJ)/%.o: %.cpp $(OBJ)/compiler.settings
	@mkdir -p $(@D)
	@echo "  c++  $<"
	@$(CXX) $(SIMT_CXXFLAGS) -MMD -MP -c $< -o $@

$(OBJ)/%.cu.o: %.cu $(OBJ)/compiler.settings
	@mkdir -p $(@D)
	@echo "  simt $<"
	@$(CXX) $(SIMT_CUFLAGS) -MMD -MP -x c++ -c $< -o $@

# --- tests ------------------------------------------------------------------------------------------------------------
SIMT_TEST_CU  := $(filter-out tests/simt/planted.cu tests/simt/speed.cu,$(wildcard tests/simt/*.cu))
SIMT_TEST_OBJ := $(SIMT_TEST_CU:%=$(OBJ)/%.o) $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard tests/simt/*.cpp))

$(OBJ)/tests/simt/%.o: tests/simt/%.cpp $(OBJ)/compiler.settings
	@mkdir -p $(@D)
	@echo "  c++  $<"
	@$(CXX) $(SIMT_CXXFLAGS) -MMD -MP -c $< -o $@

# The interpreter's objects come first, so that what inline functions of the standard library they share with the kernels are
# the ones without checks.
SIMT_TESTS := $(addprefix $(OBJ)/tests/simt/,run planted speed)
$(OBJ)/tests/simt/run: $(SIMT_OBJ) $(SIMT_TEST_OBJ)
$(OBJ)/tests/simt/planted: $(SIMT_OBJ) $(OBJ)/tests/simt/planted.cu.o
$(OBJ)/tests/simt/speed: $(SIMT_OBJ) $(OBJ)/tests/simt/speed.cu.o
$(SIMT_TESTS): LIBS = $(TEST_LIBS)
$(SIMT_TESTS): $(OBJ)/objects.settings
	$(link)

.PHONY: simt-test simt-check simt-nvcc simt-speed debug-kernel
simt-test: $(OBJ)/tests/simt/run $(OBJ)/tests/simt/planted
	@LEM_TEST_COUNTS=$(COUNTS) $(OBJ)/tests/simt/run

SIMT_MAKE := $(MAKE) --no-print-directory -j$(JOBS)
simt-check:
	+@$(SIMT_MAKE) simt-test SANITIZE=
	+@$(SIMT_MAKE) simt-test SANITIZE=address
	+@$(SIMT_MAKE) simt-test SANITIZE=thread

simt-speed: $(OBJ)/tests/simt/speed
	SIMT_WORKERS=1 $(OBJ)/tests/simt/speed

simt-nvcc:
	$(if $(NVCC),,$(error nvcc is not on this machine: install the CUDA toolkit, or set NVCC=…))
	@mkdir -p build/nvcc
	@for source in $(wildcard tests/simt/*.cu); do for arch in $(CUDA_ARCHS); do \
	  echo "  nvcc $$source sm_$$arch"; \
	  $(NVCC) -std=c++20 -arch=sm_$$arch $(NVCC_WARNINGS) -I. \
	    -c $$source -o build/nvcc/$$(basename $$source .cu).$$arch.o || exit 1; done; done

# --- gdb in a thread of a block ---------------------------------------------------------------------------------------
# One worker, so that nothing else moves; the interpreter stops just before the thread starts, then gdb goes into the kernel.
# Without PROGRAM it is the speed test, built for it: a first look needs nothing else.
KERNEL ?= add_kernel
BLOCK  ?= 1,0,0
THREAD ?= 3,0,0
GDB    ?= gdb
debug-kernel:
	$(if $(PROGRAM),,+@$(SIMT_MAKE) DEBUG=1 SANITIZE= build/debug/tests/simt/speed)
	SIMT_WORKERS=1 SIMT_BREAK='$(KERNEL):$(BLOCK):$(THREAD)' $(GDB) -q $(GDBFLAGS) -ex 'set breakpoint pending on' \
	  -ex 'tbreak simt_chosen_thread' -ex run -ex 'tbreak $(KERNEL)' -ex continue \
	  --args $(or $(PROGRAM),build/debug/tests/simt/speed)

-include $(wildcard $(OBJ)/cuda/simt/*.d $(OBJ)/tests/simt/*.d)
