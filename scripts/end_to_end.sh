#!/usr/bin/env bash
# Compress, verification included, beside cp + sync of the same file, alternating, page cache warm: medians and their ratio.
# scripts/end_to_end.sh [MEBIBYTES] [ROUNDS] [PRESETS...]
set -euo pipefail
cd "$(dirname "$0")/.."
export NODEVICE_SELECT=1
size=${1:-2048} rounds=${2:-5}
shift $(($# < 2 ? $# : 2))
presets=("${@:-int8}")
cargo build --quiet --release --bin tersor --example make_checkpoint
dir=$(mktemp -d "${TMPDIR:-/tmp}/end_to_end.XXXXXX")
trap 'rm -rf "$dir"' EXIT
./target/release/examples/make_checkpoint "$dir/in.safetensors" "$size" BF16
sync
cat "$dir/in.safetensors" >/dev/null

# Seconds of wall time, user and system time, and the most memory, into the file $1.
run() { local out=$1; shift; /usr/bin/time -f '%e %U %S %M' -a -o "$out" "$@"; }
median() { sort -n "$1" | awk '{ v[NR] = $1; u[NR] = $2 + $3; m = $4 > m ? $4 : m } END { i = int((NR + 1) / 2); printf "%s %s %d %s", v[i], u[i], m / 1024, v[1] }'; }

for preset in "${presets[@]}"; do
  rm -f "$dir"/*.times
  for _ in $(seq "$rounds"); do
    rm -f "$dir/copy" "$dir/out.safetensors"; sync
    run "$dir/cp.times" sh -c "cp '$dir/in.safetensors' '$dir/copy' && sync"
    rm -f "$dir/copy"; sync
    run "$dir/$preset.times" ./target/release/tersor compress "$dir/in.safetensors" -o "$dir/out.safetensors" --preset "$preset" --device cpu --memory 1GiB --quiet
  done
  read -r cp _ _ cp_least < <(median "$dir/cp.times"; echo)
  read -r own cpu memory own_least < <(median "$dir/$preset.times"; echo)
  awk -v p="$preset" -v s="$size" -v c="$cp" -v o="$own" -v u="$cpu" -v m="$memory" -v cl="$cp_least" -v ol="$own_least" \
    'BEGIN { printf "%s, %d MiB bf16: cp + sync %.2f s, compress %.2f s: ratio %.2f (of the least: %.2f / %.2f = %.2f); %.2f core seconds, %d MiB\n", p, s, c, o, o / c, ol, cl, ol / cl, u, m }'
done
