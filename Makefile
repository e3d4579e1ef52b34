# Lemniscate: everything a user types. `make` alone prints what there is and what this machine has.
#
#   make sort                         train both models on the sorting task and draw their curves
#   make test                         build and run every test, in float and in double
#   DEBUG=1 make ...                  no optimisation, assertions, NaN-poisoned buffers
#   SANITIZE=address,undefined make … with sanitizers
#
# Variants (debug, sanitizers, real = double) build into their own folders and never mix. Other settings (CXX, BLAS_LIBS,
# SIMT, …) may change from call to call: what was built with others is built again.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

CXX      ?= g++
DEBUG    ?=
SANITIZE ?=
REAL     ?= float
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
comma    := ,
COMPILER := $(shell $(CXX) --version 2>/dev/null | head -n 1)

VARIANT := $(if $(DEBUG),debug,release)$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(filter double,$(REAL)),-double)
OBJ     := build/$(VARIANT)
BIN     := $(if $(filter release,$(VARIANT)),build,$(OBJ))

# --- flags. Never -ffast-math or -Ofast: they hide NaN. ---------------------------------------------------------------
# Tests and sanitizer builds are compiled more often than they run: -O1 is what suits them. Folders that read options and
# files compute nothing worth more than that; with sanitizers they need not be optimised at all.
NATIVE   := $(shell $(CXX) -march=native -E -x c++ /dev/null >/dev/null 2>&1 && echo -march=native)
OPTIMISE := $(if $(DEBUG),-O0 -g3 -DLEM_DEBUG,$(if $(SANITIZE),-O1,-O3) $(NATIVE) -g1)
$(OBJ)/tests/%.o: OPTIMISE += $(if $(DEBUG),,-O1)
$(OBJ)/tasks/%.o $(OBJ)/bench/%.o: OPTIMISE += $(if $(DEBUG),,$(if $(SANITIZE),-O0,-O1))
$(OBJ)/data/%.o: OPTIMISE += $(if $(SANITIZE),-O0)
$(OBJ)/tensor/io/%.o $(OBJ)/nn/options.o $(OBJ)/nn/checkpoint.o: OPTIMISE += $(if $(DEBUG),,-O1)
CXXFLAGS  = -std=c++20 $(OPTIMISE) -fno-math-errno -fno-trapping-math -fopenmp -Wall -Wextra $(if $(WERROR),-Werror) -I. \
            -DLEM_REAL=$(REAL) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
# GCC 12 sees overflows and overlaps that are not there in fmt's headers and in std::string, and with sanitizers
# uninitialised values in the library's.
# Clang warns of loops that `omp simd` asks it to vectorise and that it does not.
CXXFLAGS += $(if $(findstring clang,$(COMPILER)),-Wno-pass-failed,-Wno-stringop-overflow -Wno-restrict $(if $(SANITIZE),-Wno-maybe-uninitialized))

# OpenBLAS in its OpenMP flavour: one pool of threads then serves BLAS and our own loops. Any CBLAS can be linked:
#   make BLAS_LIBS="-lmkl_rt" BLAS_CFLAGS=-I...
TRIPLET     := $(subst -pc-,-,$(shell $(CXX) -dumpmachine 2>/dev/null))
BLAS_DIR    ?= /usr/lib/$(TRIPLET)/openblas-openmp
BLAS_CFLAGS ?= -isystem /usr/include/$(TRIPLET)/openblas-openmp
BLAS_LIBS   ?= -L$(BLAS_DIR) -Wl,-rpath,$(BLAS_DIR) -lopenblas
CXXFLAGS += $(BLAS_CFLAGS)
LDLIBS   := $(BLAS_LIBS) -lfmt
# Catch2 in version 3 or 2 (tests/catch.h)
CATCH_LIBS  = $(shell printf '\043if !__has_include(<catch2/catch_all.hpp>)\n\043error\n\043endif\n' | $(CXX) $(CXXFLAGS) -E -x c++ - >/dev/null 2>&1 \
                && echo -lCatch2Main -lCatch2 || echo -lCatch2WithMain)
TEST_LIBS   = $(LDLIBS) $(CATCH_LIBS)

# --- what is built ----------------------------------------------------------------------------------------------------
LIB_SRC  := $(wildcard tensor/*.cpp tensor/cpu/*.cpp tensor/io/*.cpp autograd/*.cpp nn/*.cpp models/*.cpp data/*.cpp)
TEST_SRC := $(wildcard tests/*.cpp)
TEST_CU  := $(wildcard tests/*.cu)  # look into the interpreter: only where it is built
TASK_SRC := $(wildcard tasks/*/main.cpp)
TASKLIB_SRC := $(filter-out $(TASK_SRC),$(wildcard tasks/*/*.cpp))
BENCHLIB_SRC := $(filter-out bench/bench_main.cpp,$(wildcard bench/*.cpp))
# Every .cu file becomes two backends: simt, by this compiler over cuda/simt (needs CUDA's headers, no GPU), and cuda, by
# nvcc (CUDA=1; by default where nvcc and a GPU are). Both compute in float only; simt is written for g++.
include cuda/simt/simt.mk
CUDA_SRC := $(wildcard cuda/*.cu)
LESSON_SRC := $(wildcard cuda/lessons/*.cu)
SIMT     ?= $(if $(findstring clang,$(COMPILER)),,$(if $(wildcard $(CUDA_HOME)/include/curand_kernel.h),1))
CUDA     ?= $(if $(NVCC),$(shell nvidia-smi -L >/dev/null 2>&1 && echo 1))
FLOAT    := $(filter float,$(REAL))
NVCC_OBJ := $(patsubst %.cu,$(OBJ)/%.nvcc.o,$(CUDA_SRC) $(LESSON_SRC))
HAS_SIMT := $(and $(FLOAT),$(filter 1,$(SIMT)))
HAS_CUDA := $(and $(FLOAT),$(filter 1,$(CUDA)))
DEVICE_OBJ := $(if $(HAS_SIMT),$(SIMT_OBJ) $(CUDA_SRC:%=$(OBJ)/%.o),$(OBJ)/cuda/absent/simt.o) \
              $(if $(HAS_CUDA),$(CUDA_SRC:%.cu=$(OBJ)/%.nvcc.o),$(OBJ)/cuda/absent/cuda.o)
# The lessons' kernels, which no program needs but the tests and build/lessons.
LESSON_OBJ := $(if $(HAS_SIMT),$(LESSON_SRC:%=$(OBJ)/%.o)) $(if $(HAS_CUDA),$(LESSON_SRC:%.cu=$(OBJ)/%.nvcc.o))
LDLIBS   += $(if $(HAS_CUDA),-L$(CUDA_HOME)/lib64 -Wl$(comma)-rpath$(comma)$(CUDA_HOME)/lib64 -lcublas -lcudart_static -ldl -lrt)

# The archive holds code for each of CUDA_ARCHS, and for GPUs that are newer than all the last one's PTX.
# A spill to local memory is a mistake in a kernel's sizes.  FMT_USE_CONSTEXPR: fmt 9 takes nvcc for a compiler without it.
NVCCFLAGS := -std=c++20 -O3 -I. -DLEM_REAL=float -DFMT_USE_CONSTEXPR=1 $(NVCC_WARNINGS) \
             -Xptxas -warn-spills$(if $(WERROR),$(comma)-Werror) $(foreach arch,$(CUDA_ARCHS),-gencode arch=compute_$(arch),code=sm_$(arch)) \
             -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
$(NVCC_OBJ): $(OBJ)/%.nvcc.o: %.cu $(OBJ)/nvcc.settings
	@mkdir -p $(@D)
	@echo "  nvcc $<  [$(CUDA_ARCHS)]"
	@$(NVCC) $(NVCCFLAGS) -MMD -MP -c $< -o $@

LIB_OBJ  := $(LIB_SRC:%.cpp=$(OBJ)/%.o)
TASKLIB_OBJ := $(TASKLIB_SRC:%.cpp=$(OBJ)/%.o)
BENCHLIB_OBJ := $(BENCHLIB_SRC:%.cpp=$(OBJ)/%.o)
TASKS    := $(TASK_SRC:tasks/%/main.cpp=$(BIN)/%)
EXAMPLES := $(patsubst %.cpp,$(BIN)/%,$(wildcard examples/*.cpp))

# What everything was compiled, linked and collected with, in files that change only when it does: objects and programs
# depend on them. Expanded here, where no target has flags of its own yet.
define settings
$(OBJ)/$(1).settings: NOW := $(subst ','\'',$(2))
$(OBJ)/$(1).settings: always
	@mkdir -p $$(@D)
	@echo '$$(NOW)' | cmp -s - $$@ || echo '$$(NOW)' >$$@
endef
.PHONY: always
$(eval $(call settings,compiler,$(COMPILER) $(CXX) $(CXXFLAGS) $(SIMT_CUDA)))
$(eval $(call settings,nvcc,$(NVCC) $(NVCCFLAGS)))
$(eval $(call settings,objects,$(LIB_OBJ) $(TASKLIB_OBJ) $(BENCHLIB_OBJ) $(DEVICE_OBJ) $(LESSON_OBJ) $(TEST_SRC) $(LDLIBS)))
$(TASKS) $(EXAMPLES) $(BIN)/bench $(OBJ)/tests/run $(OBJ)/tests/kernels: $(OBJ)/objects.settings

$(OBJ)/%.o: %.cpp $(OBJ)/compiler.settings
	@mkdir -p $(@D)
	@echo "  c++  $<$(if $(filter-out release,$(VARIANT)),  [$(VARIANT)])"
	@$(CXX) $(CXXFLAGS) -MMD -MP -c $< -o $@

$(OBJ)/liblem.a: $(LIB_OBJ) $(OBJ)/objects.settings
	@rm -f $@ && ar rcs $@ $(LIB_OBJ)

# Programs, each from the objects that its rule names.
LIBS = $(LDLIBS)
define link
@mkdir -p $(@D)
@echo "  link $@"
@$(CXX) $(CXXFLAGS) $(filter %.o %.a,$^) $(LIBS) -o $@
endef

$(TASKS): $(BIN)/%: $(DEVICE_OBJ) $(OBJ)/tasks/%/main.o $(TASKLIB_OBJ) $(OBJ)/liblem.a
	$(link)

$(BIN)/bench: $(DEVICE_OBJ) $(OBJ)/bench/bench_main.o $(BENCHLIB_OBJ) $(TASKLIB_OBJ) $(OBJ)/liblem.a
	$(link)

$(EXAMPLES): $(BIN)/%: $(DEVICE_OBJ) $(OBJ)/%.o $(OBJ)/liblem.a
	$(link)

$(OBJ)/tests/run $(OBJ)/tests/kernels: LIBS = $(TEST_LIBS)
$(OBJ)/tests/run: $(DEVICE_OBJ) $(LESSON_OBJ) $(TEST_SRC:%.cpp=$(OBJ)/%.o) $(if $(HAS_SIMT),$(TEST_CU:%=$(OBJ)/%.o)) $(BENCHLIB_OBJ) $(TASKLIB_OBJ) $(OBJ)/liblem.a
	$(link)

# The lessons' table. What is counted is compiled so that every load and store is a call of ours (tests/lessons/counts.cpp):
# the address sanitizer's kind for kernels of operating systems, whose library is the system's own. -O1: no vectors, of which
# a GPU's thread knows nothing. Counted objects come first, so that inline functions are theirs.
COUNTED_SRC := $(LESSON_SRC) $(addprefix cuda/,softmax.cu layer_norm.cu reduce.cu continuous_attention.cu)
COUNTED_OBJ := $(COUNTED_SRC:%=$(OBJ)/counted/%.o)
$(COUNTED_OBJ): $(OBJ)/counted/%.cu.o: %.cu $(OBJ)/compiler.settings
	@mkdir -p $(@D)
	@echo "  simt $<  [counted]"
	@$(CXX) $(SIMT_CUFLAGS) -O1 -fsanitize=kernel-address -U__SANITIZE_ADDRESS__ --param asan-stack=0 --param asan-globals=0 \
	  --param asan-instrumentation-with-call-threshold=0 -MMD -MP -x c++ -c $< -o $@
$(OBJ)/tests/lessons/%.o: CXXFLAGS += $(SIMT_CUDA)
$(BIN)/lessons: $(COUNTED_OBJ) $(filter-out $(COUNTED_SRC:%=$(OBJ)/%.o),$(DEVICE_OBJ) $(LESSON_OBJ)) \
                $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard tests/lessons/*.cpp tests/kernel_table*.cpp tests/op_table*.cpp tests/naive_*.cpp) \
                  tests/kernel_check.cpp tests/lesson_cases.cpp) $(OBJ)/liblem.a $(OBJ)/objects.settings
	$(link)
.PHONY: lessons
lessons:
	$(if $(HAS_SIMT),,$(error the lessons are counted by the interpreter, which needs CUDA's headers, g++ and float))
	@$(MAKE) --no-print-directory -j$(JOBS) SANITIZE= DEBUG= build/lessons
	@build/lessons

# Makes the disk of a program that is tested fail.
$(BIN)/disk_shim.so: tests/shim/disk.cpp $(OBJ)/compiler.settings
	@mkdir -p $(@D)
	@echo "  c++  $<"
	@$(CXX) -std=c++20 -O1 -fPIC -shared $< -ldl -o $@

# A program for each parser, fed by libFuzzer (clang) under the sanitizers with what it makes of a few files that are right
# and of what it found before, all in build/fuzz/. An input that is no good must give an Error, nothing else.
FUZZERS := $(patsubst %.cpp,$(OBJ)/%,$(wildcard tests/fuzz/*.cpp))
$(FUZZERS): $(OBJ)/tests/fuzz/%: $(DEVICE_OBJ) $(OBJ)/tests/fuzz/%.o $(TASKLIB_OBJ) $(OBJ)/liblem.a $(OBJ)/objects.settings
	$(link)
FUZZ    := SANITIZE=fuzzer,address,undefined SIMT= CUDA= CXX='$(if $(findstring ccache,$(CXX)),ccache )clang++'
SECONDS ?= 60
PARSERS ?= $(notdir $(FUZZERS))
.PHONY: fuzz fuzzers
fuzz:
	@$(MAKE) --no-print-directory setup FOR=fuzz
	@$(MAKE) --no-print-directory -j$(JOBS) fuzzers $(FUZZ)
	@$(MAKE) --no-print-directory -j$(JOBS) $(PARSERS:%=fuzz-%) $(FUZZ) SECONDS=$(SECONDS)
fuzzers: $(FUZZERS)
fuzz-%: $(OBJ)/tests/fuzz/%
	@mkdir -p build/fuzz/$*
	@OMP_NUM_THREADS=1 $< -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
	  -artifact_prefix=build/fuzz/$*. build/fuzz/$* >build/fuzz/$*.log 2>&1 || { tail -n 60 build/fuzz/$*.log; \
	  echo "$*: a fault. What shows it again: $< build/fuzz/$*.…"; exit 1; }
	@awk '/executed_units/ {print "  fuzz $*: $(SECONDS) s, " $$2 " inputs"}' build/fuzz/$*.log

.PHONY: cuda cuda-report
cuda:
	$(if $(NVCC),,$(error nvcc is not on this machine: install the CUDA toolkit, or set NVCC=…))
	@$(MAKE) --no-print-directory -j$(JOBS) $(NVCC_OBJ)
cuda-report:
	$(if $(NVCC),,$(error nvcc is not on this machine: install the CUDA toolkit, or set NVCC=…))
	@for arch in $(if $(filter file,$(origin CUDA_ARCHS)),75 80 86 89 90 100 120,$(CUDA_ARCHS)); do cuda/report.sh $(NVCC) $$arch $(CUDA_SRC) || exit 1; echo; done

# Kernels alone under the thread sanitizer: it would take OpenMP's barriers for races, so that what runs on the CPU comes
# from the plain build.
PLAIN_OBJ := $(patsubst %.cpp,build/release/%.o,$(TEST_SRC) $(BENCHLIB_SRC) $(TASKLIB_SRC) $(LIB_SRC) cuda/absent/cuda.cpp)
$(OBJ)/tests/kernels: $(SIMT_OBJ) $(patsubst %,$(OBJ)/%.o,$(CUDA_SRC) $(LESSON_SRC)) $(PLAIN_OBJ)
	$(link)
.PHONY: simt-races
simt-races: tests
	@$(MAKE) --no-print-directory -j$(JOBS) build/release-thread/tests/kernels SANITIZE=thread
	@LEM_TEST_COUNTS=$(COUNTS) LEM_DEVICE=simt LEM_SMALL=1 build/release-thread/tests/kernels "kernels compute*"

# Every kernel again with threads and blocks in other orders: a GPU promises none.
.PHONY: simt-orders
simt-orders: tests
	@for order in reverse random; do echo "threads and blocks in $$order order"; \
	  LEM_TEST_COUNTS=$(COUNTS) SIMT_ORDER=$$order LEM_DEVICE=simt LEM_SMALL=1 $(OBJ)/tests/run "kernels compute*" || exit 1; done

.PHONY: programs tests examples
examples: $(EXAMPLES)
programs: $(TASKS)
tests: $(OBJ)/tests/run $(TASKS) $(EXAMPLES) $(BIN)/disk_shim.so

# --- what a user types --------------------------------------------------------------------------------------------------
# Each of these first sees to it that what the build needs is there (silent if so; SKIP_SETUP=1: takes it for granted).
.PHONY: help setup sort check test run-tests soak bench parity format format-check clean
SEED ?= 1

help:
	@echo "Lemniscate: the ∞-former from scratch"
	@echo
	@echo "  make sort          train the ∞-former and a Transformer-XL on the sorting task, draw their curves (SEED=1 THREADS=2)"
	@echo "  make check         build and run the tests in float, without the largest kernel cases"
	@echo "  make test          build and run all tests, in float and in double"
	@echo "  make parity        let the PyTorch twin make new golden files, and test against them (needs PyTorch)"
	@echo "  make bench         time kernels and training steps, against PyTorch if PYTHON=… has it (BENCH_FLAGS=--quick)"
	@echo "                     DEVICE=cuda: the GPU, every kernel checked against the CPU first; DEVICE=simt: in miniature"
	@echo "  make cuda          compile every CUDA kernel by nvcc, for the GPU that is there or CUDA_ARCHS=\"75 120\""
	@echo "  make cuda-report   registers, shared memory, spills and occupancy of every kernel"
	@echo "  make lessons       kernels from naive to ours: what each version asks of memory, counted (docs/simt.md)"
	@echo "  make simt-test     the interpreter that runs CUDA kernels on the CPU, tested (docs/simt.md)"
	@echo "  make simt-races    every kernel under the thread sanitizer"
	@echo "  make simt-orders   every kernel with its threads and blocks in reverse and in random order"
	@echo "  make fuzz          feed every parser with damaged files, SECONDS=60 each (PARSERS=\"config state\": these alone)"
	@echo "  make soak          read 20,000 segments of any length: memory and time a token stay flat (3 minutes)"
	@echo "  make debug-kernel  gdb in one thread of one block of a kernel"
	@echo "  make programs      build/sort; see build/sort --help"
	@echo "  make examples      the small programs that the chapters quote, in build/examples/"
	@echo "  make compile_commands.json    how each file is compiled, for clangd and other tools"
	@echo "  make format        clang-format every source file"
	@echo "  make clean         remove build/"
	@echo
	@echo "  with DEBUG=1 or SANITIZE=address,undefined: that variant, in a folder of its own below build/"
	@echo "  with BLAS_CFLAGS=… BLAS_LIBS=… CXX=…: other libraries, another compiler; SKIP_SETUP=1: no look at what is installed"
	@echo
	@echo "  compiler  $(or $(COMPILER),none)"
	@echo "  BLAS      $(BLAS_LIBS)"
	@echo "  cores     $(JOBS)"
	@echo "  nvcc      $(or $(NVCC),none)"
	@echo "  devices   cpu$(if $(filter 1,$(SIMT)), simt (CUDA kernels run on the CPU))$(if $(filter 1,$(CUDA)), cuda)"

# FOR=format or fuzz: what those need, too
setup:
	$(if $(SKIP_SETUP),,@CXX='$(CXX)' BLAS_CFLAGS='$(BLAS_CFLAGS)' BLAS_LIBS='$(BLAS_LIBS)' ./setup.sh $(FOR))

sort: setup
	@$(MAKE) --no-print-directory -j$(JOBS) programs
	@build/sort compare --preset demo --seed $(SEED) $(if $(filter-out 1,$(SEED)),--out runs/demo-seed-$(SEED)) $(if $(THREADS),--threads $(THREADS))

# The float tests alone: what one runs while one works. In three parts side by side, none of which keeps two cores busy by
# itself; without the largest kernel cases, which `make test` runs.
check: setup
	@mkdir -p build && rm -f $(COUNTS)
	@$(MAKE) --no-print-directory -j$(JOBS) tests
	@$(MAKE) --no-print-directory -k -j3 check-kernels check-programs check-rest; failed=$$?; \
	  awk '{p += $$1; f += $$2} END {print p + 0 " passed, " f + 0 " failed"}' $(COUNTS); exit $$failed
KERNEL_TESTS  := [kernel] [device] [lessons]
PROGRAM_TESTS := [program] [run-folder] [disk] [commands] [build] [sort]
space := $(subst ,, )
check-kernels:  TESTS = $(subst $(space),$(comma),$(KERNEL_TESTS))
check-programs: TESTS = $(subst $(space),$(comma),$(PROGRAM_TESTS))
check-rest:     TESTS = $(subst $(space),,$(addprefix ~,$(KERNEL_TESTS) $(PROGRAM_TESTS) [.]))
.PHONY: check-kernels check-programs check-rest
check-kernels check-programs check-rest: export OMP_WAIT_POLICY = PASSIVE
check-kernels check-programs check-rest:
	@echo "testing [$(VARIANT)] $(@:check-%=%)"
	@LEM_TEST_COUNTS=$(COUNTS) LEM_BIN=$(BIN) LEM_SMALL=1 $(OBJ)/tests/run "$(TESTS)" >$(OBJ)/$@.log 2>&1 || { cat $(OBJ)/$@.log; exit 1; }

# Tests count themselves: every run adds a line "passed failed" to this file.
COUNTS := build/test-counts
test: setup
	@mkdir -p build && rm -f $(COUNTS)
	@$(MAKE) --no-print-directory -j$(JOBS) tests
	@$(MAKE) --no-print-directory -j$(JOBS) tests REAL=double
	@$(MAKE) --no-print-directory run-tests; float=$$?; $(MAKE) --no-print-directory run-tests REAL=double; double=$$?; \
	  awk '{p += $$1; f += $$2} END {print p + 0 " passed, " f + 0 " failed"}' $(COUNTS); exit $$((float || double))

# The interpreter of kernels is at work in short bursts on few threads: others that spin meanwhile would take its time.
run-tests simt-races simt-orders: export OMP_WAIT_POLICY = PASSIVE
run-tests: tests
	@echo "testing [$(VARIANT)]"
	@LEM_TEST_COUNTS=$(COUNTS) LEM_BIN=$(BIN) $(OBJ)/tests/run

soak: setup
	@$(MAKE) --no-print-directory -j$(JOBS) tests
	@$(OBJ)/tests/run "[long-soak]"

# OpenBLAS may be held to another machine's kernel by these two variables; no contestant is, here.
PYTHON ?= python3
DEVICE ?= cpu
bench: setup
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN)/bench
ifneq ($(DEVICE),cpu)
	@$(MAKE) --no-print-directory -j$(JOBS) tests
	@echo "checking every kernel and whole models on $(DEVICE) against the CPU"
	@LEM_DEVICE=$(DEVICE) $(OBJ)/tests/run "kernels compute*,[device]"
endif
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE OMP_WAIT_POLICY=PASSIVE $(BIN)/bench --device $(DEVICE) --python $(PYTHON) $(BENCH_FLAGS)

parity: setup
	@$(MAKE) --no-print-directory -j$(JOBS) tests
	@$(MAKE) --no-print-directory -j$(JOBS) tests REAL=double
	@$(PYTHON) bench/reference/golden.py --out build/golden --seed $(or $(SEED),1)
	@LEM_GOLDEN=build/golden build/release/tests/run "[golden]"
	@LEM_GOLDEN=build/golden build/release-double/tests/run "[golden]"

SOURCES = $(shell git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
format:
	@clang-format -i $(SOURCES)
format-check:
	@clang-format --dry-run --Werror $(SOURCES) && echo "format: ok"

.PHONY: compile_commands.json
compile_commands.json:
	@{ echo "["; first=1; for file in $(LIB_SRC) $(TASK_SRC) $(TASKLIB_SRC) $(BENCHLIB_SRC) bench/bench_main.cpp $(TEST_SRC) $(wildcard examples/*.cpp); do \
	  [ $$first ] || echo ","; first=; \
	  printf '{"directory": "%s", "file": "%s", "command": "%s"}' '$(CURDIR)' $$file '$(CXX) $(CXXFLAGS) -c '$$file; done; echo; echo "]"; } >$@

clean:
	rm -rf build

-include $(wildcard $(OBJ)/*/*.d $(OBJ)/*/*/*.d)
