#!/usr/bin/env bash
# Pillow's fast octree takes `kmeans` and does nothing with it.
#
# Expected: `image.quantize(16, method, kmeans=n)` refines the palette by k-means, as it does after median cut and maximum coverage,
#           whichever method made it; or the argument is refused where it means nothing.
# Happens:  with FASTOCTREE, the only method of Pillow's own that takes pictures with transparency, every n gives the picture that
#           n = 0 gives, pixel for pixel, and no word is said.
# Versions: Pillow 12.0.0 (PyPI).
# Seen:     2026-12-01.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv tools
tools/bin/pip install --quiet Pillow==12.0.0 numpy==2.3.5
cat >octree.py <<'EOF'
import sys
import numpy, PIL
from PIL import Image

print("Pillow", PIL.__version__)
random = numpy.random.default_rng(1)
ramp = numpy.linspace(0, 255, 128)
colours = numpy.stack([numpy.add.outer(ramp, ramp) / 2, numpy.tile(ramp, (128, 1)), random.normal(128, 30, (128, 128))], axis=2)
picture = Image.fromarray(colours.clip(0, 255).astype("uint8"))


def error(method, kmeans):
    found = picture.quantize(16, method, kmeans=kmeans, dither=Image.Dither.NONE).convert("RGB")
    return float(((numpy.asarray(found, "f8") - numpy.asarray(picture, "f8")) ** 2).mean())


changed = False
for method in (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE, Image.Quantize.FASTOCTREE):
    errors = [error(method, kmeans) for kmeans in (0, 1, 10)]
    print(f"{method.name}: mean squared error with kmeans = 0, 1, 10:", *(f"{e:.2f}" for e in errors))
    heeded = errors[2] < errors[0]
    changed |= heeded == (method == Image.Quantize.FASTOCTREE) or (not heeded and len(set(errors)) > 1)
if changed:
    sys.exit("CHANGED: kmeans is heeded otherwise")
print("As seen before: the octree stays as it was.")
EOF
tools/bin/python octree.py
