#!/usr/bin/env bash
# Kills and interrupts compress at random moments: the output is always the old file or a complete new one, and after a signal
# that can be caught nothing else is left. scripts/interrupt.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
export NODEVICE_SELECT=1
rounds=${1:-40}
cargo build --quiet --release --bin tersor --example make_checkpoint
tersor=./target/release/tersor
dir=$(mktemp -d "${TMPDIR:-/tmp}/interrupt.XXXXXX")
trap 'rm -rf "$dir"' EXIT
./target/release/examples/make_checkpoint "$dir/in.safetensors" 256 BF16
$tersor compress "$dir/in.safetensors" -o "$dir/out.safetensors" --preset int8 --quiet
$tersor compress "$dir/in.safetensors" -o "$dir/new.safetensors" --preset int4 --quiet
old=$(sha256sum <"$dir/out.safetensors") new=$(sha256sum <"$dir/new.safetensors")
cp "$dir/out.safetensors" "$dir/old.safetensors"
replaced=0 kept=0
for i in $(seq "$rounds"); do
  cp "$dir/old.safetensors" "$dir/out.safetensors"
  signal=$([ $((i % 3)) = 0 ] && echo KILL || { [ $((i % 3)) = 1 ] && echo INT || echo TERM; })
  set +e
  $tersor compress "$dir/in.safetensors" -o "$dir/out.safetensors" --preset int4 --force --quiet 2>/dev/null &
  pid=$!
  sleep "0.$(printf '%03d' $((RANDOM % 600)))"
  kill -s "$signal" "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  code=$?
  set -e
  case "$signal $code" in
    "INT 130" | "TERM 143" | "KILL 137" | *" 0") ;;
    *) echo "exit code $code after SIG$signal"; exit 1 ;;
  esac
  now=$(sha256sum <"$dir/out.safetensors")
  if [ "$now" = "$old" ]; then kept=$((kept + 1)); elif [ "$now" = "$new" ]; then replaced=$((replaced + 1)); else
    echo "round $i, SIG$signal: the output is torn"; exit 1
  fi
  left=$(find "$dir" -name '.*.tmp' | wc -l)
  if [ "$signal" != KILL ] && [ "$left" != 0 ]; then echo "round $i, SIG$signal: a temporary file is left"; exit 1; fi
  rm -f "$dir"/.*.tmp
done
echo "$rounds rounds: the old file $kept times, the new one $replaced times, never another"
