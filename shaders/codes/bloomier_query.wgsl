// Asks a Bloomier filter (src/codec/bloomier.rs) for all positions, in frames/retrieval.

struct Params { positions: u32, total: u32, third: u32, seed: u32, words: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cells: array<u32>;            // two a word, by thirds
@group(0) @binding(2) var<storage, read_write> mask: array<u32>;
@group(0) @binding(3) var<storage, read_write> values: array<u32>;     // four a word

override WG: u32;
override T: u32;
override R: u32;

fn cell(i: u32) -> u32 {
    return cells[min(i / 2u, params.words - 1u)] >> (16u * (i & 1u));
}

fn result_of(position: u32) -> u32 {
    let a = mix(position + params.seed);
    let b = mix(a + STEP);
    let c = mix(b + STEP);
    let third = params.third;
    let sum = cell(high(a, third)) ^ cell(third + high(b, third)) ^ cell(2u * third + high(c, third));
    return (sum ^ mix(c + STEP)) & ((1u << T) - 1u);
}
