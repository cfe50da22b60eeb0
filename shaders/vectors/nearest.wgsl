// labels[v] = the first of the entries of book v % books that are nearest to points[v], among those below params.end;
// rest[v] = points[v] - that entry, clamped to -LIMIT..LIMIT, of those below params.left. Entries from params.start on: what was found among those
// before stands in labels. One invocation per vector; a workgroup's have one book, a part of which lies near.

struct Params { vectors: u32, books: u32, pairs: u32, k: u32, start: u32, end: u32, near: u32, left: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> points: array<u32>;               // [vectors, pairs], halves are numbers
@group(0) @binding(2) var<storage, read> entries: array<u32>;              // [books, k, pairs], halves are numbers
@group(0) @binding(3) var<storage, read_write> labels: array<u32>;         // [vectors]
@group(0) @binding(4) var<storage, read_write> rest: array<u32>;           // [vectors, pairs]

override WG: u32;
override QUADS: u32;       // fours of numbers of a vector, 1 to 4

const LIMIT: i32 = 2047;

// Numbers of entries, QUADS to each, and their squared lengths.
var<workgroup> quads: array<vec4<i32>, 768>;
var<workgroup> squares: array<i32, 256>;

// Both halves of a word.
fn halves(word: u32) -> vec2<i32> {
    return vec2(extractBits(i32(word), 0u, 16u), i32(word) >> 16u);
}

fn pair_of_point(v: u32, p: u32) -> vec2<i32> {
    if p >= params.pairs { return vec2(0); }
    return halves(points[v * params.pairs + p]);
}

fn quad_of_point(v: u32, q: u32) -> vec4<i32> {
    if q >= QUADS { return vec4(0); }
    return vec4(pair_of_point(v, 2u * q), pair_of_point(v, 2u * q + 1u));
}

fn pair_of_entry(j: u32, p: u32) -> vec2<i32> {
    if p >= params.pairs { return vec2(0); }
    return halves(entries[j * params.pairs + p]);
}

// The squared distance, but for that of the point from the origin.
fn score(i: u32, x: array<vec4<i32>, 4>) -> i32 {
    var product = dot(x[0], quads[i * QUADS]);
    if QUADS > 1u { product += dot(x[1], quads[i * QUADS + 1u]); }
    if QUADS > 2u { product += dot(x[2], quads[i * QUADS + 2u]); }
    if QUADS > 3u { product += dot(x[3], quads[i * QUADS + 3u]); }
    return squares[i] - 2 * product;
}

fn score_of_entry(j: u32, x: array<vec4<i32>, 4>) -> i32 {
    var sum = 0;
    for (var q = 0u; q < QUADS; q++) {
        let c = vec4(pair_of_entry(j, 2u * q), pair_of_entry(j, 2u * q + 1u));
        sum += dot(c, c) - 2 * dot(x[q], c);
    }
    return sum;
}

fn word(pair: vec2<i32>) -> u32 {
    let held = clamp(pair, vec2(-LIMIT), vec2(LIMIT));
    return (u32(held.x) & 0xffffu) | (u32(held.y) << 16u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups);
    let book = id % params.books;
    let v = ((id / params.books) * WG + lane) * params.books + book;
    let mine = v < params.vectors;
    let base = book * params.k;
    var x = array(vec4(0), vec4(0), vec4(0), vec4(0));
    var best = 0u;
    var least = 0x7fffffff;
    if mine {
        x = array(quad_of_point(v, 0u), quad_of_point(v, 1u), quad_of_point(v, 2u), quad_of_point(v, 3u));
        if params.start > 0u {
            best = labels[v];
            least = score_of_entry(base + best, x);
        }
    }
    for (var start = params.start; start < params.end; start += params.near) {
        let count = min(params.near, params.end - start);
        workgroupBarrier();
        for (var i = lane; i < count; i += WG) {
            var square = 0;
            for (var q = 0u; q < QUADS; q++) {
                let c = vec4(pair_of_entry(base + start + i, 2u * q), pair_of_entry(base + start + i, 2u * q + 1u));
                quads[i * QUADS + q] = c;
                square += dot(c, c);
            }
            squares[i] = square;
        }
        workgroupBarrier();
        for (var i = 0u; i < count; i++) {
            let found = score(i, x);
            if found < least {
                least = found;
                best = start + i;
            }
        }
    }
    if mine {
        labels[v] = best;
    }
    if v < params.left {
        for (var p = 0u; p < params.pairs; p++) {
            rest[v * params.pairs + p] = word(pair_of_point(v, p) - pair_of_entry(base + best, p));
        }
    }
}
