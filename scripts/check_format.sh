#!/usr/bin/env bash
# Proves docs/format.md: scripts/read_archive.py, which is written from it and calls nothing of ours, restores every golden archive
# to its digest, and refuses damaged ones. Fetches numpy and blake3 into a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$scratch/packages" numpy blake3
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$scratch/packages python3 - "$scratch" <<'PYTHON'
import json, pathlib, shutil, subprocess, sys

from blake3 import blake3

scratch = pathlib.Path(sys.argv[1])


def restore(archive):
    """The restored file, or what the reader says when it refuses: it must leave nothing behind then."""
    out = scratch / "out"
    out.unlink(missing_ok=True)
    run = subprocess.run([sys.executable, "scripts/read_archive.py", archive, "-o", out], capture_output=True, text=True)
    assert (run.returncode == 0) == out.exists() and run.returncode in (0, 1), f"{archive}: exit code {run.returncode}"
    assert "Traceback" not in run.stderr, run.stderr
    return out.read_bytes() if run.returncode == 0 else run.stderr


def digest(file):
    """That of restored.txt, from a plain safetensors file."""
    assert isinstance(file, bytes), file
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)
    hash = blake3()
    for name, t in sorted((name.encode(), t) for name, t in header.items()):
        start, end = (8 + length + at for at in t["data_offsets"])
        hash.update(b"%d %b %s %s\n" % (len(name), name, t["dtype"].encode(), ",".join(map(str, t["shape"])).encode()))
        hash.update(file[start:end])
    return hash.hexdigest()


restored = refused = 0
for golden in sorted(pathlib.Path("tests/golden").iterdir()):
    listed = dict(line.split() for line in (golden / "restored.txt").read_text().splitlines())
    assert {p.name for p in golden.iterdir()} == {*listed, "restored.txt"}, f"{golden}: not what restored.txt lists"
    for name, expected in listed.items():
        assert digest(restore(golden / name)) == expected, f"{golden / name}: restored to other data"
        restored += 1

for archive in map(pathlib.Path, ["tests/golden/1/deep", "tests/golden/1/folder-affine"]):
    copy = scratch / archive.name
    (shutil.copytree if archive.is_dir() else shutil.copy)(archive, copy)
    for path in sorted(copy.iterdir()) if copy.is_dir() else [copy]:
        good = path.read_bytes()
        places = [3, 60, 120, len(good) - 1]
        if path.suffix != ".json":
            # The length; other metadata, which the header's digest alone covers; data that in "deep" is of a kept tensor; the end.
            places[1:3] = good.index(b'"pt"') + 1, 8 + int.from_bytes(good[:8], "little")
        for damaged in [good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :] for at in places] + [good[:-1]]:
            path.write_bytes(damaged)
            said = restore(copy)
            assert isinstance(said, str) and said.startswith(str(copy)), f"{path}: damage was not refused"
            refused += 1
        path.write_bytes(good)
    assert isinstance(restore(copy), bytes), f"{copy}: the copy itself is refused"
# Folders whose index or file is of a variant, or that hold several: by the rule of docs/format.md.
for names, found in [
    (["model.safetensors.index.json"], "model.safetensors.index.json"),
    (["model.safetensors.index.fp16.json"], "model.safetensors.index.fp16.json"),
    (["a.safetensors.index.json", "b.safetensors.index.json"], None),
]:
    folder = scratch / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("tests/golden/1/folder-affine", folder)
    index = next(folder.glob("*.index.json")).rename(scratch / "index")
    for name in names:
        shutil.copy(index, folder / name)
    assert isinstance(restore(folder), bytes) == (found is not None), f"{names}: not {found}"
# Pipelines: the modules that one of the two files names, each under the name of its folder.
for listed in [{"model_index.json": {"_class_name": "P", "unet": ["d", "U"], "scheduler": ["d", "S"]}}, {"modules.json": [{"path": ""}, {"path": "unet"}]}]:
    folder = scratch / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("tests/golden/1/folder-affine", folder / "unet")
    (name, text), = listed.items()
    (folder / name).write_text(json.dumps(text))
    whole = restore(folder)
    length = int.from_bytes(whole[:8], "little")
    assert {n for n in json.loads(whole[8 : 8 + length]) if n != "__metadata__"} == {"unet/a", "unet/b"}, f"{name}: other tensors"
assert restored >= 39 and refused == 20, f"{restored} restored, {refused} refused"
print(f"format: {restored} golden archives restored by read_archive.py, {refused} damaged ones refused")
PYTHON
