#!/usr/bin/env bash
# The one place that installs what Lemniscate needs. Silent when all is there, which programs that use it must show by
# compiling and linking, with the compiler and the flags that the build has. Else, on Debian and its family, it installs
# through apt (with sudo when not root, and asking first where someone is there to ask), saying what and why; elsewhere,
# or offline, it prints the list.
#
#   ./setup.sh           compilers' libraries, for building and testing
#   ./setup.sh format    clang-format 14 too, for `make format-check` (CI)
#   ./setup.sh fuzz      clang with libFuzzer too, for `make fuzz` (CI)
set -u
if [ -z "${BLAS_LIBS+given}" ] && command -v make >/dev/null 2>&1; then  # the flags are the Makefile's
  exec make --no-print-directory setup FOR="${1:-}"
fi
read -ra cxx <<<"${CXX:-g++} -std=c++20 -fopenmp ${BLAS_CFLAGS:-}"
read -ra blas_libs <<<"${BLAS_LIBS:--lopenblas}"
scratch=$(mktemp -d) && trap 'rm -r "$scratch"' EXIT

# builds COMPILER… -- LIBRARIES…: whether the program on standard input compiles and links; the compiler's words in $why
builds() {
  local compile=()
  while [ "$1" != -- ]; do compile+=("$1") && shift; done
  shift
  why=$("${compile[@]}" -x c++ - -x none "$@" -o "$scratch/program" 2>&1)
}
compiler() {
  builds "${cxx[@]}" -- <<<'#include <omp.h>
    #if defined(__clang__) ? __clang_major__ < 14 : __GNUC__ < 12
    #error too old
    #endif
    int main() { return omp_get_max_threads() < 1; }'
}
# refuse_old: ends, with its name and version, if the compiler is there and too old
refuse_old() {
  case "$why" in *"too old"*) ;; *) return ;; esac
  local name version
  read -r name version <<<"$(printf '#ifdef __clang__\nclang __clang_major__.__clang_minor__\n#else\ng++ __GNUC__.__GNUC_MINOR__\n#endif\n' |
    "${cxx[@]}" -E -P -x c++ - | tail -n 1 | tr -d ' ' | sed 's/^\(g++\|clang\)/\1 /')"
  echo "${CXX:-g++} is $name $version, which is too old: C++20 needs g++ 12 or clang 14. Name a newer one, as CXX=g++-12"
  exit 1
}
blas() {
  builds "${cxx[@]}" -- "${blas_libs[@]}" <<<'#include <cblas.h>
    int main() { return cblas_sdot(0, nullptr, 1, nullptr, 1) != 0; }'
}
fmt() {
  builds "${cxx[@]}" -- -lfmt <<<'#include <fmt/core.h>
    int main() { return fmt::format("{}", 1) != "1"; }'
}
include() {  # the line of a program that includes a header only if it is there: some are long to compile
  printf '#if !__has_include(<%s>)\n#error no %s\n#endif\n' "$1" "$1"
}
header() { builds "${cxx[@]}" -- <<<"$(include "$1")"$'\n''int main() {}'; }  # of a library that has nothing to link
catch() {  # version 3 or 2: main() is in the library
  builds "${cxx[@]}" -- -lCatch2Main -lCatch2 <<<"$(include catch2/catch_all.hpp)" ||
    builds "${cxx[@]}" -- -lCatch2WithMain <<<"$(include catch2/catch.hpp)"
}
fuzzer() {
  builds clang++ -std=c++20 -fopenmp -fsanitize=fuzzer,address,undefined -- <<<'#include <omp.h>
    extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return omp_get_max_threads() < 1; }'
}
clang_format() { why=$(command -v clang-format 2>&1); }

packages=(
  "g++|the compiler (C++20: g++ 12 or later)|compiler"
  "libopenblas-openmp-dev|matrix products on the CPU, in the flavour that shares OpenMP's threads|blas"
  "libfmt-dev|formatting of text|fmt"
  "libcli11-dev|command lines|header CLI/CLI.hpp"
  "nlohmann-json3-dev|JSON: metrics, configurations, checkpoint headers|header nlohmann/json.hpp"
  "catch2|the tests|catch"
)
case "${1:-}" in
  format) packages+=("clang-format|the style check|clang_format") ;;
  fuzz) packages+=("clang libclang-rt-dev libomp-dev|fuzzing: clang with libFuzzer, sanitizers and OpenMP|fuzzer") ;;
esac

# examine: lists the packages that are missing, and says what is there but does not work
examine() {
  missing=()
  local entry package reason probe without_compiler=0
  for entry in "${packages[@]}"; do
    IFS='|' read -r package reason probe <<<"$entry"
    $probe && continue
    [ "$probe" = compiler ] && refuse_old
    # shellcheck disable=SC2206  # an entry may name several
    missing+=($package)
    echo "missing: $package ($reason)"
    [ "$probe" = compiler ] && without_compiler=1  # then nothing builds, whatever is there
    # shellcheck disable=SC2086
    if [ "$probe" = compiler ] || [ $without_compiler = 0 ] && dpkg -s $package >/dev/null 2>&1; then
      echo "The package is installed, but a program that uses it does not build with CXX=\"${CXX:-g++}\"" \
        "BLAS_CFLAGS=\"${BLAS_CFLAGS:-}\" BLAS_LIBS=\"${blas_libs[*]}\"; mend these settings, or set SKIP_SETUP=1. The compiler says:"
      grep -m 3 -i "error\|cannot find\|undefined\|not found" <<<"$why" || head -n 3 <<<"$why"
      exit 1
    fi
  done
  [ ${#missing[@]} -eq 0 ]
}
examine && exit 0

by_hand() {
  echo
  echo "$1 Please install these packages (Debian's names; other systems have them under similar ones), then run make again."
  echo "If they are there, tell make how to build with them (CXX=…, BLAS_CFLAGS=…, BLAS_LIBS=…), or set SKIP_SETUP=1."
  printf '    %s\n' "${missing[@]}"
  exit 1
}
command -v apt-get >/dev/null 2>&1 || by_hand "This system has no apt."
sudo=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || by_hand "Installing needs root, and there is no sudo."
  sudo="sudo"
fi
if [ -n "$sudo" ] && [ -t 0 ] && [ -t 1 ]; then  # who is there is asked first
  read -r -p "Install ${missing[*]} with sudo apt-get? [Y/n] " answer
  case "$answer" in "" | [yY]*) ;; *) by_hand "Nothing was installed." ;; esac
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing through apt: ${missing[*]}"
$sudo apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
  { $sudo apt-get update && $sudo apt-get install -y --no-install-recommends "${missing[@]}"; } ||
  by_hand "apt could not install them (offline?)."
examine
