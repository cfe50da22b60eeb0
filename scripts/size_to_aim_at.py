#!/usr/bin/env python3
"""What `--target-bpw` and `--target-size` make of a model, beside every preset at the preset's own size.

    cargo build --release
    scripts/fetch_minilm.sh minilm
    scripts/size_to_aim_at.py minilm/model.safetensors [BPW ...]

Every byte of the output counts. The error is that of the search: the root of the mean, over the elements of all tensors that presets
treat, of the squared relative error of their tensor; of presets as of what was found it is taken from the report of `compress`.
"""
import json, math, pathlib, resource, subprocess, sys, tempfile, time

TERSOR = pathlib.Path(__file__).resolve().parent.parent / "target/release/tersor"
PRESETS = ["int8", "int4", "palette8", "palette4", "coded4", "coded3"]
model, targets = sys.argv[1], [float(x) for x in sys.argv[2:]] or [1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6]


def compress(folder, *flags):
    """The report, core seconds, seconds."""
    spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before, started = spent(), time.time()
    command = [TERSOR, "compress", model, "-o", folder / "out", "--force", "--device", "cpu", "--json", *flags]
    job = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(job.stdout), spent() - before, time.time() - started


def error(report, names):
    counted = [t for t in report["tensors"] if t["name"] in names]
    elements = [math.prod(t["shape"]) for t in counted]
    squares = sum(n * (t["rel_error"] or 0) ** 2 for n, t in zip(elements, counted))
    return math.sqrt(squares / sum(elements))


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    presets = {name: compress(folder, "--preset", name) for name in PRESETS}
    report = presets["int8"][0]
    treated = {t["name"] for t in report["tensors"] if t["form"]["kind"] != "kept"}
    weights = sum(math.prod(t["shape"]) for t in report["tensors"])
    print(f"{weights:,} elements, {sum(math.prod(t['shape']) for t in report['tensors'] if t['name'] in treated):,} of them searched\n")
    print("| preset | bytes | error | found for as many bytes: bytes | error | squared error beside the preset's |")
    print("|---|---|---|---|---|---|")
    for name, (report, *_) in presets.items():
        size, of_preset = report["output_bytes"], error(report, treated)
        found, _, _ = compress(folder, "--target-size", str(size))
        own = error(found, treated)
        assert found["output_bytes"] <= size and own <= of_preset, (name, size, found["output_bytes"], own, of_preset)
        print(f"| {name} | {size:,} | {of_preset:.5f} | {found['output_bytes']:,} | {own:.5f} | {(own / of_preset) ** 2:.3f} |", flush=True)
    print("\n| bits per weight asked for | bytes | bits per weight | short of it | error | core seconds | seconds |")
    print("|---|---|---|---|---|---|---|")
    for bits in targets:
        found, core, clock = compress(folder, "--target-bpw", str(bits))
        got = 8 * found["output_bytes"] / weights
        assert bits * 0.995 <= got <= bits, (bits, got)
        print(f"| {bits} | {found['output_bytes']:,} | {got:.4f} | {1 - got / bits:.2%} | {error(found, treated):.5f} | {core:.1f} | {clock:.1f} |", flush=True)
