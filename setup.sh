#!/usr/bin/env bash
# The one place that installs what Lemniscate needs. Silent when all is there. On Debian and its family it installs
# through apt (with sudo when not root), saying what and why; elsewhere, or offline, it prints the list.
#
#   ./setup.sh           compilers' libraries, for building and testing
#   ./setup.sh format    clang-format 14, for `make format-check` (CI)
set -u
packages=(
  "g++|the compiler (C++20: g++ 12 or later)|command -v ${CXX:-g++}"
  "libopenblas-openmp-dev|matrix products on the CPU, in the flavour that shares OpenMP's threads|ls /usr/include/*/openblas-openmp/cblas.h"
  "libfmt-dev|formatting of text|ls /usr/include/fmt/format.h"
  "libcli11-dev|command lines|ls /usr/include/CLI/CLI.hpp"
  "nlohmann-json3-dev|JSON: metrics, configurations, checkpoint headers|ls /usr/include/nlohmann/json.hpp"
  "catch2|the tests|ls /usr/lib/libCatch2WithMain.a"
)
[ "${1:-}" = format ] && packages+=("clang-format|the style check|command -v clang-format")

missing=()
for entry in "${packages[@]}"; do
  IFS='|' read -r package why probe <<<"$entry"
  if ! eval "$probe" >/dev/null 2>&1; then
    missing+=("$package")
    echo "missing: $package ($why)"
  fi
done
[ ${#missing[@]} -eq 0 ] && exit 0

by_hand() {
  echo
  echo "$1 Please install these packages (Debian's names; other systems have them under similar ones), then run make again:"
  printf '    %s\n' "${missing[@]}"
  exit 1
}
command -v apt-get >/dev/null 2>&1 || by_hand "This system has no apt."
sudo=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || by_hand "Installing needs root, and there is no sudo."
  sudo="sudo"
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing through apt: ${missing[*]}"
$sudo apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
  { $sudo apt-get update && $sudo apt-get install -y --no-install-recommends "${missing[@]}"; } ||
  by_hand "apt could not install them (offline?)."
