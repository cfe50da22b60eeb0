#!/usr/bin/env python3
"""Entropy-coded palettes beside grouped affine codes in no more bytes: the squared error of all matrices of a model.

    cargo build --release
    scripts/coded_beside_affine.py MODEL.safetensors [TERSOR]

Every matrix of at least 1,024 weights, embeddings too, is stored as affine codes, the clip of each group chosen for the least squared
error, and then as `quantize = { kind = "entropy", bits = B }` with `encode = "auto"`, B being the most whose archive is no larger.
"""
import json, math, pathlib, subprocess, sys, tempfile

model = sys.argv[1]
tersor = sys.argv[2] if len(sys.argv) > 2 else str(pathlib.Path(__file__).parents[1] / "target/release/tersor")
scratch = pathlib.Path(tempfile.mkdtemp())


def archive(treatment):
    """Bytes of the archive, bits per treated weight, their squared error, the largest relative error of a tensor."""
    recipe = scratch / "recipe.toml"
    recipe.write_text(
        f'version = 1\n[[rule]]\nmatch = "*"\nmin_dims = 2\nmin_elements = 1024\n{treatment}\n[[rule]]\nmatch = "*"\nkeep = true\n'
    )
    command = [tersor, "compress", model, "-o", scratch / "out", "--force", "--recipe", recipe, "--device", "cpu", "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    treated = [t for t in report["tensors"] if t["method"] != "kept"]
    weights = [math.prod(t["shape"]) for t in treated]
    error = sum(t["mse"] * n for t, n in zip(treated, weights))
    bits = 8 * sum(t["bytes"] for t in treated) / sum(weights)
    return report["output_bytes"], bits, error, max(t["rel_error"] for t in treated)


print("| affine | bytes | bits | squared error | largest rel | B | bytes | bits | squared error | largest rel | share |")
print("|---|---|---|---|---|---|---|---|---|---|---|")
for bits in (3, 4):
    for group in (128, 32):
        for symmetric in ("true", "false"):
            sizes = [group, 32, "row"] if group > 32 else [32, "row"]
            affine = archive(
                f'quantize = {{ kind = "affine", bits = {bits}, symmetric = {symmetric}, granularity = "group", '
                f'group = {json.dumps(sizes)}, objective = "mse" }}'
            )
            low, high, best = affine[1] - 1, affine[1] + 0.2, None
            for _ in range(9):
                asked = round((low + high) / 2, 4)
                coded = archive(f'quantize = {{ kind = "entropy", bits = {asked} }}\nencode = "auto"')
                if coded[0] <= affine[0]:
                    low, best = asked, (asked, coded)
                else:
                    high = asked
            if best is None:
                sys.exit("no such palette is as small")
            name = f"int{bits} per {group}, {'' if symmetric == 'true' else 'a'}symmetric"
            numbers = lambda a: f"{a[0]:,} | {a[1]:.3f} | {a[2]:.1f} | {a[3]:.4f}"
            print(f"| {name} | {numbers(affine)} | {best[0]} | {numbers(best[1])} | {best[1][2] / affine[2]:.2f} |", flush=True)
