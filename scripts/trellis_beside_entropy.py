#!/usr/bin/env python3
"""Squared error and CPU time of `trellis` beside `entropy` at the same bytes of the file, for checkpoints, or for 16.8 million normally
distributed weights where none is given. One thread. Needs numpy for the latter.

    trellis_beside_entropy.py TERSOR [CHECKPOINT ...]
"""

import json
import math
import os
import resource
import struct
import subprocess
import sys
import tempfile

RULES = """version = 1
[[rule]]
match = "*"
min_dims = 2
min_elements = 4096
quantize = {{ kind = "{kind}", bits = {bits}{more} }}
encode = "rans"
[[rule]]
match = "*"
keep = true
"""


def normal(path, n=1 << 24):
    import numpy as np

    header = json.dumps({"w": {"dtype": "F32", "shape": [4096, n // 4096], "data_offsets": [0, 4 * n]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + np.random.default_rng(1).standard_normal(n).astype("<f4").tobytes())


def seconds(*command):
    """CPU seconds that a command takes, and what it says."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


def measure(tersor, source, scratch, kind, bits, more=""):
    """Bytes of the file, squared error of what was treated, CPU seconds to compress and to decompress, weights that were treated."""
    recipe, out, back = (os.path.join(scratch, name) for name in ("recipe.toml", "out", "back"))
    with open(recipe, "w", encoding="utf-8") as file:
        file.write(RULES.format(kind=kind, bits=bits, more=more))
    usual = ("--device", "cpu", "--force", "--threads", "1")
    to, said = seconds(tersor, "compress", source, "-o", out, "--recipe", recipe, "--json", *usual)
    fro, _ = seconds(tersor, "decompress", out, "-o", back, *usual)
    report = json.loads(said)
    treated = [(math.prod(t["shape"]), t["mse"]) for t in report["tensors"] if t["form"]["kind"] != "kept"]
    return report["output_bytes"], sum(n * e for n, e in treated), to, fro, sum(n for n, _ in treated)


def main():
    tersor, *sources = sys.argv[1:]
    print("| weights | bits | states | bits per weight, of the file | squared error | of `entropy` at these bytes | ratio | compress: CPU s | of `entropy` | decompress | of `entropy` |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        if not sources:
            sources = [os.path.join(scratch, "normal.safetensors")]
            normal(sources[0])
        for source in sources:
            for states in (8, 64):
                for bits in (2.0, 3.0, 4.0):
                    size, error, to, fro, n = measure(tersor, source, scratch, "trellis", bits, f", states = {states}")
                    # The logarithm of an error is a line over bits, at this distance.
                    below, above = (measure(tersor, source, scratch, "entropy", bits + off) for off in (-0.03, 0.03))
                    part = (size - below[0]) / (above[0] - below[0])
                    other = math.exp(math.log(below[1]) + part * math.log(above[1] / below[1]))
                    name = os.path.basename(source).removesuffix(".safetensors")
                    print(
                        f"| {name} | {bits} | {states} | {8 * size / n:.4f} | {error / n:.5g} | {other / n:.5g} | {error / other:.3f} "
                        f"| {to:.2f} | {above[2]:.2f} | {fro:.2f} | {above[3]:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
