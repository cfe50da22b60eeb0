#!/usr/bin/env bash
# quantette's parallel k-means gives another palette for another number of threads.
#
# Expected: `parallel(true)` is the same k-means, sooner: the sampler has a fixed seed by default, so that a picture has one palette.
# Happens:  each thread draws its own samples, so that the palette hangs on how many threads the pool has, and a picture that is made on
#           a laptop is not the one that a server makes. With `parallel(false)` palettes are the same.
# Versions: quantette 0.6.0, rayon 1.12.0 (crates.io).
# Seen:     2026-12-01.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir src
cat >Cargo.toml <<'EOF'
[package]
name = "threads"
version = "0.0.0"
edition = "2024"

[dependencies]
quantette = "=0.6.0"
rayon = "=1.12.0"
EOF
cat >src/main.rs <<'EOF'
use quantette::{ImageRef, PaletteSize, Pipeline, deps::palette::Srgb, kmeans::KmeansOptions};

fn main() {
    // A ramp in two directions with a little noise.
    let mut noise = 1u32;
    let pixels: Vec<Srgb<u8>> = (0..512u32 * 512)
        .map(|i| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Srgb::new((i % 512 / 2) as u8, (i / 1024) as u8, (noise >> 25) as u8)
        })
        .collect();
    let palette = |threads, parallel| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let image = ImageRef::new(512, 512, &pixels).unwrap();
            let line = Pipeline::new().palette_size(PaletteSize::from_u16_clamped(16));
            let line = line.quantize_method(KmeansOptions::new()).ditherer(None).parallel(parallel);
            line.input_image(image).output_srgb8_indexed_image().palette().to_vec()
        })
    };
    let differ = |parallel| {
        let [one, again, two] = [1, 1, 2].map(|threads| palette(threads, parallel));
        let hex = |p: &[Srgb<u8>]| p.iter().take(4).map(|c| format!("{c:x} ")).collect::<String>();
        println!("parallel {parallel}: one thread {}..., again {}..., two {}...", hex(&one), hex(&again), hex(&two));
        (one != again, one != two)
    };
    let (parallel, alone) = (differ(true), differ(false));
    if parallel != (false, true) || alone != (false, false) {
        eprintln!("CHANGED: palettes hang on threads otherwise: {parallel:?} {alone:?}");
        std::process::exit(1);
    }
    println!("As seen before: the palette hangs on the number of threads.");
}
EOF
CARGO_TARGET_DIR=$work/target cargo run --quiet
