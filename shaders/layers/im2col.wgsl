// columns[p, (c, ky, kx)] = channel c of the pixel in line ky, place kx of window p, or fill where that lies outside the image
// One invocation per word of PLACES rows of the result: neighbours write neighbouring words, and divide only once. A word is
// an f32, or four codes of 8 bits if CODES.

struct Params {
    height: u32, width: u32, pixel: u32,
    down: u32, across: u32, rows: u32, cols: u32, words: u32,
    window_height: u32, window_width: u32, stride: u32, padding: u32,
    fill: u32, total: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> image: array<u32>;            // [count, height, width, pixel]
@group(0) @binding(2) var<storage, read_write> columns: array<u32>;    // [count * down * across = rows, words]

override WG: u32;
override PLACES: u32;
override CODES: bool;

// A column of the result: channel, line and place in the window.
struct Column { channel: u32, y: u32, x: u32 }

// Its element in the window that starts at line `top`, place `left` of padded image n.
fn element(n: u32, top: u32, left: u32, at: Column) -> u32 {
    let y = top + at.y;
    let x = left + at.x;
    if y < params.padding || y >= params.padding + params.height { return params.fill; }
    if x < params.padding || x >= params.padding + params.width { return params.fill; }
    let pixel = ((n * params.height + y - params.padding) * params.width + x - params.padding) * params.pixel;
    if CODES { return (image[pixel + at.channel / 4u] >> (8u * (at.channel % 4u))) & 0xffu; }
    return image[pixel + at.channel];
}

fn next(at: Column) -> Column {
    if at.x + 1u < params.window_width { return Column(at.channel, at.y, at.x + 1u); }
    if at.y + 1u < params.window_height { return Column(at.channel, at.y + 1u, 0u); }
    return Column(at.channel + 1u, 0u, 0u);
}

// The word that starts with a column; so many of its columns exist.
fn word(n: u32, top: u32, left: u32, first: Column, exist: u32) -> u32 {
    if !CODES { return element(n, top, left, first); }
    var at = first;
    var codes = 0u;
    for (var k = 0u; k < min(exist, 4u); k++) {
        codes |= element(n, top, left, at) << (8u * k);
        at = next(at);
    }
    return codes;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let w = id % params.words;
    let col = select(w, 4u * w, CODES);
    let line = col / params.window_width;
    let first = Column(line / params.window_height, line % params.window_height, col % params.window_width);
    let start = id / params.words * PLACES;
    var across = start % params.across;
    var down = start / params.across % params.down;
    var n = start / params.across / params.down;
    for (var row = start; row < min(start + PLACES, params.rows); row++) {
        let top = down * params.stride;
        let left = across * params.stride;
        columns[row * params.words + w] = word(n, top, left, first, params.cols - col);
        across += 1u;
        if across == params.across {
            across = 0u;
            down += 1u;
        }
        if down == params.down {
            down = 0u;
            n += 1u;
        }
    }
}
