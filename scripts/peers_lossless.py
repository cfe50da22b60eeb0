"""Lossless coding of Gaussian bf16 weights beside ZipNN, on one thread: ratio, and seconds to and from memory.

    pip install zipnn          # brings torch
    cargo build --release --example lossless_speed
    python scripts/peers_lossless.py [MEBIBYTES]
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

MEBIBYTES = int(sys.argv[1]) if len(sys.argv) > 1 else 256


def best(run, times=5):
    """The result, and the least seconds of several runs."""
    least = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        result = run()
        least = min(least, time.perf_counter() - start)
    return result, least


def main():
    weights = np.random.default_rng(1).standard_normal(MEBIBYTES << 19, dtype=np.float32) * 0.02
    patterns = weights.view(np.uint32)
    # To nearest even.
    data = ((patterns + 0x7FFF + ((patterns >> 16) & 1)) >> 16).astype(np.uint16).tobytes()

    from zipnn import ZipNN

    zipnn = ZipNN(method="auto", input_format="byte", bytearray_dtype="bfloat16", threads=1)
    packed, encode = best(lambda: zipnn.compress(bytearray(data)))
    back, decode = best(lambda: zipnn.decompress(packed))
    assert bytes(back) == data
    gb = len(data) / 1e9
    print(f"ZipNN:  {len(packed) / len(data):.4f}, encode {gb / encode:.2f} GB/s, decode {gb / decode:.2f} GB/s")

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.bf16")
        with open(path, "wb") as file:
            file.write(data)
        example = os.path.join(os.path.dirname(__file__), "../target/release/examples/lossless_speed")
        print(subprocess.run([example, path], check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
