#!/usr/bin/env bash
# Core seconds of two builds on the same checkpoint in one run, alternating, page cache warm, beside `cp` + `sync`: the least of each, and
# their ratio. What is given is a preset by name, or a recipe by its file.
# scripts/core_seconds.sh OLD NEW CHECKPOINT ROUNDS PRESET|RECIPE...
set -euo pipefail
old=$1 new=$2 from=$3 rounds=$4
shift 4
dir=$(mktemp -d "${TMPDIR:-/tmp}/core_seconds.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cat "$from" >/dev/null

# Wall seconds, core seconds and MiB at most, a line for each run, into the file $1.
run() { local out=$1; shift; /usr/bin/time -f '%e %U %S %M' -a -o "$dir/$out" "$@"; }
least() { awk '{ u = $2 + $3; if (NR == 1 || u < c) c = u; if (NR == 1 || $1 < w) w = $1; if ($4 > m) m = $4 } END { printf "%.2f %.2f %d", w, c, m / 1024 }' "$dir/$1"; }

for _ in $(seq "$rounds"); do
  rm -f "$dir/copy"; sync
  run cp sh -c "cp '$from' '$dir/copy' && sync"
done
rm -f "$dir/copy"
read -r copy _ < <(least cp; echo)
for what in "$@"; do
  flag=--preset
  [ -f "$what" ] && flag=--recipe
  rm -f "$dir/old" "$dir/new"
  for _ in $(seq "$rounds"); do
    for side in old new; do
      rm -f "$dir/out"; sync
      run "$side" "${!side}" compress "$from" -o "$dir/out" "$flag" "$what" --device cpu --memory 1GiB --quiet
    done
  done
  read -r old_wall old_core old_memory < <(least old; echo)
  read -r new_wall new_core new_memory < <(least new; echo)
  awk -v p="$(basename "$what" .toml)" -v a="$old_core" -v b="$new_core" -v aw="$old_wall" -v bw="$new_wall" -v am="$old_memory" -v bm="$new_memory" -v c="$copy" \
    'BEGIN { printf "| %s | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %d | %d |\n", p, a, b, b / a, aw, bw, bw / c, am, bm }'
done
