#!/usr/bin/env python3
"""Vectors and pyramids beside palettes by entropy of as many bits: squared errors of the matrices of models.

    cargo build --release
    python3 -m venv peers && peers/bin/pip install numpy safetensors onnx gguf
    peers/bin/python scripts/quantizers.py [--tersor TERSOR] [NAME=MODEL ...]

Models and made weights are those of scripts/transforms.py. All bits of the tensors are counted: codes, codebooks, scales and
headers. The last columns are the squared error over the sum of squares, in %, of the quantizer, and of `kind = "entropy"` at the
bits that the quantizer came to.
"""
import argparse, math, pathlib, subprocess, sys, tempfile
import numpy as np
from safetensors.numpy import save_file
from transforms import errors, load, made, matrices

ROW = 'granularity = "channel"'
CODED = 'encode = "auto"'
QUANTIZERS = {
    "vector d = 2, k = 16": f'quantize = {{ kind = "vector", d = 2, k = 16, {ROW} }}',
    "vector d = 4, k = 256": f'quantize = {{ kind = "vector", d = 4, k = 256, {ROW} }}',
    "vector d = 4, k = 256, coded": f'quantize = {{ kind = "vector", d = 4, k = 256, {ROW} }}\n{CODED}',
    "vector d = 4, k = 4096": f'quantize = {{ kind = "vector", d = 4, k = 4096, {ROW} }}',
    "vector d = 8, k = 256": f'quantize = {{ kind = "vector", d = 8, k = 256, {ROW} }}',
    "residual d = 4, k = 256, 2 stages": f'quantize = {{ kind = "residual", d = 4, k = 256, stages = 2, {ROW} }}',
    "pyramid n = 32, 3.5 bits": 'quantize = { kind = "pyramid", n = 32, bits = 3.5, gain_bits = 5 }',
    "pyramid n = 16, 2.5 bits": 'quantize = { kind = "pyramid", n = 16, bits = 2.5, gain_bits = 5 }',
    "int4 per 64": 'quantize = { kind = "affine", bits = 4, granularity = "group", group = 64, objective = "mse" }',
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--tersor", default=str(pathlib.Path(__file__).parents[1] / "target/release/tersor"))
    options = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp())
    sources = [(name, {"w": w.astype("f4")}) for name, w in list(made().items())[:2]]
    for model in options.models:
        name, path = model.split("=", 1)
        sources.append((name, {k: w for k, w in matrices(load(path)).items() if w.shape[1] % 64 == 0}))
    for name, tensors in sources:
        model = scratch / "in.safetensors"
        save_file(tensors, str(model))
        squares = sum(float((w.astype("f8") ** 2).sum()) for w in tensors.values())
        weights = sum(w.size for w in tensors.values())
        print(f"\n**{name}**: {len(tensors)} tensors, {weights:,} weights\n\n| | bits | error | entropy: bits | error |\n|---|---|---|---|---|")
        for quantizer, quantize in QUANTIZERS.items():
            def measured(rule):
                found = errors(options.tersor, scratch, model, rule)
                return sum(b for _, b in found.values()) / weights, 100 * sum(e for e, _ in found.values()) / squares

            bits, error = measured(quantize)
            beside = measured(f'quantize = {{ kind = "entropy", bits = {bits:.3f} }}\n{CODED}')
            print(f"| {quantizer} | {bits:.3f} | {error:.4f} | {beside[0]:.3f} | {beside[1]:.4f} |", flush=True)


main()
