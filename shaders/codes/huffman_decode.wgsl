// symbols = what the lanes of Huffman codes say (src/codec/huffman.rs), as bytes.
// One workgroup of 64 invocations per block, one invocation per lane; eight rows of symbols at a time are packed to words.

struct Params { blocks: u32, last: u32 }

@group(0) @binding(0) var<uniform> params: Params;                     // last: number of the last word of `bytes`
@group(0) @binding(1) var<storage, read> bytes: array<u32>;            // streams, each from a fresh word
@group(0) @binding(2) var<storage, read> blocks: array<u32>;           // [blocks, 4]: symbols, lanes, table, first word of `symbols`
@group(0) @binding(3) var<storage, read> ends: array<u32>;             // [blocks, 65]: lane l's bytes are from [l] to [l + 1]
@group(0) @binding(4) var<storage, read> tables: array<u32>;           // [streams, 128]: by eight bits, symbol and length as u16
@group(0) @binding(5) var<storage, read_write> symbols: array<u32>;    // four to a word
@group(0) @binding(6) var<storage, read_write> malformed: atomic<u32>; // number of a block with a bad lane, from 1 on

override WG: u32;

const ROWS = 8u;

var<workgroup> table: array<u32, 256>;
var<workgroup> rows: array<u32, ROWS * 64u>;

// 32 bits from bit `at` on. Lanes of malformed bytes may run beyond their ends, and then read what is there.
fn window(at: u32) -> u32 {
    let w = at / 32u;
    let low = bytes[min(w, params.last)] >> (at % 32u);
    if at % 32u == 0u { return low; }
    return low | (bytes[min(w + 1u, params.last)] << (32u - at % 32u));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let block = workgroup_index(wid, groups);
    if block >= params.blocks { return; }
    let count = blocks[4u * block];
    let lanes = blocks[4u * block + 1u];
    let first_word = blocks[4u * block + 3u];
    for (var i = lane; i < 256u; i += WG) {
        table[i] = extractBits(tables[128u * blocks[4u * block + 2u] + i / 2u], 16u * (i % 2u), 16u);
    }
    workgroupBarrier();

    var at = 8u * ends[65u * block + lane];
    // A block has at most 2048 rows.
    for (var row = 0u; row < 2048u; row += ROWS) {
        if row * lanes >= count { break; }
        if lane < lanes {
            for (var half = 0u; half < ROWS; half += 4u) {
                // Four codes are at most 32 bits.
                var bits = window(at);
                for (var r = half; r < half + 4u; r++) {
                    var symbol = 0u;
                    if (row + r) * lanes + lane < count {
                        let code = table[bits & 255u];
                        symbol = code & 255u;
                        bits >>= code >> 8u;
                        at += code >> 8u;
                    }
                    rows[r * lanes + lane] = symbol;
                }
            }
        }
        workgroupBarrier();
        let words = (min(ROWS * lanes, count - row * lanes) + 3u) / 4u;
        for (var w = lane; w < words; w += WG) {
            let word = rows[4u * w] | (rows[4u * w + 1u] << 8u) | (rows[4u * w + 2u] << 16u) | (rows[4u * w + 3u] << 24u);
            symbols[first_word + row * lanes / 4u + w] = word;
        }
        workgroupBarrier();
    }

    if lane < lanes {
        let used = (at + 7u) / 8u;
        let padding = select(window(at) & (255u >> (at % 8u)), 0u, at % 8u == 0u);
        if used != ends[65u * block + lane + 1u] || padding != 0u { atomicMax(&malformed, block + 1u); }
    }
}
