// sums[b] = sum of u (or of u^2, if SQUARED) over the weights of block b, with u = round_ties_even(|w| * inverse); 64 bits.
// Every row of blocks has its inverse (inverse_step 1), or all have one (0).
// Blocks are block_rows x block_cols; the tile starts row0 rows and col0 columns into one.
// One workgroup per block.

struct Params { rows: u32, cols: u32, block_rows: u32, block_cols: u32, row0: u32, col0: u32, blocks_across: u32, blocks: u32, inverse_step: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read> inverses: array<f32>;         // [rows of blocks], or [1]
@group(0) @binding(3) var<storage, read_write> sums: array<u32>;       // [blocks, 2], low word first

override WG: u32;
override DTYPE: u32;
override SQUARED: bool;

var<workgroup> partial: array<vec2<u32>, WG>;

fn weight(i: u32) -> u32 {
    let w = word_of(DTYPE, i);
    if DTYPE == F64 { return decode(DTYPE, weights[w], weights[w + 1u], i); }
    return decode(DTYPE, weights[w], 0u, i);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let b = workgroup_index(wid, groups);
    if b >= params.blocks { return; }
    let across = b % params.blocks_across;
    let down = b / params.blocks_across;
    let r0 = max(down * params.block_rows, params.row0) - params.row0;
    let r1 = min((down + 1u) * params.block_rows - params.row0, params.rows);
    let c0 = max(across * params.block_cols, params.col0) - params.col0;
    let c1 = min((across + 1u) * params.block_cols - params.col0, params.cols);
    let width = c1 - c0;
    let inverse = inverses[down * params.inverse_step];
    var low = 0u;
    var high = 0u;
    for (var k = lane; k < (r1 - r0) * width; k += WG) {
        let i = (r0 + k / width) * params.cols + c0 + k % width;
        let u = u32(round(bitcast<f32>(weight(i) & 0x7fffffffu) * inverse));
        let term = select(u, u * u, SQUARED);
        low += term;
        high += u32(low < term);
    }
    partial[lane] = vec2(low, high);
    workgroupBarrier();
    if lane == 0u {
        var sum = vec2(0u);
        for (var l = 0u; l < WG; l++) {
            let p = partial[l];
            sum.x += p.x;
            sum.y += p.y + u32(sum.x < p.x);
        }
        sums[2u * b] = sum.x;
        sums[2u * b + 1u] = sum.y;
    }
}
