#!/usr/bin/env python3
"""Where a transform of the rows helps a quantizer, and where it does not: squared errors of models and of made weights.

    cargo build --release
    python3 -m venv peers && peers/bin/pip install numpy safetensors onnx gguf
    peers/bin/python scripts/transforms.py [--tersor TERSOR] [NAME=MODEL ...]

A MODEL is a .safetensors, .onnx or .gguf file; of it every matrix (a convolution is out x the rest) of at least 1,024 weights whose rows
8 divides is taken, as F32. Made weights are always measured: normal, Student's t of 3 degrees of freedom, normal with one weight in 256
times 20, and rows of a random walk, which are smooth. Cells are the squared error over the sum of squares, in %, and in how many of the
tensors it is less than without a transform.
"""
import argparse, json, math, pathlib, subprocess, sys, tempfile

import numpy as np
from safetensors.numpy import save_file

GROUP = 'granularity = "group", group = [64, 32, 16, 8]'
QUANTIZERS = {
    "int4 per 64": f'quantize = {{ kind = "affine", bits = 4, {GROUP}, objective = "mse" }}',
    "int4 per channel": 'quantize = { kind = "affine", bits = 4, objective = "mse" }',
    "int3 per 64": f'quantize = {{ kind = "affine", bits = 3, {GROUP}, objective = "mse" }}',
    "palette 16 per tensor": 'quantize = { kind = "palette", bits = 4 }',
    "3 bits, entropy": 'quantize = { kind = "entropy", bits = 3 }\nencode = "auto"',
}
TRANSFORMS = {
    "none": "",
    "hadamard": 'transform = { kind = "hadamard", seed = 1 }',
    "hadamard 32": 'transform = { kind = "hadamard", block = 32, seed = 1 }',
    "dct 8": 'transform = { kind = "dct", block = 8 }',
    "dct": 'transform = "dct"',
    "dct 8, jpeg": 'transform = { kind = "dct", quantization = "jpeg" }',
    "dct 8, fitted": None,
}


def load(path):
    """Matrices by name."""
    if path.endswith(".safetensors"):
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    if path.endswith(".onnx"):
        import onnx
        from onnx import numpy_helper

        model = onnx.load(path)
        found = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                found.update({node.output[0]: numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"})
        return found
    import gguf

    reader = gguf.GGUFReader(path)
    return {t.name: gguf.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in reader.tensors}


def matrices(tensors):
    wide = {}
    for name, w in tensors.items():
        if w.ndim >= 2 and w.size >= 1024 and w.dtype.kind == "f" and (w.size // w.shape[0]) % 8 == 0:
            wide[name.replace("/", ".")] = np.ascontiguousarray(w.reshape(w.shape[0], -1), dtype="f4")
    return wide


def made():
    """Weights whose distributions are known."""
    random = np.random.default_rng(1)
    shape = (1024, 1024)
    normal = random.standard_normal(shape)
    spikes = np.where(random.random(shape) < 1 / 256, 20, 1) * random.standard_normal(shape)
    # A column that is 20 times as large in all rows: an outlier channel of the input.
    columns = random.standard_normal(shape) * np.where(np.arange(1024) % 256 == 77, 20, 1)
    walk = np.cumsum(random.standard_normal(shape), axis=1)
    return {
        "made: normal": normal,
        "made: Student's t, 3 degrees": random.standard_t(3, shape),
        "made: 1 in 256 times 20": spikes,
        "made: 1 column in 256 times 20": columns,
        "made: random walks": walk - walk.mean(axis=1, keepdims=True),
    }


def fitted(all_matrices):
    """Steps in proportion to the coefficients' standard deviations, the largest 255."""
    k = np.arange(8)
    matrix = np.sqrt(np.where(k, 2, 1) / 8)[:, None] * np.cos(np.pi * np.outer(k, 2 * k + 1) / 16)
    squares = sum(((w.reshape(-1, 8).astype("f8") @ matrix.T) ** 2).sum(axis=0) for w in all_matrices.values())
    steps = np.sqrt(squares / squares.max())
    return [max(1, round(255 * s)) for s in steps]


def errors(tersor, scratch, model, rule):
    recipe = scratch / "recipe.toml"
    recipe.write_text(f'version = 1\n[[rule]]\nmatch = "*"\n{rule}\n')
    command = [tersor, "compress", model, "-o", scratch / "out", "--force", "--recipe", recipe, "--device", "cpu", "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{rule}: {run.stderr}{run.stdout}")
    report = json.loads(run.stdout)
    return {t["name"]: (t["mse"] * math.prod(t["shape"]), 8 * t["bytes"]) for t in report["tensors"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--tersor", default=str(pathlib.Path(__file__).parents[1] / "target/release/tersor"))
    options = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp())
    sources = [(name, {"w": w.astype("f4")}) for name, w in made().items()]
    for model in options.models:
        name, path = model.split("=", 1)
        sources.append((name, matrices(load(path))))
    for name, tensors in sources:
        model = scratch / "in.safetensors"
        save_file(tensors, str(model))
        squares = sum(float((w.astype("f8") ** 2).sum()) for w in tensors.values())
        weights = sum(w.size for w in tensors.values())
        steps = fitted(tensors)
        rows = sorted({w.shape[1] & -w.shape[1] for w in tensors.values()})
        # A block that is given must divide all rows; dct and hadamard alone take the largest that does.
        skip = {"hadamard 32"} if rows[0] < 32 else set()
        print(f"\n**{name}**: {len(tensors)} tensors, {weights:,} weights; fitted steps {steps}\n")
        columns = [t for t in TRANSFORMS if t not in skip]
        print("| | bits | " + " | ".join(columns) + " |")
        print("|---" * (len(columns) + 2) + "|")
        for quantizer, quantize in QUANTIZERS.items():
            cells, plain, bits = [], None, 0
            for column in columns:
                transform = TRANSFORMS[column]
                if transform is None:
                    transform = f'transform = {{ kind = "dct", quantization = {steps} }}'
                found = errors(options.tersor, scratch, model, f"{transform}\n{quantize}")
                share = 100 * sum(e for e, _ in found.values()) / squares
                if plain is None:
                    plain, bits = found, sum(b for _, b in found.values()) / weights
                    cells.append(f"{share:.4f}")
                    continue
                better = sum(e < plain[t][0] for t, (e, _) in found.items())
                cells.append(f"{share:.4f}" + (f" ({better})" if len(found) > 1 else ""))
            print(f"| {quantizer} | {bits:.2f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
