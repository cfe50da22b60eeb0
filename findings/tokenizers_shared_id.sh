#!/usr/bin/env bash
# tokenizers gives an added token an id that the vocabulary already uses.
#
# Expected: a token added to a tokenizer gets an id of its own.
# Happens:  it gets the number of tokens as its id. Where the vocabulary has gaps, as those of some published models do, that
#           number can be taken: two tokens then share one id, hence one row of the embedding, and decoding returns the added one
#           for both. add_tokens reports success.
# Versions: tokenizers 0.23.3 (PyPI, which wraps the crate).
# Seen:     2026-11-29. Upstream: huggingface/tokenizers#719, not merged.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" tokenizers==0.23.3
PYTHONPATH=$work/packages python3 - <<'EOF'
import sys
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers

print(f"tokenizers {tokenizers.__version__}")
# Ids 0, 1, 2 and 4: the third word was dropped from the vocabulary, and its id with it.
vocabulary = {"[UNK]": 0, "red": 1, "green": 2, "blue": 4}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
print(f"vocabulary: {vocabulary}")
before = tokenizer.decode(tokenizer.encode("blue").ids)
added = tokenizer.add_tokens(["[CLS]", "[SEP]"])
ids = {token: tokenizer.token_to_id(token) for token in ["blue", "[CLS]", "[SEP]"]}
after = tokenizer.decode(tokenizer.encode("blue").ids)
print(f"add_tokens(['[CLS]', '[SEP]']) says that it added {added}")
print(f"ids now: {ids}")
print(f"decode(encode('blue')): {before!r} before, {after!r} after")

if (added, ids, before, after) != (2, {"blue": 4, "[CLS]": 4, "[SEP]": 5}, "blue", "[CLS]"):
    sys.exit("CHANGED: added tokens get other ids")
print("As seen before: two tokens, one id.")
EOF
