#!/usr/bin/env python3
"""Entropy-constrained palettes beside optimal palettes whose codes have the same entropy, tensor by tensor.

    cargo build --release
    scripts/entropy_constrained.py MODEL.safetensors [K ...]

Every matrix of at least 1,024 weights is stored as the K best values (default 4 8 16), and then again with
`quantize = { kind = "entropy", bits = B }`, where B is the entropy of that tensor's own codes, from the report.
"""
import json, pathlib, subprocess, sys, tempfile

TERSOR = pathlib.Path(__file__).resolve().parent.parent / "target/release/tersor"
HEAD = "version = 1\n"
KEEP = '[[rule]]\nmatch = "*"\nkeep = true\noptional = true\n'


def rule(pattern, quantize):
    return f'[[rule]]\n{pattern}\nmin_dims = 2\nmin_elements = 1024\nquantize = {{ {quantize} }}\n'


def compress(model, folder, recipe):
    """The treated tensors of the report, by name."""
    (folder / "recipe.toml").write_text(HEAD + recipe + KEEP)
    command = [TERSOR, "compress", model, "-o", folder / "out.safetensors", "--recipe", folder / "recipe.toml",
               "--force", "--device", "cpu", "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {t["name"]: t for t in report["tensors"] if t["method"] != "kept"}


def elements(tensor):
    count = 1
    for side in tensor["shape"]:
        count *= side
    return count


def total(tensors, key):
    return sum(t[key] * elements(t) for t in tensors.values())


with tempfile.TemporaryDirectory() as folder:
    folder, model = pathlib.Path(folder), sys.argv[1]
    print("| k | tensors | bits | squared error | of entropy, bits | squared error | change | least, most change |")
    print("|---|---|---|---|---|---|---|---|")
    for k in [int(k) for k in sys.argv[2:]] or [4, 8, 16]:
        fixed = compress(model, folder, rule('match = "*"', f'kind = "palette", k = {k}'))
        each = [rule(f"match = {json.dumps(n)}", f'kind = "entropy", bits = {t["entropy_bits"]!r}') for n, t in fixed.items()]
        coded = compress(model, folder, "".join(each))
        assert fixed.keys() == coded.keys()
        assert all(coded[n]["entropy_bits"] <= t["entropy_bits"] + 1e-12 for n, t in fixed.items())
        changes = sorted(coded[n]["mse"] / t["mse"] - 1 for n, t in fixed.items())
        n = sum(map(elements, fixed.values()))
        a, b = total(fixed, "mse"), total(coded, "mse")
        print(f"| {k} | {len(fixed)} | {total(fixed, 'entropy_bits') / n:.4f} | {a:.4f} | {total(coded, 'entropy_bits') / n:.4f} "
              f"| {b:.4f} | {b / a - 1:+.1%} | {changes[0]:+.1%}, {changes[-1]:+.1%} |")
