// largest[p, c] = the largest of channel c under window p; padding takes no part.
// Floats are compared as order keys: -0 lies below +0. A NaN beats every number and becomes the one of NAN.
// One invocation per word of the result: an f32, or four codes of 8 bits if CODES, as two's complement if SIGNED.

struct Params {
    height: u32, width: u32, words: u32, down: u32, across: u32,
    window_height: u32, window_width: u32, stride: u32, padding: u32, total: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> image: array<u32>;            // [count, height, width, words]
@group(0) @binding(2) var<storage, read_write> largest: array<u32>;    // [count, down, across, words]

override WG: u32;
override CODES: bool;
override SIGNED: bool;

const NAN: u32 = 0x7fc00000u;

// The order of the values of a word as that of unsigned integers.
fn keys(word: u32) -> vec4<u32> {
    if CODES { return unpack4xU8(word ^ select(0u, 0x80808080u, SIGNED)); }
    return vec4(select(order_key(word), 0xffffffffu, (word & 0x7fffffffu) > 0x7f800000u), 0u, 0u, 0u);
}

fn value(keys: vec4<u32>) -> u32 {
    if CODES { return pack4xU8(keys) ^ select(0u, 0x80808080u, SIGNED); }
    if keys.x == 0xffffffffu { return NAN; }
    return select(~keys.x, keys.x & 0x7fffffffu, (keys.x >> 31u) == 1u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let place = id / params.words;
    let line = place / params.across;
    let first = line / params.down * params.height;
    // The part of the window that lies in the image, in coordinates of the padded one.
    let top = line % params.down * params.stride;
    let left = place % params.across * params.stride;
    let y1 = min(top + params.window_height, params.padding + params.height);
    let x1 = min(left + params.window_width, params.padding + params.width);
    var best = vec4(0u);
    for (var y = max(top, params.padding); y < y1; y++) {
        for (var x = max(left, params.padding); x < x1; x++) {
            let pixel = (first + y - params.padding) * params.width + x - params.padding;
            best = max(best, keys(image[pixel * params.words + id % params.words]));
        }
    }
    largest[id] = value(best);
}
