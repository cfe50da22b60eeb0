#!/usr/bin/env bash
# All that a change must pass and `cargo test` leaves out, as it takes long or needs other programs: lints, documentation, licences,
# the archive format, devices that compute wrongly, the demo, and every kernel against the CPU.
#
#     scripts/check_all.sh DRIVER...
#
# DRIVER is the .json file of a Vulkan driver: seeded faults run on the first, the cross-check on each. 10 to 20 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
export NODEVICE_SELECT=1
section() { printf '\n== %s, after %s s\n' "$1" "$SECONDS"; }

section "format, lints, documentation, licences"
cargo fmt --check
cargo clippy --quiet --all-targets -- -D warnings
cargo clippy --quiet --all-targets --features faults -- -D warnings
cargo clippy --quiet --lib --no-default-features -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps
scripts/deny.sh

section "the archive format, as its description has it, by a reader that calls nothing of ours"
scripts/check_format.sh

section "devices that compute wrongly: what notices it, and what jobs make of them"
VK_DRIVER_FILES=$1 TERSOR_REQUIRE_GPU=1 cargo test --features faults --test faults

section "the README's first command, without a driver"
VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent cargo run --quiet --release -- demo

section "every kernel against the CPU, on drivers that share no code"
for driver in "$@"; do
  VK_DRIVER_FILES=$driver target/release/tersor crosscheck --quick --seed 1 --repro target --junit target/crosscheck.xml
done
