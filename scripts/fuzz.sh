#!/usr/bin/env bash
# Fuzzes every target for so many seconds each: scripts/fuzz.sh SECONDS [TARGET...]. Needs cargo-fuzz and a nightly toolchain; without
# them `TERSOR_FUZZ_SECONDS=600 cargo test --test files fuzz` mutates the same corpus. New inputs go to fuzz/target/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?how many seconds for each target}
shift
if [ $# -eq 0 ]; then set -- $(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//'); fi
cargo +nightly fuzz build
for target in "$@"; do
  found=fuzz/target/corpus/$target
  seeds=(fuzz/corpus/"$target")
  if [ "$target" = archive ]; then seeds+=(tests/golden/1); fi
  mkdir -p "$found" fuzz/artifacts
  echo "== $target"
  ASAN_OPTIONS=detect_leaks=0 fuzz/target/x86_64-unknown-linux-gnu/release/"$target" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=16384 \
    -artifact_prefix=fuzz/artifacts/"$target"- -print_final_stats=1 "$found" "${seeds[@]}" 2>&1 |
    grep -E 'cov: .*DONE|executed_units|peak_rss|slowest|ERROR|panicked' || true
done
if ls fuzz/artifacts/* >/dev/null 2>&1; then
  echo "found: $(ls fuzz/artifacts)"
  exit 1
fi
