#!/usr/bin/env python3
"""What presets or recipes cost on a real model and what they leave of it: all bytes of the treated matrices per weight, their
error, and what PyTorch computes with the weights that `decompress` brings back.

    scripts/fetch_minilm.sh minilm                                   # a BERT: cosines of sentence embeddings
    peers/bin/python scripts/fetch_smollm2.py smollm2                # a decoder: perplexity of a text
    cargo build --release
    peers/bin/python scripts/preset_quality.py minilm int8 int4 coded4
    peers/bin/python scripts/preset_quality.py smollm2 --text wikitext-2-test.txt int4 coded4 affine4 my-recipe.toml

Beside the presets stands `affineB`, which is not tersor's: B-bit codes of 64 weights each that go from the least to the greatest of
them in equal steps, with scale and minimum in f16, as group-wise formats store them; embeddings are left as they are.

Embeddings: the cosines with those of the f32 model, of the sentences of tests/fixtures/minilm-embeddings.safetensors. Perplexity:
of WINDOWS windows of 512 tokens, each by itself, of the first 60,000 characters, every token but the first of each predicted;
once as restored, once with the embeddings (and the head, where it is the same matrix) as they were. Needs torch, transformers and
safetensors.
"""
import argparse, json, math, pathlib, resource, subprocess, tempfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
TERSOR = ROOT / "target/release/tersor"
WINDOWS, LENGTH, GROUP = 12, 512, 64


def is_embedding(name):
    return any(part in name for part in ("embed", "wte", "wpe", "lm_head"))


def run(*args):
    """What tersor prints, and the core seconds that it took: the clock's depend on what else the machine does."""
    spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before = spent()
    job = subprocess.run([TERSOR, *args, "--force", "--device", "cpu", "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(job.stdout), spent() - before


def treat(model, folder, preset):
    """The report, and the restored tensors."""
    recipe = ["--recipe" if preset.endswith(".toml") else "--preset", preset]
    archive, back = folder / "archive.safetensors", folder / "back.safetensors"
    report, compressed = run("compress", model, "-o", archive, *recipe)
    _, restored = run("decompress", archive, "-o", back)
    return report | {"seconds": f"{compressed:.2f}, {restored:.2f}"}, load_file(back)


def grouped_affine(name, weight, bits):
    """The same shape as a report's tensor, and what is restored."""
    w = weight.float().reshape(-1, GROUP)
    low, high = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    scale, low = ((high - low) / (2**bits - 1)).half().float(), low.half().float()
    codes = ((w - low) / scale.clamp(min=1e-30)).round().clamp(0, 2**bits - 1)
    restored = (codes * scale + low).reshape(weight.shape).to(weight.dtype)
    stored = weight.numel() * bits // 8 + weight.numel() // GROUP * 4
    a, b = weight.double(), restored.double()
    distance = (a - b).norm()
    return {"name": name, "method": f"affine {bits} per {GROUP}", "shape": list(weight.shape), "bytes": stored,
            "rel_error": (distance / a.norm()).item(), "cosine": (a.flatten() @ b.flatten() / a.norm() / b.norm()).item()}, restored


def affine_report(original, bits):
    report, restored, total = [], dict(original), 0
    for name, w in original.items():
        if w.dim() >= 2 and w.numel() >= 1024 and w.is_floating_point() and not is_embedding(name):
            tensor, restored[name] = grouped_affine(name, w, bits)
            report.append(tensor)
            total += tensor["bytes"]
        else:
            total += w.numel() * w.element_size()
    before = sum(w.numel() * w.element_size() for w in original.values())
    return {"tensors": report, "output_bytes": total, "ratio": before / total, "seconds": "-"}, restored


def bits(tensors):
    """Per weight, all that belongs to the tensors counted."""
    weights = sum(math.prod(t["shape"]) for t in tensors)
    return f"{sum(t['bytes'] for t in tensors) * 8 / weights:.4f}" if weights else "-"


def squared_error(original, restored, names):
    """Relative: of all weights together, over the sum of their squares."""
    pairs = [(original[n].double(), restored[n].double()) for n in names]
    return sum(((a - b) ** 2).sum() for a, b in pairs) / sum((a**2).sum() for a, _ in pairs)


class Embeddings:
    """Mean, least and second least cosine."""
    heads = ["cosine of embeddings: mean", "least", "second"]

    def __init__(self, folder, _):
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        fixture = safe_open(ROOT / "tests/fixtures/minilm-embeddings.safetensors", "pt")
        self.tokens = fixture.get_tensor("tokens").long().split(fixture.get_tensor("lengths").tolist())
        self.reference = fixture.get_tensor("embeddings")

    def measure(self, _, restored):
        load(self.model, restored)
        with torch.no_grad():
            pooled = [self.model(t[None]).last_hidden_state[0].mean(0) for t in self.tokens]
        c = (torch.nn.functional.normalize(torch.stack(pooled), dim=1) * self.reference).sum(1).sort().values
        return [f"{c.mean():.5f}", f"{c[0]:.5f}", f"{c[1]:.5f}"]


class Perplexity:
    heads = ["perplexity", "with the embeddings as they were"]

    def __init__(self, folder, text):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids = AutoTokenizer.from_pretrained(folder)(text.read_text()[:60_000], add_special_tokens=False)["input_ids"]
        self.windows = torch.tensor(ids[: WINDOWS * LENGTH]).view(WINDOWS, LENGTH)

    def perplexity(self, weights):
        load(self.model, weights)
        loss = 0.0
        with torch.no_grad():
            for window in self.windows:
                logits = self.model(window[None]).logits[0, :-1]
                loss += torch.nn.functional.cross_entropy(logits.double(), window[1:], reduction="sum").item()
        return math.exp(loss / (WINDOWS * (LENGTH - 1)))

    def measure(self, original, restored):
        embeddings = {n: w for n, w in original.items() if is_embedding(n)}
        same = all(torch.equal(w, restored[n]) for n, w in embeddings.items())
        as_restored = self.perplexity(restored)
        return [f"{as_restored:.2f}", f"{as_restored if same else self.perplexity(restored | embeddings):.2f}"]


def load(model, weights):
    """Every tensor of the file has a place; what is tied or a buffer may be in none."""
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    assert all(n.endswith("position_ids") for n in unknown), unknown


args = argparse.ArgumentParser()
args.add_argument("folder", type=pathlib.Path)
args.add_argument("presets", nargs="+")
args.add_argument("--text", type=pathlib.Path)
args = args.parse_args()
model = args.folder / "model.safetensors"
original = load_file(model)
kind = json.loads((args.folder / "config.json").read_text())["model_type"]
quality = {"bert": Embeddings, "llama": Perplexity}[kind](args.folder, args.text)
heads = ["", "bytes", "ratio", "bits per weight", "of embeddings", "of the rest", "squared error of the rest",
         "largest relative error", "smallest cosine", "core seconds: compress, decompress", *quality.heads]
print("|", " | ".join(heads), "|")
print("|" + "---|" * len(heads))
whole = quality.measure(original, original)
print("|", " | ".join(["as it is", f"{model.stat().st_size:,}", "1.000x", *["-"] * 7, *whole]), "|", flush=True)
with tempfile.TemporaryDirectory() as folder:
    for preset in args.presets:
        peer = preset.startswith("affine")
        report, restored = affine_report(original, int(preset[6:])) if peer else treat(model, pathlib.Path(folder), preset)
        treated = [t for t in report["tensors"] if t["method"] != "kept"]
        embeddings, rest = ([t for t in treated if is_embedding(t["name"]) == e] for e in (True, False))
        cells = [preset, f"{report['output_bytes']:,}", f"{report['ratio']:.3f}x", bits(treated), bits(embeddings),
                 bits(rest), f"{squared_error(original, restored, [t['name'] for t in rest]):.5f}",
                 f"{max(t['rel_error'] for t in treated):.4f}", f"{min(t['cosine'] for t in treated):.5f}",
                 report["seconds"], *quality.measure(original, restored)]
        print("|", " | ".join(cells), "|", flush=True)
