// y[m, n] = activation(sum over k of x[m, k] * entries[n / share, codes[n, k]] + bias[n]). The frame is frames/product.wgsl.
// A code beyond the table takes its last entry. WIDE: rows of codes are whole units of 16 bytes without a code that straddles
// words. LOCAL: the tables of all rows of a workgroup fit into its memory.

@group(0) @binding(3) var<storage, read> codes: array<vec4<u32>>;      // [outputs, words], as fours of words
@group(0) @binding(4) var<storage, read> tables: array<f32>;           // [outputs / share, rounded up, entries]
@group(0) @binding(5) var<storage, read_write> y: array<f32>;          // [rows, outputs]

override BITS: u32;
override LOCAL: bool;

var<workgroup> near: array<f32, 1536>;

// The first table in `near`.
var<private> first_table: u32;

fn word(i: u32) -> u32 {
    return codes[i / 4u][i % 4u];
}

// The entries of four codes, from bit `at` of a word on, of row n.
fn looked_up(n: u32, word: u32, at: u32) -> vec4<f32> {
    let shifted = vec4(word) >> vec4(at, at + BITS, at + 2u * BITS, at + 3u * BITS);
    let code = min(shifted & vec4((1u << BITS) - 1u), vec4(params.entries - 1u));
    let table = n / params.share;
    if LOCAL {
        let i = (table - first_table) * params.entries + code;
        return vec4(near[i.x], near[i.y], near[i.z], near[i.w]);
    }
    let i = table * params.entries + code;
    return vec4(tables[i.x], tables[i.y], tables[i.z], tables[i.w]);
}

fn weights(n: u32, q: u32) -> vec4<f32> {
    let at = q * BITS / 8u;
    let shift = q * BITS % 8u * 4u;
    var four = word(n * params.words + at) >> shift;
    if shift + 4u * BITS > 32u && at + 1u < params.words {
        four |= word(n * params.words + at + 1u) << (32u - shift);
    }
    return looked_up(n, four, 0u);
}

// sums, and the products of the codes in one word of each of four rows.
fn word_added(sums: Sums, n: vec4<u32>, words: vec4<u32>, at: u32) -> Sums {
    var to = sums;
    var slot = at;
    for (var bit = 0u; bit < 32u; bit += 4u * BITS) {
        let four = mat4x4(
            looked_up(n.x, words.x, bit),
            looked_up(n.y, words.y, bit),
            looked_up(n.z, words.z, bit),
            looked_up(n.w, words.w, bit),
        );
        to = added(to, four, slot);
        slot += params.lanes;
    }
    return to;
}

fn unit(sums: Sums, n: vec4<u32>, u: u32, at: u32) -> Sums {
    if !WIDE { return added(sums, quads(n, u), at); }
    let i = n * (params.words / 4u) + u;
    let a = codes[i.x];
    let b = codes[i.y];
    let c = codes[i.z];
    let d = codes[i.w];
    let step = params.lanes * QUADS / 4u;
    var to = word_added(sums, n, vec4(a.x, b.x, c.x, d.x), at);
    to = word_added(to, n, vec4(a.y, b.y, c.y, d.y), at + step);
    to = word_added(to, n, vec4(a.z, b.z, c.z, d.z), at + 2u * step);
    return word_added(to, n, vec4(a.w, b.w, c.w, d.w), at + 3u * step);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups);
    first_table = first_output(id) / params.share;
    if LOCAL {
        let last = min(first_output(id) + breadth(), params.outputs) - 1u;
        let count = (last / params.share - first_table + 1u) * params.entries;
        for (var i = lane; i < count; i += WG) { near[i] = tables[first_table * params.entries + i]; }
        workgroupBarrier();
    }
    product(id, lane);
}
