# Lemniscate: everything a user types. `make` alone prints what there is and what this machine has.
#
#   make sort                         train both models on the sorting task and draw their curves
#   make test                         build and run every test, in float and in double
#   DEBUG=1 make ...                  no optimisation, assertions, NaN-poisoned buffers
#   SANITIZE=address,undefined make … with sanitizers
#
# Variants (debug, sanitizers, real = double) build into their own folders and never mix.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

CXX      ?= g++
DEBUG    ?=
SANITIZE ?=
REAL     ?= float
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
comma    := ,

VARIANT := $(if $(DEBUG),debug,release)$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(filter double,$(REAL)),-double)
OBJ     := build/$(VARIANT)
BIN     := $(if $(filter release,$(VARIANT)),build,$(OBJ))

# --- flags. Never -ffast-math or -Ofast: they hide NaN. ---------------------------------------------------------------
OPTIMISE := $(if $(DEBUG),-O0 -g3 -DLEM_DEBUG,-O3 -march=native -g1)
CXXFLAGS := -std=c++20 $(OPTIMISE) -fno-math-errno -fno-trapping-math -fopenmp -Wall -Wextra -Werror -I. \
            -DLEM_REAL=$(REAL) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
# GCC 12 sees overflows that are not there in fmt's headers, and with sanitizers uninitialised values in the library's.
CXXFLAGS += -Wno-stringop-overflow $(if $(SANITIZE),-Wno-maybe-uninitialized)

# OpenBLAS in its OpenMP flavour: one pool of threads then serves BLAS and our own loops. Any CBLAS can be linked:
#   make BLAS_LIBS="-lmkl_rt" BLAS_CFLAGS=-I...
TRIPLET     := $(shell $(CXX) -print-multiarch 2>/dev/null)
BLAS_DIR    ?= /usr/lib/$(TRIPLET)/openblas-openmp
BLAS_CFLAGS ?= -isystem /usr/include/$(TRIPLET)/openblas-openmp
BLAS_LIBS   ?= -L$(BLAS_DIR) -Wl,-rpath,$(BLAS_DIR) -lopenblas
CXXFLAGS += $(BLAS_CFLAGS)
LDLIBS   := $(BLAS_LIBS) -lfmt

# --- what is built ----------------------------------------------------------------------------------------------------
LIB_SRC  := $(wildcard tensor/*.cpp tensor/cpu/*.cpp cuda/*.cpp autograd/*.cpp nn/*.cpp models/*.cpp data/*.cpp)
TEST_SRC := $(wildcard tests/*.cpp)
TASK_SRC := $(wildcard tasks/*_main.cpp)
TASKLIB_SRC := $(filter-out $(TASK_SRC),$(wildcard tasks/*.cpp))
BENCH_SRC := $(wildcard bench/*.cpp)
LIB_OBJ  := $(LIB_SRC:%.cpp=$(OBJ)/%.o)
TASKLIB_OBJ := $(TASKLIB_SRC:%.cpp=$(OBJ)/%.o)
TASKS    := $(TASK_SRC:tasks/%_main.cpp=$(BIN)/%)

$(OBJ)/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  c++  $<$(if $(filter-out release,$(VARIANT)),  [$(VARIANT)])"
	@$(CXX) $(CXXFLAGS) -MMD -MP -c $< -o $@

$(OBJ)/liblem.a: $(LIB_OBJ)
	@rm -f $@ && ar rcs $@ $^

$(TASKS): $(BIN)/%: $(OBJ)/tasks/%_main.o $(TASKLIB_OBJ) $(OBJ)/liblem.a
	@echo "  link $@"
	@$(CXX) $(CXXFLAGS) $^ $(LDLIBS) -o $@

$(OBJ)/tests/run: $(TEST_SRC:%.cpp=$(OBJ)/%.o) $(TASKLIB_OBJ) $(OBJ)/liblem.a
	@echo "  link $@"
	@$(CXX) $(CXXFLAGS) $^ $(LDLIBS) -o $@

.PHONY: programs tests
programs: $(TASKS)
tests: $(OBJ)/tests/run

.PHONY: help clean
help:
	@echo "see the top of the Makefile"
clean:
	rm -rf build

-include $(wildcard $(OBJ)/*/*.d $(OBJ)/*/*/*.d)
