#!/usr/bin/env bash
# Makes every call of a Vulkan driver that may fail do so, at many places of many jobs (tests/device_faults.rs). Takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export TERSOR_GPU_FAULTS=all TERSOR_REQUIRE_GPU=1 NODEVICE_SELECT=1
cargo test --test device_faults -- --nocapture
