#!/usr/bin/env python3
"""Makes tests/fixtures/minilm-embeddings.safetensors: what PyTorch gives for twenty sentences with all-MiniLM-L6-v2.

    python3 -m venv peers && peers/bin/pip install torch transformers safetensors numpy
    scripts/fetch_minilm.sh minilm && peers/bin/python scripts/make_embedding_fixture.py minilm
"""
import json, pathlib, sys
import numpy as np, torch, transformers
from safetensors.numpy import save_file
from transformers import AutoModel, AutoTokenizer

SENTENCES = [
    "A man is eating food.",
    "The quick brown fox jumps over the lazy dog",
    "Quantization replaces floating-point numbers by small integers and a scale.",
    "yes",
    "What is the capital of France?",
    "Der Zug nach Zürich fährt um 7:45 Uhr ab.",
    "SELECT name, price FROM products WHERE stock > 0 ORDER BY price DESC;",
    "I can't believe it's not butter!!! 😀",
    "The committee, having met on three occasions without reaching a decision, adjourned until the following spring, when, it was "
    "hoped, the new members would bring a fresh view of the matter to a table at which the old ones had long since said "
    "everything they had to say, some of them more than once and none of them briefly.",
    "1234567890 3.14159 -42 1e-7",
    "東京は日本の首都です。",
    "fn main() { println!(\"hello\"); }",
    "To be, or not to be, that is the question",
    "Apply the ointment twice daily and consult a physician if symptoms persist.",
    "The stock market fell sharply on Monday amid fears of rising interest rates.",
    "a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a",
    "Photosynthesis converts light energy into chemical energy in plants.",
    "He scored twice in the second half, and the home side won 3-1.",
    "Please find attached the invoice for the services rendered in October.",
    "antidisestablishmentarianism floccinaucinihilipilification",
]

folder = sys.argv[1]
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
ids, embeddings = [], []
with torch.no_grad():
    for sentence in SENTENCES:
        tokens = tokenizer(sentence, return_tensors="pt")
        ids.append(tokens["input_ids"][0].tolist())
        pooled = model(**tokens).last_hidden_state[0].mean(0)
        embeddings.append(torch.nn.functional.normalize(pooled, dim=0).numpy())
target = pathlib.Path(__file__).resolve().parent.parent / "tests/fixtures/minilm-embeddings.safetensors"
save_file(
    {
        "embeddings": np.stack(embeddings).astype("<f4"),
        "lengths": np.array([len(i) for i in ids], "<i4"),
        "tokens": np.array(sum(ids, []), "<i4"),
    },
    target,
    metadata={
        "sentences": json.dumps(SENTENCES),
        "made with": f"torch {torch.__version__}, transformers {transformers.__version__}",
    },
)
print(target, target.stat().st_size, "bytes,", sum(map(len, ids)), "tokens")
