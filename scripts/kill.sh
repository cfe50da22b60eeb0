#!/usr/bin/env bash
# Kills jobs at random moments and looks at what is left; then 16 writers at a time at one output. scripts/kill.sh [KILLS [ROUNDS]]
# TMPDIR says on which file system: /dev/shm for speed, a disk for its own timing.
set -euo pipefail
cd "$(dirname "$0")/.."
export TERSOR_ROUNDS=${1:-2000} TERSOR_WRITER_ROUNDS=${2:-100} TERSOR_SEED=${TERSOR_SEED:-$RANDOM}
echo "seed $TERSOR_SEED, in ${TMPDIR:-/tmp}"
cargo test --quiet --test jobs -- --nocapture --test-threads=1 whatever_is_killed many_writers
