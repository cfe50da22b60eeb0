// Survivors to their places, a workgroup for each block. An invocation takes consecutive symbols of the index; sums over those
// before it tell where its first weight is and which survivor comes next.

struct Params { blocks: u32, k: u32, by_position: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> index: array<u32>;                   // symbols, four bytes to a word
@group(0) @binding(2) var<storage, read> blocks: array<u32>;                  // [blocks, 7]: filler or 0 for a bitmap, first symbol, symbols, first weight, weights, first code, codes
@group(0) @binding(3) var<storage, read> codes: array<u32>;                   // four bytes to a word
@group(0) @binding(4) var<storage, read> table: array<u32>;                   // [k], patterns; of 64 bits two words each
@group(0) @binding(5) var<storage, read_write> out: array<atomic<u32>>;       // weights of BITS bits, zeros; or [blocks] survivors
@group(0) @binding(6) var<storage, read_write> malformed: atomic<u32>;        // 1 + a block that is

override WG: u32;
override BITS: u32;
// Only counts the survivors of each block.
override COUNT: bool;

// Weights and survivors of each invocation's symbols, then of all up to it.
var<workgroup> sums: array<vec2<u32>, 256>;

fn byte_of(word: u32, i: u32) -> u32 {
    return extractBits(word, 8u * (i & 3u), 8u);
}

// The weights that a symbol stands for, and how many of them survive.
fn meaning(symbol: u32, filler: u32) -> vec2<u32> {
    if filler == 0u { return vec2<u32>(8u, countOneBits(symbol)); }
    return vec2<u32>(symbol, 0u) + select(vec2<u32>(1u), vec2<u32>(0u), symbol == filler);
}

fn put(weight: u32, code: u32) {
    let entry = min(code, params.k - 1u);
    if BITS == 64u {
        atomicStore(&out[2u * weight], table[2u * entry]);
        atomicStore(&out[2u * weight + 1u], table[2u * entry + 1u]);
    } else {
        let place = weight * BITS;
        atomicOr(&out[place / 32u], table[entry] << (place % 32u));
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let block = workgroup_index(wid, groups);
    if block >= params.blocks { return; }
    let filler = blocks[7u * block];
    let first = blocks[7u * block + 1u];
    let symbols = blocks[7u * block + 2u];
    let start = blocks[7u * block + 3u];
    let weights = blocks[7u * block + 4u];
    let first_code = blocks[7u * block + 5u];
    let survivors = blocks[7u * block + 6u];
    let each = (symbols + WG - 1u) / WG;
    let begin = min(lane * each, symbols);
    let end = min(begin + each, symbols);
    var own = vec2<u32>(0u);
    for (var i = first + begin; i < first + end; i++) { own += meaning(byte_of(index[i / 4u], i), filler); }
    sums[lane] = own;
    workgroupBarrier();
    for (var step = 1u; step < WG; step *= 2u) {
        var before = vec2<u32>(0u);
        if lane >= step { before = sums[lane - step]; }
        workgroupBarrier();
        sums[lane] += before;
        workgroupBarrier();
    }
    let total = sums[WG - 1u];
    var at = sums[lane] - own;
    var fine = true;
    if COUNT {
        if lane > 0u { return; }
        atomicStore(&out[block], total.y);
        if symbols > 0u {
            let i = first + symbols - 1u;
            let last = byte_of(index[i / 4u], i);
            if filler == 0u {
                fine = last >> (8u - (8u * symbols - weights)) == 0u;
            } else {
                fine = total.x <= weights && last != filler;
            }
        }
    } else {
        fine = params.by_position != 0u || total.y == survivors;
        for (var i = first + begin; i < first + end; i++) {
            let symbol = byte_of(index[i / 4u], i);
            // Bits of the weights of this symbol that survive.
            var bits = symbol;
            var origin = at.x;
            if filler != 0u {
                bits = select(1u, 0u, symbol == filler);
                origin += symbol;
            }
            var rank = at.y;
            while bits != 0u {
                let p = origin + firstTrailingBit(bits);
                let c = first_code + select(rank, p, params.by_position != 0u);
                if p < weights && (params.by_position != 0u || rank < survivors) {
                    put(start + p, byte_of(codes[c / 4u], c));
                } else {
                    fine = false;
                }
                rank++;
                bits &= bits - 1u;
            }
            at += meaning(symbol, filler);
        }
    }
    if !fine { atomicMax(&malformed, block + 1u); }
}
