// Values of 32 neighbouring positions per invocation, and their word of the mask, from a Bloomier filter (src/codec/bloomier.rs).

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

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let end = min(32u * id + 32u, params.positions);
    var kept = 0u;
    var word = 0u;
    for (var position = 32u * id; position < end; position++) {
        let result = result_of(position);
        if result < (1u << R) {
            kept |= 1u << (position & 31u);
            word |= result << (8u * (position & 3u));
        }
        if (position & 3u) == 3u || position + 1u == end {
            values[position >> 2u] = word;
            word = 0u;
        }
    }
    mask[id] = kept;
}
