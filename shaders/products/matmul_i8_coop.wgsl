enable f16;
enable wgpu_cooperative_matrix;

// sums[m, n] = sum over k of a[m, k] * (w[n, k] - zero[n]), + offset[n], or - zero point of row m * offset[n] where rows have scales,
// by matrix units of f16: whole numbers, exact in f16 as factors and in f32 as sums below 2^24. Written: the sums, or
// act(f32(sums) * (scale of row m * scale[n]) + bias[n]) (FLOAT).
//
// Four subgroups of 32 invocations compute a tile of 128 x 128, each 64 x 64 of it as 4 x 4 matrices of 16 x 16, from 16
// columns at a time, which are turned into f16 on their way into workgroup memory. Before a sum could reach 2^24, after
// `window` such steps, the matrices are added to integers in `out` and start again.

struct Params { m: u32, n: u32, quads: u32, tiles_m: u32, tiles_n: u32, window: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;          // [M, quads]: 16 codes each
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;          // [N, quads]
@group(0) @binding(3) var<storage, read> channels: array<vec4<u32>>;   // [N]: offset, zero, scale, bias
@group(0) @binding(4) var<storage, read> rows: array<vec2<f32>>;       // [M]: scale, zero point (ROW_SCALES)
@group(0) @binding(5) var<storage, read_write> out: array<u32>;        // [M, N]

override WG: u32;              // 128
override A_SIGNED: bool;
override W_SIGNED: bool;
override ROW_SCALES: bool;
override FLOAT: bool;
override ACTIVATION: u32;

// Four codes are a vector; two vectors after each row keep rows in different banks.
const PITCH: u32 = 6u;

var<workgroup> tile_a: array<vec4<f16>, 768>;    // [128, PITCH]
var<workgroup> tile_w: array<vec4<f16>, 768>;
var<workgroup> spread: array<f32, 1024>;         // [subgroup, 16, 16]

// Matrices of a subgroup.
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
fn left(row: u32) -> Left { return coopLoadT<Left>(&tile_a[PITCH * row], PITCH); }
fn right(row: u32) -> Right { return coopLoad<Right>(&tile_w[PITCH * row], PITCH); }
fn spread_out(c: Sums, at: u32) { coopStoreT(c, &spread[at], 16u); }
// End of the matrices.

// Sixteen codes of a row, less the zero point, into the tile.
fn widened(word: u32, is_signed: bool, zero: i32) -> vec4<f16> {
    let codes = select(vec4<i32>(unpack4xU8(word)), unpack4xI8(word), is_signed);
    return vec4<f16>(codes - vec4(zero));
}

fn keep(row: u32, x: vec4<u32>, y: vec4<u32>, zero: i32) {
    let at = PITCH * row;
    tile_a[at] = widened(x.x, A_SIGNED, 0);
    tile_a[at + 1u] = widened(x.y, A_SIGNED, 0);
    tile_a[at + 2u] = widened(x.z, A_SIGNED, 0);
    tile_a[at + 3u] = widened(x.w, A_SIGNED, 0);
    tile_w[at] = widened(y.x, W_SIGNED, zero);
    tile_w[at + 1u] = widened(y.y, W_SIGNED, zero);
    tile_w[at + 2u] = widened(y.z, W_SIGNED, zero);
    tile_w[at + 3u] = widened(y.w, W_SIGNED, zero);
}

fn quad_of_a(row: u32, q: u32) -> vec4<u32> {
    if (row >= params.m) | (q >= params.quads) { return vec4(0u); }
    return a[row * params.quads + q];
}

fn quad_of_w(row: u32, q: u32) -> vec4<u32> {
    if (row >= params.n) | (q >= params.quads) { return vec4(0u); }
    return w[row * params.quads + q];
}

// Where a subgroup's matrix goes, and which steps of K have gone before.
struct Place { row: u32, col: u32, lane: u32, first: bool, last: bool }

// Adds a matrix to `out`; the last time, turns it into the result. Every element is always the same invocation's.
fn flush(c: Sums, p: Place, down: u32, across: u32) {
    let at = 256u * (p.lane / 32u);
    spread_out(c, at);
    workgroupBarrier();
    for (var e = p.lane % 32u; e < 256u; e += 32u) {
        let row = p.row + down + e / 16u;
        let col = p.col + across + e % 16u;
        if row < params.m && col < params.n {
            let i = row * params.n + col;
            var sum = i32(spread[at + e]);
            if !p.first { sum += i32(out[i]); }
            if p.last { out[i] = result(sum, channels[col], row); } else { out[i] = u32(sum); }
        }
    }
    workgroupBarrier();
}

fn result(sum: i32, channel: vec4<u32>, row: u32) -> u32 {
    var factor = 1;
    var scale = bitcast<f32>(channel.z);
    if ROW_SCALES {
        factor = -i32(rows[row].y);
        scale *= rows[row].x;
    }
    let s = sum + factor * i32(channel.x);
    if !FLOAT { return u32(s); }
    return bitcast<u32>(activated(ACTIVATION, f32(s) * scale + bitcast<f32>(channel.w)));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups);
    // Panels of eight tiles of rows, column after column: workgroups that run side by side share their operands. Matrices are
    // for all or none of a workgroup, so one beyond the last tile does not leave: it finds no rows or no columns.
    let panel = 8u * params.tiles_n;
    let first = 8u * (id / panel);
    let height = max(1u, min(params.tiles_m - first, 8u));
    let row0 = 128u * (first + (id % panel) % height);
    let col0 = 128u * ((id % panel) / height);

    // Each invocation loads a row of A and one of W; each subgroup multiplies a quarter of the tile.
    let zero = i32(channels[min(col0 + lane, params.n - 1u)].y);
    let l = 64u * (lane / 64u);
    let r = 64u * ((lane / 32u) % 2u);
    var p = Place(row0 + l, col0 + r, lane, true, false);
    keep(lane, quad_of_a(row0 + lane, 0u), quad_of_w(col0 + lane, 0u), zero);
    workgroupBarrier();
    var c00 = Sums();
    var c01 = Sums();
    var c02 = Sums();
    var c03 = Sums();
    var c10 = Sums();
    var c11 = Sums();
    var c12 = Sums();
    var c13 = Sums();
    var c20 = Sums();
    var c21 = Sums();
    var c22 = Sums();
    var c23 = Sums();
    var c30 = Sums();
    var c31 = Sums();
    var c32 = Sums();
    var c33 = Sums();
    var left_in_window = params.window;
    for (var q = 0u; q < params.quads; q++) {
        let x = quad_of_a(row0 + lane, q + 1u);
        let y = quad_of_w(col0 + lane, q + 1u);
        let l0 = left(l);
        let l1 = left(l + 16u);
        let l2 = left(l + 32u);
        let l3 = left(l + 48u);
        let r0 = right(r);
        c00 = coopMultiplyAdd(l0, r0, c00);
        c10 = coopMultiplyAdd(l1, r0, c10);
        c20 = coopMultiplyAdd(l2, r0, c20);
        c30 = coopMultiplyAdd(l3, r0, c30);
        let r1 = right(r + 16u);
        c01 = coopMultiplyAdd(l0, r1, c01);
        c11 = coopMultiplyAdd(l1, r1, c11);
        c21 = coopMultiplyAdd(l2, r1, c21);
        c31 = coopMultiplyAdd(l3, r1, c31);
        let r2 = right(r + 32u);
        c02 = coopMultiplyAdd(l0, r2, c02);
        c12 = coopMultiplyAdd(l1, r2, c12);
        c22 = coopMultiplyAdd(l2, r2, c22);
        c32 = coopMultiplyAdd(l3, r2, c32);
        let r3 = right(r + 48u);
        c03 = coopMultiplyAdd(l0, r3, c03);
        c13 = coopMultiplyAdd(l1, r3, c13);
        c23 = coopMultiplyAdd(l2, r3, c23);
        c33 = coopMultiplyAdd(l3, r3, c33);
        workgroupBarrier();
        keep(lane, x, y, zero);
        workgroupBarrier();
        left_in_window--;
        p.last = q + 1u == params.quads;
        if left_in_window == 0u || p.last {
            flush(c00, p, 0u, 0u);
            flush(c01, p, 0u, 16u);
            flush(c02, p, 0u, 32u);
            flush(c03, p, 0u, 48u);
            flush(c10, p, 16u, 0u);
            flush(c11, p, 16u, 16u);
            flush(c12, p, 16u, 32u);
            flush(c13, p, 16u, 48u);
            flush(c20, p, 32u, 0u);
            flush(c21, p, 32u, 16u);
            flush(c22, p, 32u, 32u);
            flush(c23, p, 32u, 48u);
            flush(c30, p, 48u, 0u);
            flush(c31, p, 48u, 16u);
            flush(c32, p, 48u, 32u);
            flush(c33, p, 48u, 48u);
            c00 = Sums();
            c01 = Sums();
            c02 = Sums();
            c03 = Sums();
            c10 = Sums();
            c11 = Sums();
            c12 = Sums();
            c13 = Sums();
            c20 = Sums();
            c21 = Sums();
            c22 = Sums();
            c23 = Sums();
            c30 = Sums();
            c31 = Sums();
            c32 = Sums();
            c33 = Sums();
            p.first = false;
            left_in_window = params.window;
        }
    }
}
