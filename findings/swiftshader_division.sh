#!/usr/bin/env bash
# SwiftShader divides by a constant otherwise than by the same number out of a buffer.
#
# Expected: x / 127.0 and x / y with y = 127.0 are the same quotient, since the operands are the same.
# Happens:  a divisor that the compiler can see becomes a product with its rounded reciprocal, one ulp off for some x; the other
#           quotient is IEEE's. The scale of an int8 group, absmax / 127, so depends on how the shader spells it.
# Allowed:  WGSL grants a division 2.5 ulp; the surprise is that one device has two answers.
# Versions: SwiftShader as @sparticuz/chromium 153.0.0 (npm) ships it, driven through wgpu 0.32.0 (PyPI).
# Seen:     2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# The package is a Chromium for servers; only its driver and its Vulkan loader are unpacked.
npm pack --silent @sparticuz/chromium@153.0.0 >/dev/null
tar -xzf sparticuz-chromium-153.0.0.tgz package/bin/swiftshader.tar.br
node -e 'const fs = require("fs"); process.stdout.write(require("zlib").brotliDecompressSync(fs.readFileSync(process.argv[1])))' \
  package/bin/swiftshader.tar.br | tar -x
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target packages wgpu==0.32.0 numpy==2.4.6

export LD_LIBRARY_PATH=$work VK_DRIVER_FILES=$work/vk_swiftshader_icd.json WGPU_BACKEND_TYPE=Vulkan PYTHONPATH=$work/packages
python3 - <<'EOF'
import sys
import numpy as np, wgpu.utils
from wgpu.utils.compute import compute_with_buffers

info = wgpu.utils.get_default_device().adapter.info
print(f"driver: {info['device']} of @sparticuz/chromium 153.0.0")
assert "SwiftShader" in info["device"], "not the driver that was asked for"

SHADER = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> quotients: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    quotients[at.x] = vec2(x[at.x] / 127.0, x[at.x] / y[0]);
}
"""
x = np.arange(1, 65_537, dtype=np.float32)
y = np.array([127], dtype=np.float32)
got = compute_with_buffers({0: x, 1: y}, {2: (x.size, 2, "f")}, SHADER, n=x.size // 64)[2]
by_constant, by_buffer = np.asarray(got).T
ieee = x / y
by_reciprocal = x * (np.float32(1) / y)
off = by_constant != ieee
print(f"x / y, y from a buffer: {np.count_nonzero(by_buffer != ieee):,} of {x.size:,} quotients differ from IEEE's")
print(f"x / 127.0: {np.count_nonzero(off):,} of {x.size:,} differ")
if off.any():
    first = off.argmax()
    print(f"the first: {x[first]:.0f} / 127 = {ieee[first]:.9g}, and {by_constant[first]:.9g} by the constant")

if not off.any() or not (by_constant == by_reciprocal).all() or (by_buffer != ieee).any():
    sys.exit("CHANGED: division by a constant is no longer a product with its reciprocal, or division is not IEEE's")
print("As seen before: the constant became a reciprocal, the buffer did not.")
EOF
