#!/usr/bin/env bash
# Every fault, signal and kill at every call by which jobs touch files; needs strace. scripts/io_faults.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export TERSOR_REQUIRE_STRACE=1 RUST_BACKTRACE=0
cargo test --quiet --test jobs -- io_faults:: --nocapture --test-threads=1 --include-ignored
