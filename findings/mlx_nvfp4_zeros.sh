#!/usr/bin/env bash
# MLX turns small weights into zeros when it quantizes them to nvfp4.
#
# Expected: a matrix times a constant quantizes to the same relative error, since every group has a scale of its own.
# Happens:  the scale of a group, its largest magnitude over 6, is stored as E4M3, whose smallest number is 2^-9. A group whose
#           largest magnitude is at most 6 * 2^-10 = 0.00586 gets the scale 0 and all its weights are lost, without a warning.
#           A matrix with a standard deviation of 0.002 becomes nearly nothing but zeros. The scale of the whole tensor that other
#           writers of NVFP4 put on top is optional here, and left out unless the caller computes it.
# Versions: mlx 0.32.4 with mlx-cpu 0.32.4, numpy 2.4.6 (PyPI).
# Seen:     2026-11-29. Upstream: ml-explore/mlx#3022 (the optional scale), ml-explore/mlx-lm#1836 (models that broke).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
  "mlx[cpu]==0.32.4" mlx-cpu==0.32.4 numpy==2.4.6
PYTHONPATH=$work/packages python3 - <<'EOF'
import sys
from importlib.metadata import version
import mlx.core as mx, numpy as np

mx.set_default_device(mx.cpu)
print(f"mlx {version('mlx')}")


def restored(weights, mode):
    codes = mx.quantize(mx.array(weights), mode=mode)
    return np.array(mx.dequantize(*codes, mode=mode).astype(mx.float32))


normal = np.random.default_rng(1).standard_normal((64, 256))
zeros, errors = {}, {}
for deviation in [0.02, 0.002, 0.0005]:
    weights = (normal * deviation).astype(np.float32)
    for mode in ["nvfp4", "mxfp4"]:
        got = restored(weights, mode)
        key = mode, deviation
        zeros[key] = np.mean(got == 0)
        errors[key] = np.linalg.norm(got - weights) / np.linalg.norm(weights)
        print(f"deviation {deviation}, {mode}: {zeros[key]:.0%} zeros, relative error {errors[key]:.2f}")

ramp = np.tile(np.linspace(-1, 1, 16, dtype=np.float32), (32, 2))
edge = [bool(restored(ramp * np.float32(largest), "nvfp4").any()) for largest in (0.00585, 0.00587)]
for largest, kept in zip((0.00585, 0.00587), edge):
    print(f"groups whose largest magnitude is {largest}: {'some weights survive' if kept else 'all zero'}")

small = zeros["nvfp4", 0.002] > 0.9 and zeros["nvfp4", 0.0005] == 1
ordinary = errors["nvfp4", 0.02] < 0.15 and all(errors["mxfp4", d] < 0.15 for d in [0.02, 0.002, 0.0005])
if not small or not ordinary or edge != [False, True]:
    sys.exit("CHANGED: nvfp4 keeps small weights, or other weights than before are lost")
print("As seen before: scales of at most 2^-10 become 0, and their weights with them.")
EOF
