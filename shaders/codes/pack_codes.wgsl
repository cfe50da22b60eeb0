// codes[r, ..] = the symbols of row r, BITS bits each, first in the low bits; every row from a fresh word.

struct Params { cols: u32, words: u32, total: u32, start: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> symbols: array<u32>;          // [rows, cols], four bytes to a word
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;      // [.., words], the rows' own from word `start` on

override WG: u32;
override BITS: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let row = id / params.words * params.cols;
    let bit = id % params.words * 32u;
    // Those with a bit in this word: the first may begin in the word before, the last end in the next.
    let end = min((bit + 31u) / BITS + 1u, params.cols);
    var word = 0u;
    for (var c = bit / BITS; c < end; c++) {
        let symbol = extractBits(symbols[(row + c) / 4u], (row + c) % 4u * 8u, BITS);
        let place = c * BITS;
        if place >= bit { word |= symbol << (place - bit); } else { word |= symbol >> (bit - place); }
    }
    codes[params.start + id] = word;
}
