#!/usr/bin/env bash
# lavapipe ends every loop of an invocation after 65,535 turns, and says nothing.
#
# Expected: a loop of 100,000 turns counts to 100,000, or the driver reports that it gave up.
# Happens:  it counts to 65,535. The limit is shared by all loops that an invocation runs, the outer and the inner turns of nested
#           ones too. No error, no validation message, no lost device: only a wrong result.
# Versions: Mesa 22.3.6 (Debian 12, mesa-vulkan-drivers 22.3.6-1+deb12u2), driven through wgpu 0.32.0 (PyPI).
# Seen:     2026-11-29. Others met it too: ggml-org/llama.cpp#13813.
set -euo pipefail
mesa=22.3.6-1+deb12u2
loader=1.3.239.0-1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The driver, the Vulkan loader and what they need that is not installed; unpacked, not installed.
mkdir -p "$work/debs/partial" "$work/root"
fetch() {
  apt-get install --quiet --quiet --yes --download-only --reinstall --no-install-recommends --allow-downgrades \
    -o Dir::Cache::archives="$work/debs" "mesa-vulkan-drivers=$mesa" "libvulkan1=$loader" >"$work/apt.log" 2>&1
}
if ! command -v apt-get >/dev/null || ! { fetch || { apt-get update --quiet --quiet >/dev/null 2>&1 && fetch; }; }; then
  echo "SKIPPED: mesa-vulkan-drivers $mesa cannot be had here; the machine offers" \
    "$(apt-cache policy mesa-vulkan-drivers 2>/dev/null | awk '/Candidate/ { print $2 }')"
  exit 0
fi
for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/root"; done
driver=$(find "$work/root" -name libvulkan_lvp.so)
printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.1.230"}}' "$driver" >"$work/lavapipe.json"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" wgpu==0.32.0

export LD_LIBRARY_PATH=${driver%/*} VK_DRIVER_FILES=$work/lavapipe.json WGPU_BACKEND_TYPE=Vulkan
export NODEVICE_SELECT=1 MESA_SHADER_CACHE_DISABLE=true PYTHONPATH=$work/packages
python3 - <<'EOF'
import array, sys
import wgpu.utils
from wgpu.utils.compute import compute_with_buffers

info = wgpu.utils.get_default_device().adapter.info
print(f"driver: {info['device']}, {info['description']}")
assert "Mesa 22.3.6" in info["description"], "not the driver that was asked for"

SHADER = """
@group(0) @binding(0) var<storage, read> turns: array<u32>;
@group(0) @binding(1) var<storage, read_write> counted: array<u32>;

@compute @workgroup_size(1)
fn main() {
    var count = 0u;
    for (var outer = 0u; outer < turns[0]; outer++) {
        for (var inner = 0u; inner < turns[1]; inner++) { count++; }
    }
    counted[0] = count;
}
"""
FLAT = SHADER.replace("for (var inner = 0u; inner < turns[1]; inner++) { count++; }", "count++;")

seen = {}
for name, shader, outer, inner in [
    ("one loop", FLAT, 65_535, 1),
    ("one loop", FLAT, 65_536, 1),
    ("one loop", FLAT, 100_000, 1),
    ("two nested loops", SHADER, 1_000, 1_000),
]:
    counted = compute_with_buffers({0: array.array("I", [outer, inner])}, {1: (1, "I")}, shader, n=1)[1][0]
    seen[outer] = counted
    print(f"{name}, {outer * inner:,} turns: counted {counted:,}")

expected = {65_535: 65_535, 65_536: 65_535, 100_000: 65_535}
if {n: seen[n] for n in expected} != expected or not 60_000 < seen[1_000] < 65_536:
    sys.exit("CHANGED: the limit of 65,535 turns is gone or another")
print("As seen before: 65,535 turns in all, then every loop ends.")
EOF
