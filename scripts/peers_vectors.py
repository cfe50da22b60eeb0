#!/usr/bin/env python3
"""faiss on the vectors of `cargo bench --bench vectors`, beside it, in one run and on one thread.

    python3 -m venv peers && peers/bin/pip install numpy faiss-cpu
    peers/bin/python scripts/peers_vectors.py [BENCH]

BENCH is the bench already built; without it cargo builds and runs it.
Billions of pairs of a vector and an entry a second, the best of seven; and the squared error of faiss's k-means with 25 rounds.
"""
import os, pathlib, subprocess, sys, tempfile, time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # they may name an older processor than this one
    os.environ.pop(name, None)
import faiss, numpy as np

faiss.omp_set_num_threads(1)
ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = [(2, 256), (4, 256), (8, 256), (16, 256), (4, 4096), (8, 4096), (8, 65536)]

with tempfile.TemporaryDirectory() as folder:
    data = os.path.join(folder, "vectors")
    command = [sys.argv[1], "--bench"] if len(sys.argv) > 1 else ["cargo", "bench", "--quiet", "--bench", "vectors"]
    run = subprocess.run(command, cwd=ROOT, check=True, text=True,
                         env={**os.environ, "VECTORS_DATA": data}, stdout=subprocess.PIPE)
    numbers = np.fromfile(data, "<f4")
ours = {tuple(map(int, line.split()[:2])): float(line.split()[2]) for line in run.stdout.splitlines()[1 : 1 + len(CASES)]}

print(f"faiss {faiss.__version__}")
print("| d, k | faiss, Gpairs/s | tersor | ratio |\n|---|---|---|---|")
for d, k in CASES:
    count = min(len(numbers) // d, (1 << 31) // k // d)
    vectors, entries = numbers[: count * d].reshape(-1, d), np.random.default_rng(1).normal(0, 400, (k, d)).astype("f4")
    index = faiss.IndexFlatL2(d)
    index.add(entries)
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        index.search(vectors, 1)
        seconds.append(time.perf_counter() - started)
    theirs = count * k / min(seconds) / 1e9
    print(f"| {d}, {k} | {theirs:.2f} | {ours[d, k]:.2f} | {ours[d, k] / theirs:.1f} |")
print(*run.stdout.splitlines()[1 + len(CASES) :], sep="\n")
for d, k in [(2, 16), (4, 256), (4, 4096)]:
    vectors = numbers[: len(numbers) // d * d].reshape(-1, d)
    started = time.perf_counter()
    kmeans = faiss.Kmeans(d, k, niter=25, seed=1, max_points_per_centroid=1 << 24)
    kmeans.train(vectors)
    distances, _ = kmeans.index.search(vectors, 1)
    print(f"faiss k-means d {d} k {k}: {distances.sum() / len(vectors) / d / 160000:.5f} a number, {time.perf_counter() - started:.2f} s")
