#!/usr/bin/env python3
"""How far quantized dense layers move the embeddings of all-MiniLM-L6-v2, by the rules of compressed-tensors, computed in PyTorch
on the sentences of tests/fixtures/minilm-embeddings.safetensors: what tests/networks.rs measures of tersor.

    python3 -m venv peers && peers/bin/pip install torch transformers safetensors numpy
    peers/bin/python scripts/peers_embedding.py minilm
"""
import pathlib, sys
import torch
from safetensors import safe_open
from transformers import AutoModel

model = AutoModel.from_pretrained(sys.argv[1]).eval()
fixture = safe_open(pathlib.Path(__file__).resolve().parent.parent / "tests/fixtures/minilm-embeddings.safetensors", "pt")
tokens = fixture.get_tensor("tokens").long().split(fixture.get_tensor("lengths").tolist())
reference = fixture.get_tensor("embeddings")
layers = [l for n, l in model.named_modules() if isinstance(l, torch.nn.Linear) and "pooler" not in n]
original = [l.weight.data.clone() for l in layers]


def symmetric(x, bits):
    """Rows of x: the largest magnitude is half a step beyond the last code."""
    scale = x.abs().amax(-1, keepdim=True) / (2**bits - 1) * 2
    return (x / scale.clamp(min=1e-30)).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def asymmetric(x, bits):
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low).clamp(min=1e-30) / (2**bits - 1)
    zero = (-low / scale).round()
    return ((x / scale).round() + zero).clamp(0, 2**bits - 1).sub(zero) * scale


def cosines(weight, activation=None):
    hooks = []
    for layer, w in zip(layers, original):
        layer.weight.data = weight(w)
        if activation:
            hooks.append(layer.register_forward_pre_hook(lambda _, args: (activation(args[0]),)))
    with torch.no_grad():
        pooled = [model(t[None]).last_hidden_state[0].mean(0) for t in tokens]
    for hook in hooks:
        hook.remove()
    return (torch.nn.functional.normalize(torch.stack(pooled), dim=1) * reference).sum(1).sort().values


groups = lambda rule: lambda w: rule(w.reshape(-1, 32), 4).reshape(w.shape)
for name, weight, activation in [
    ("int8 per channel, activations int8 per token", lambda w: symmetric(w, 8), lambda x: symmetric(x, 8)),
    ("int4, groups of 32, symmetric", groups(symmetric), None),
    ("int4, groups of 32, asymmetric", groups(asymmetric), None),
]:
    c = cosines(weight, activation)
    print(f"{name}: cosine {c.mean():.4f} in the mean, {c[0]:.4f} and {c[1]:.4f} at least")
