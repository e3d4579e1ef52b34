#!/usr/bin/env bash
# What the compiler made of every kernel: registers, shared memory, spilled bytes, and the theoretical occupancy, the
# share of an SM's threads that can be resident at once. Fails if a kernel spills.
#
#   cuda/report.sh NVCC ARCH file.cu …         (make cuda-report)
#
# Dynamic shared memory is chosen at the launch and does not count here.
set -euo pipefail
nvcc=$1 arch=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An SM's limits: threads, blocks, bytes of shared memory (65,536 registers everywhere). CUDA C++ programming guide, "Technical
# specifications per compute capability".
case $arch in
  75) limits="1024 16 65536" ;;
  80) limits="2048 32 167936" ;;
  86) limits="1536 16 102400" ;;
  89) limits="1536 24 102400" ;;
  90 | 100) limits="2048 32 233472" ;;
  120) limits="1536 24 102400" ;;
  *) echo "cuda/report.sh: unknown architecture $arch; expected 75, 80, 86, 89, 90, 100 or 120" >&2; exit 2 ;;
esac

for source in "$@"; do
  "$nvcc" -std=c++20 -arch=sm_"$arch" -I. -DLEM_REAL=float -DFMT_USE_CONSTEXPR=1 -Xptxas -v -keep -keep-dir "$work" -cubin \
    -o "$work/out.cubin" "$source" 2>"$work/$(basename "$source").log" || { cat "$work/$(basename "$source").log" >&2; exit 1; }
done

# Threads in a block stand in the PTX (from __launch_bounds__), everything else in ptxas's report.
awk -v arch="$arch" -v limits="$limits" '
  BEGIN { split(limits, limit, " "); max_threads = limit[1]; max_blocks = limit[2]; max_shared = limit[3] }
  /^\.visible \.entry|^\.entry|\.weak \.entry/ { name = $0; sub(/.*\.entry */, "", name); sub(/\(.*/, "", name) }
  /^\.maxntid/ { t = $0; gsub(/[^0-9,]/, "", t); split(t, d, ","); threads[name] = d[1] * (d[2] ? d[2] : 1) * (d[3] ? d[3] : 1) }
  /Compiling entry function/ { match($0, /\047[^\047]*\047/); kernel = substr($0, RSTART + 1, RLENGTH - 2); order[++count] = kernel }
  /bytes spill stores/ { match($0, /[0-9]+ bytes spill stores/); spill[kernel] = substr($0, RSTART) + 0
                         match($0, /[0-9]+ bytes spill loads/); spill[kernel] += substr($0, RSTART) + 0 }
  /Used [0-9]+ registers/ { match($0, /Used [0-9]+/); registers[kernel] = substr($0, RSTART + 5) + 0
                            if (match($0, /[0-9]+ bytes smem/)) shared[kernel] = substr($0, RSTART) + 0 }
  END {
    for (i = 1; i <= count; ++i) {
      k = order[i]; t = threads[k] ? threads[k] : 1024
      warps = int((t + 31) / 32)
      per_warp = int((registers[k] * 32 + 255) / 256) * 256
      blocks = max_blocks
      if (int(max_threads / (warps * 32)) < blocks) blocks = int(max_threads / (warps * 32))
      if (int(65536 / (per_warp * warps)) < blocks) blocks = int(65536 / (per_warp * warps))
      if (shared[k] > 0 && int(max_shared / (shared[k] + 1024)) < blocks) blocks = int(max_shared / (shared[k] + 1024))
      printf "%d\t%d\t%d\t%d\t%.0f\t%s\n", t, registers[k], shared[k], spill[k], 100 * blocks * warps * 32 / max_threads, k
      spilled += spill[k] > 0
    }
    exit spilled > 0
  }' "$work"/*.ptx "$work"/*.log >"$work/table" && status=0 || status=$?

printf '%8s %10s %8s %8s %10s   kernel (sm_%s)\n' threads registers shared spilled occupancy "$arch"
c++filt <"$work/table" | sed -E 's/lem::cuda::|\(anonymous namespace\)::|void //g; s/\(lem::[A-Za-z]+\)//g; s/\(.*//' |
  awk -F'\t' '{printf "%8d %10d %8d %8d %8d %%   %s\n", $1, $2, $3, $4, $5, $6}'
[ $status -eq 0 ] || echo "a kernel spills: see the column" >&2
exit $status
