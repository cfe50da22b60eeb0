#!/usr/bin/env bash
# The crate float8 turns infinity into 57344 where E5M2 has an infinity to give.
#
# Expected: F8E5M2::from_f32 returns an infinity for what is too large, as its documentation says and as half's types do, so that a
#           checkpoint that overflowed is still seen to have overflowed.
# Happens:  it returns the largest finite number, 57344, for infinity and for everything too large. The crate's own constant
#           F8E5M2::INFINITY is that finite number. Bytes that hold a true infinity are decoded as one, so reading a file and
#           writing it back removes its infinities.
# Versions: float8 0.7.0, half 2.7.1 (crates.io).
# Seen:     2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir src
cat >Cargo.toml <<'EOF'
[package]
name = "infinity"
version = "0.0.0"
edition = "2024"

[dependencies]
float8 = "=0.7.0"
half = "=2.7.1"
EOF
cat >src/main.rs <<'EOF'
use float8::F8E5M2;

fn main() {
    println!("float8 0.7.0, half 2.7.1");
    println!("f16 of infinity: {}", half::f16::from_f32(f32::INFINITY));
    let stored = F8E5M2::from_bits(0x7c).to_f32();
    println!("byte 0x7c, E5M2's infinity, decoded: {stored}");
    let mut all = vec![stored];
    for x in [stored, 1e6, f32::NEG_INFINITY] {
        let byte = F8E5M2::from_f32(x);
        println!("{x} encoded: byte {:#04x}, which is {}", byte.to_bits(), byte.to_f32());
        all.push(byte.to_f32());
    }
    println!("F8E5M2::INFINITY: {}", F8E5M2::INFINITY.to_f32());
    all.push(F8E5M2::INFINITY.to_f32());
    if all != [f32::INFINITY, 57344.0, 57344.0, -57344.0, 57344.0] {
        eprintln!("CHANGED: infinities are encoded otherwise");
        std::process::exit(1);
    }
    println!("As seen before: infinity goes in, 57344 comes out.");
}
EOF
CARGO_TARGET_DIR=$work/target cargo run --quiet
