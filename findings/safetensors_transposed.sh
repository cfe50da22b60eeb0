#!/usr/bin/env bash
# safetensors.numpy.save_file writes a transposed array with its elements in the wrong order.
#
# Expected: what is loaded equals what was saved, or saving refuses the array, as safetensors.torch refuses such a tensor.
# Happens:  the bytes are written as they lie in memory and the shape as it is seen, so that a transposed array comes back with the
#           right shape and type, and with its values in other places. Nothing warns, and no reader can tell: the file is
#           well-formed. A weight that a converter turned around with `.T` is the usual case.
# Versions: safetensors 0.8.0 and numpy 2.4.6 (PyPI); 0.7.0 wrote such arrays right.
# Seen:     2026-11-29. Upstream: safetensors/safetensors#825.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 0.7.0 0.8.0; do
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/$version" \
    "safetensors==$version" numpy==2.4.6
done
cat >"$work/save.py" <<'EOF'
import sys
import numpy as np, safetensors
from safetensors.numpy import load_file, save_file

weight = np.arange(6, dtype=np.float32).reshape(2, 3)
arrays = {
    "as it lies": weight,
    "transposed": weight.T,
}
save_file(arrays, sys.argv[1])
loaded = load_file(sys.argv[1])
print(f"safetensors {safetensors.__version__}")
for name, saved in arrays.items():
    same = np.array_equal(saved, loaded[name])
    print(f"  {name}: saved {saved.tolist()}, loaded {loaded[name].tolist()}: {'same' if same else 'DIFFERENT'}")
    assert loaded[name].shape == saved.shape and loaded[name].dtype == saved.dtype
right = [np.array_equal(saved, loaded[name]) for name, saved in arrays.items()]
expected = [True, safetensors.__version__ == "0.7.0"]
sys.exit("CHANGED: other arrays than before come back as they were" if right != expected else 0)
EOF
for version in 0.7.0 0.8.0; do
  PYTHONPATH=$work/$version python3 "$work/save.py" "$work/$version.safetensors"
done
echo "As seen before: 0.8.0 loses the order of a transposed array, 0.7.0 kept it."
