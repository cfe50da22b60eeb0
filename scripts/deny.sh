#!/usr/bin/env bash
# Licences, bans and sources of all dependencies by cargo-deny where it is installed, else licences and sources from cargo's own
# metadata. Advisories need their database from the network: they are checked where it can be had, and it is said where not.
set -euo pipefail
cd "$(dirname "$0")/.."
if cargo deny --version >/dev/null 2>&1; then
  cargo deny --log-level error --offline check licenses bans sources
  if timeout 60 cargo deny --log-level error fetch db >/dev/null 2>&1; then
    cargo deny --log-level error check advisories
  else
    echo "advisories: NOT CHECKED, their database cannot be fetched"
  fi
else
  cargo metadata --format-version 1 --locked | python3 -c '
import json, re, sys
allowed = set(re.findall(r"^  \"([^\"]+)\",$", open("deny.toml").read(), re.M))
wrong = []
for p in json.load(sys.stdin)["packages"]:
    source, licence = p["source"], p["license"] or ""
    if source not in (None, "registry+https://github.com/rust-lang/crates.io-index"):
        wrong.append(p["name"] + " is from " + source)
    # Every part joined by AND needs one alternative that is allowed.
    parts = re.split(r" AND ", re.sub(r"[()]", "", licence.replace("/", " OR ")))
    if not all(any(a.strip() in allowed for a in part.split(" OR ")) for part in parts):
        wrong.append(p["name"] + " has the licence " + (licence or "(none)"))
print("\n".join(wrong) or "licences and sources ok")
sys.exit(bool(wrong))'
  echo "bans and advisories: NOT CHECKED, cargo-deny is not installed"
fi
