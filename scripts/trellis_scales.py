#!/usr/bin/env python3
"""Whether a scale per row or group would help a trellis, and which form suits a layer with outliers: squared errors at equal bytes.

    cargo build --release
    scripts/fetch_minilm.sh minilm
    scripts/trellis_scales.py minilm/model.safetensors

Rows (groups of 64) are divided by their root mean square, quantized by `trellis` with as many bits less as a BF16 scale takes, and
multiplied again. "Of the tensor" is the squared error over the tensor's sum of squares; "of rows" the mean of that of each row.
Needs numpy and safetensors.
"""
import json, pathlib, subprocess, sys, tempfile
import numpy as np
from safetensors.numpy import load_file, save_file

TERSOR = pathlib.Path(__file__).resolve().parent.parent / "target/release/tersor"
GROUP = '"affine", bits = 4, granularity = "group", group = [128, 64, 32, "row"], objective = "mse", scales = "bf16" }'
FORMS = [
    f'quantize = {{ kind = {GROUP}',
    f'quantize = {{ kind = {GROUP}\nencode = "auto"',
    f'transform = "hadamard"\nquantize = {{ kind = {GROUP}\nencode = "auto"',
    'quantize = { kind = "affine", bits = 4, granularity = "channel", objective = "mse" }\nencode = "auto"',
    'quantize = { kind = "palette", k = 16 }\nencode = "auto"',
    'quantize = { kind = "vector", d = 2, k = 256 }\nencode = "auto"',
    'quantize = { kind = "pyramid", n = 32, bits = 3.75 }',
    'quantize = { kind = "entropy", bits = 3.98 }\nencode = "auto"',
    'quantize = { kind = "trellis", bits = 4.0 }',
    'quantize = { kind = "trellis", bits = 4.0, states = 64 }',
    'transform = "hadamard"\nquantize = { kind = "trellis", bits = 4.0 }',
    'transform = "dct"\nquantize = { kind = "trellis", bits = 4.0 }',
]


def through(folder, weights, rule):
    """What comes back, and its bits, of all but the header."""
    at = lambda name: folder / name
    save_file({"w": np.ascontiguousarray(weights.astype(np.float32))}, at("in"))
    at("recipe").write_text(f'version = 1\n[[rule]]\nmatch = "*"\n{rule}\n')
    run = lambda *args: subprocess.run([TERSOR, *args, "--device", "cpu", "--force", "--json"], check=True, stdout=subprocess.PIPE).stdout
    report = json.loads(run("compress", at("in"), "-o", at("out"), "--recipe", at("recipe")))
    run("decompress", at("out"), "-o", at("back"))
    stored = sum(c["bytes"] for c in report["tensors"][0]["components"] if c["name"] != "header")
    return load_file(at("back"))["w"].astype(np.float64), 8 * stored / weights.size


model = load_file(sys.argv[1])
ffn = ["encoder.layer.0.output.dense.weight", "encoder.layer.5.output.dense.weight"]
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    print("| tensor | scales | bits | squared error of the tensor | of rows |\n|---|---|---|---|---|")
    for name in [*ffn, "encoder.layer.2.attention.self.query.weight", "embeddings.word_embeddings.weight"]:
        w = model[name].astype(np.float64)[:4096]
        rows, cols = w.shape
        rms = lambda x: np.sqrt((x * x).mean(-1, keepdims=True))
        kinds = {"none": (np.ones_like(w), 0), "row": (np.repeat(rms(w), cols, 1), 16 / cols),
                 "group of 64": (np.repeat(rms(w.reshape(rows, -1, 64))[..., 0], 64, 1), 16 / 64)}
        for kind, (scale, over) in kinds.items():
            back, bits = through(folder, w / scale, f'quantize = {{ kind = "trellis", bits = {3 - over} }}')
            off = (back * scale - w) ** 2
            print(f"| {name} | {kind} | {bits + over:.3f} | {off.sum() / (w * w).sum():.5f} | {(off.sum(1) / (w * w).sum(1)).mean():.5f} |")
    for name in ffn:
        print(f"\n| {name} | bits | squared error | at 4 bits, a factor of 4 for each |\n|---|---|---|---|")
        w = model[name].astype(np.float64)
        for rule in FORMS:
            back, bits = through(folder, w, rule)
            error = ((back - w) ** 2).sum() / (w * w).sum()
            print(f"| `{rule.replace(chr(10), '; ')}` | {bits:.3f} | {error:.5f} | {error * 4 ** (bits - 4):.5f} |")
