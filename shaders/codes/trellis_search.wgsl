// codes[i] = the code of weight i on its path of least cost through a trellis, by Viterbi's algorithm in integers (src/codec/trellis.rs
// says which paths there are). An invocation for each state of a path; PATHS of them to a workgroup.

struct Params { paths: u32, rows: u32, positions: u32, choices: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> paths: array<vec4<u32>>;      // [paths]: first weight, from weight to weight, their end, rows
@group(0) @binding(2) var<storage, read> positions: array<u32>;        // [weights], two to a word
@group(0) @binding(3) var<storage, read> costs: array<vec2<u32>>;      // [choices]: of four subsets, 16 bits each
@group(0) @binding(4) var<storage, read> choices: array<u32>;          // [choices]: codes of four subsets, 8 bits each
@group(0) @binding(5) var<storage, read_write> kept: array<u32>;       // [paths, rows / 32, STATES]: whether the second subset led there
@group(0) @binding(6) var<storage, read_write> codes: array<atomic<u32>>;    // [weights], four to a word, zeros before

override WG: u32;
override STATES: u32;      // 4, 8, 16, 32 or 64
override HALF: u32;        // bits of a state after the highest
override LOST: u32;        // what changes a state that loses a one
override LED: u32;         // what changes one that a code of the second subset leads on from
override FAR: u32;         // what it costs to begin elsewhere than at state 0

// Sums of costs to each state of each path, of two rows in turn.
var<workgroup> sums: array<u32, 128>;

fn position_of(i: u32) -> u32 {
    let word = min(i >> 1u, params.positions - 1u);
    return min((positions[word] >> (16u * (i & 1u))) & 0xffffu, params.choices - 1u);
}

// Costs of the two subsets of a parity for the weight of a path in a row; nothing after its last.
fn costs_of(path: vec4<u32>, row: u32, parity: u32) -> vec2<u32> {
    let i = path.x + row * path.y;
    if i >= path.z { return vec2<u32>(0u); }
    return (costs[position_of(i)] >> vec2<u32>(16u * parity)) & vec2<u32>(0xffffu);
}

// The state from which a code of the first, or of the second, subset leads to one.
fn state_before(state: u32, second: u32) -> u32 {
    let parity = state >> HALF;
    return (((state ^ (parity * LOST)) ^ (second * LED)) << 1u) | parity;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let state = lane % STATES;
    let base = lane - state;
    let number = workgroup_index(wid, groups) * (WG / STATES) + lane / STATES;
    let works = number < params.paths;
    let path = paths[min(number, params.paths - 1u)];
    let parity = state >> HALF;
    let first = base + state_before(state, 0u);
    let second = base + state_before(state, 1u);
    let row_words = (params.rows + 31u) / 32u;
    sums[lane] = select(FAR, 0u, state == 0u);
    workgroupBarrier();
    var word = 0u;
    var cost = costs_of(path, 0u, parity);
    // As many rows as the longest path has, so that all wait for one another.
    for (var row = 0u; row < params.rows; row++) {
        let from_sums = 64u * (row & 1u);
        if row < path.w {
            let a = sums[from_sums + first] + cost.x;
            let b = sums[from_sums + second] + cost.y;
            sums[64u - from_sums + lane] = min(a, b);
            word |= select(0u, 1u, b < a) << (row & 31u);
            cost = costs_of(path, row + 1u, parity);
        } else {
            sums[64u - from_sums + lane] = sums[from_sums + lane];
        }
        if works && ((row & 31u) == 31u || row + 1u == params.rows) {
            kept[(number * row_words + row / 32u) * STATES + state] = word;
            word = 0u;
        }
        workgroupBarrier();
    }
    storageBarrier();
    if !works || state != 0u { return; }
    let ends = 64u * (params.rows & 1u) + base;
    var at = 0u;
    for (var s = 1u; s < STATES; s++) {
        if sums[ends + s] < sums[ends + at] { at = s; }
    }
    for (var left = path.w; left > 0u; left--) {
        let row = left - 1u;
        let second_subset = (kept[(number * row_words + row / 32u) * STATES + at] >> (row & 31u)) & 1u;
        let i = path.x + row * path.y;
        if i < path.z {
            let subset = (second_subset << 1u) | (at >> HALF);
            let code = (choices[position_of(i)] >> (8u * subset)) & 0xffu;
            atomicOr(&codes[i >> 2u], code << (8u * (i & 3u)));
        }
        at = state_before(at, second_subset);
    }
}
