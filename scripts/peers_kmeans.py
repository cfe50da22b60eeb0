#!/usr/bin/env python3
"""scikit-learn and kmeans1d on the weights of `cargo bench --bench kmeans`, beside it, in one run and on one thread.

    python3 -m venv peers && peers/bin/pip install numpy scikit-learn kmeans1d
    peers/bin/python scripts/peers_kmeans.py [ROWS]

scikit-learn clusters all 16.8 million weights (n_init = 1, and tol = 1e-2 as coremltools sets it); kmeans1d, which is exact,
takes ROWS rows of 4096 (32 if not given), and its time is extrapolated to 4096 rows. Seconds are CPU time of the process.
"""
import json, os, pathlib, subprocess, sys, tempfile, time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # they may name an older processor than this one
    os.environ.pop(name, None)
import kmeans1d, numpy as np
from sklearn.cluster import KMeans

ROOT = pathlib.Path(__file__).resolve().parent.parent
rows = int(sys.argv[1]) if len(sys.argv) > 1 else 32


def bench(path):
    """Runs tersor's own bench, which writes the weights to `path`; bench name -> median seconds."""
    subprocess.run(["cargo", "bench", "--quiet", "--bench", "kmeans", "--", "BF16|F32"], cwd=ROOT, check=True,
                   env={**os.environ, "KMEANS_DATA": path}, stdout=subprocess.DEVNULL)
    found = {}
    for file in (ROOT / "target/criterion").glob("kmeans_*/**/new/benchmark.json"):
        name = json.loads(file.read_text())["full_id"]
        found[name] = json.loads((file.parent / "estimates.json").read_text())["median"]["point_estimate"] / 1e9
    return found


def timed(f):
    start = time.process_time()
    result = f()
    return time.process_time() - start, result


with tempfile.TemporaryDirectory() as folder:
    path = folder + "/weights.f32"
    ours = bench(path)
    weights = np.fromfile(path, "<f4")
own = lambda dtype, what: ours[f"kmeans/{dtype}/one thread/{what}"]
report = lambda what, peer, mine: print(f"{what}: {peer:.3g} s, tersor {mine:.3g} s: {peer / mine:.0f} times", flush=True)
for k in (16, 256) if "--slow" in sys.argv else (16,):
    seconds, fit = timed(lambda: KMeans(k, n_init=1, tol=1e-2, random_state=0).fit(weights[:, None]))
    report(f"scikit-learn, 16.8 million f32, k = {k} (squared error {fit.inertia_:.6g})", seconds,
           own("F32", f"histogram, k = {k}, assignment"))
per_row = weights.reshape(4096, 4096)[:rows].astype(np.float64)
seconds, _ = timed(lambda: [kmeans1d.cluster(row, 16) for row in per_row])
for dtype in ("F32", "BF16"):
    report(f"kmeans1d, 4096 rows of 4096, k = 16 (from {rows}), beside {dtype}", seconds / rows * 4096, own(dtype, "4096 channels, k = 16"))
