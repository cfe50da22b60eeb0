// sums[m, n] = sum over k of a[m, k] * (w[n, k] - zero[n]), + offset[n], or - zero point of row m * offset[n] where rows have scales;
// all arithmetic wraps. What is written: the sums (SUM), act(f32(sums) * (scale of row m * scale[n]) + bias[n]) (FLOAT), or
// requantized codes of 8 bits, four to a word (REQUANTIZE).
//
// Many rows: SIDE x SIDE invocations compute a tile of 8 SIDE x 8 SIDE outputs, 8 x 8 each, from eight words of K at a time.
// Those lie in workgroup memory as [word][row], so that one load brings a word of four rows; while one half of the memory is
// multiplied, the next words are on their way through registers into the other half.
// Few rows: 64 invocations share four columns and up to eight rows, and each takes every 64th quad of words.
//
// The packed dot products know two signed or two unsigned operands. Of a mixed pair the unsigned operand is flipped into the
// signed range, x - 128 = x ^ 0x80 as bits, and 128 times the sum of the other one, which is zero where K is padded, is added.

struct Params { m: u32, n: u32, words: u32, tiles_m: u32, tiles_n: u32, zero_point: i32, lowest: i32, highest: i32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;                // [M, words]
@group(0) @binding(2) var<storage, read> a4: array<vec4<u32>>;         // the same, where words is a multiple of 4 (ALIGNED)
@group(0) @binding(3) var<storage, read> w: array<u32>;                // [N, words]
@group(0) @binding(4) var<storage, read> w4: array<vec4<u32>>;         // the same
@group(0) @binding(5) var<storage, read> channels: array<vec4<u32>>;   // [N]: offset, zero, scale or multiplier, bias or shift
@group(0) @binding(6) var<storage, read> rows: array<vec2<f32>>;       // [M]: scale, zero point (ROW_SCALES)
@group(0) @binding(7) var<storage, read_write> out: array<u32>;        // [M, N], or [M, ceil(N / 4)] of codes

override WG: u32;
override SIDE: u32;            // 16 or 8, for WG = 256 or 64
override FEW: bool;            // few rows, WG = 256
override ALIGNED: bool;
override A_SIGNED: bool;
override W_SIGNED: bool;
override ZERO_POINTS: bool;    // some zero[n] is not 0
override ROW_SCALES: bool;
override EPILOGUE: u32;
override ACTIVATION: u32;

const SUM: u32 = 0u;
const FLOAT: u32 = 1u;
const ONES: u32 = 0x01010101u;
const FLIP: u32 = 0x80808080u;

// Two halves of [A, then W][8 words][2 SIDE fours of rows]; later, sums to exchange.
var<workgroup> tile: array<vec4<u32>, 1024>;

// Four vectors: words of four rows, or the channels of four columns.
struct Four { x: vec4<u32>, y: vec4<u32>, z: vec4<u32>, w: vec4<u32> }

// The sums of 8 rows by 4 + 4 columns.
struct Sums {
    l0: vec4<i32>, l1: vec4<i32>, l2: vec4<i32>, l3: vec4<i32>, l4: vec4<i32>, l5: vec4<i32>, l6: vec4<i32>, l7: vec4<i32>,
    h0: vec4<i32>, h1: vec4<i32>, h2: vec4<i32>, h3: vec4<i32>, h4: vec4<i32>, h5: vec4<i32>, h6: vec4<i32>, h7: vec4<i32>,
}

fn flips_a() -> bool { return !A_SIGNED && W_SIGNED; }
fn flips_w() -> bool { return A_SIGNED && !W_SIGNED; }
fn needs_sums_of_a() -> bool { return ZERO_POINTS || flips_w(); }

fn flipped_a(x: vec4<u32>) -> vec4<u32> { return x ^ vec4(select(0u, FLIP, flips_a())); }
fn flipped_w(x: vec4<u32>) -> vec4<u32> { return x ^ vec4(select(0u, FLIP, flips_w())); }

// Words 4 q to 4 q + 3 of a row; zero beyond the matrix.
fn quad_of_a(row: u32, q: u32) -> vec4<u32> {
    if (row >= params.m) | (4u * q >= params.words) { return vec4(0u); }
    let i = row * params.words + 4u * q;
    if ALIGNED { return a4[i / 4u]; }
    let left = params.words - 4u * q;
    var x = vec4(a[i], 0u, 0u, 0u);
    if left > 1u { x.y = a[i + 1u]; }
    if left > 2u { x.z = a[i + 2u]; }
    if left > 3u { x.w = a[i + 3u]; }
    return x;
}

fn quad_of_w(row: u32, q: u32) -> vec4<u32> {
    if (row >= params.n) | (4u * q >= params.words) { return vec4(0u); }
    let i = row * params.words + 4u * q;
    if ALIGNED { return w4[i / 4u]; }
    let left = params.words - 4u * q;
    var x = vec4(w[i], 0u, 0u, 0u);
    if left > 1u { x.y = w[i + 1u]; }
    if left > 2u { x.z = w[i + 2u]; }
    if left > 3u { x.w = w[i + 3u]; }
    return x;
}

fn dot(x: u32, y: u32) -> i32 {
    if !A_SIGNED && !W_SIGNED { return i32(dot4U8Packed(x, y)); }
    return dot4I8Packed(x, y);
}

// One word of a row by the same word of four columns.
fn dots(x: u32, y: vec4<u32>) -> vec4<i32> {
    return vec4(dot(x, y.x), dot(x, y.y), dot(x, y.z), dot(x, y.w));
}

fn quad_dot(x: vec4<u32>, y: vec4<u32>) -> i32 {
    return dot(x.x, y.x) + dot(x.y, y.y) + dot(x.z, y.z) + dot(x.w, y.w);
}

// The sum of the sixteen codes of a quad.
fn quad_sum(x: vec4<u32>, is_signed: bool) -> i32 {
    if is_signed { return dot4I8Packed(x.x, ONES) + dot4I8Packed(x.y, ONES) + dot4I8Packed(x.z, ONES) + dot4I8Packed(x.w, ONES); }
    return i32(dot4U8Packed(x.x, ONES) + dot4U8Packed(x.y, ONES) + dot4U8Packed(x.z, ONES) + dot4U8Packed(x.w, ONES));
}

// The channels of four columns; the last one again beyond the matrix.
fn channels_of(col: u32) -> Four {
    let last = params.n - 1u;
    return Four(channels[min(col, last)], channels[min(col + 1u, last)], channels[min(col + 2u, last)], channels[min(col + 3u, last)]);
}

// What the sum of a row of A counts in four columns: minus the zero point, and what flipping the weights left out.
fn factors(c: Four) -> vec4<i32> {
    let zero = select(vec4<i32>(), vec4<i32>(vec4(c.x.y, c.y.y, c.z.y, c.w.y)), ZERO_POINTS);
    return vec4(select(0, 128, flips_w())) - zero;
}

fn result(sum: i32, channel: vec4<u32>, row_scale: f32, factor: i32) -> u32 {
    let s = sum + factor * i32(channel.x);
    if EPILOGUE == SUM { return u32(s); }
    if EPILOGUE == FLOAT {
        let x = f32(s) * (row_scale * bitcast<f32>(channel.z)) + bitcast<f32>(channel.w);
        return bitcast<u32>(activated(ACTIVATION, x));
    }
    return requantized(s, channel.z, channel.w, params.zero_point, params.lowest, params.highest);
}

// Four columns of a row, from a multiple of 4 on.
fn emit(row: u32, col: u32, sums: vec4<i32>, c: Four) {
    if (row >= params.m) | (col >= params.n) { return; }
    var scale = 1.0;
    var factor = 1;
    if ROW_SCALES {
        scale = rows[row].x;
        factor = -i32(rows[row].y);
    }
    let r = vec4(result(sums.x, c.x, scale, factor), result(sums.y, c.y, scale, factor), result(sums.z, c.z, scale, factor), result(sums.w, c.w, scale, factor));
    let left = params.n - col;
    if EPILOGUE == SUM || EPILOGUE == FLOAT {
        let i = row * params.n + col;
        out[i] = r.x;
        if left > 1u { out[i + 1u] = r.y; }
        if left > 2u { out[i + 2u] = r.z; }
        if left > 3u { out[i + 3u] = r.w; }
    } else {
        let word = r.x | (r.y << 8u) | (r.z << 16u) | (r.w << 24u);
        out[row * ((params.n + 3u) / 4u) + col / 4u] = word & (0xffffffffu >> (8u * (4u - min(left, 4u))));
    }
}

// Quad q of four rows.
fn load(of_w: bool, row: u32, q: u32) -> Four {
    if of_w { return Four(quad_of_w(row, q), quad_of_w(row + 1u, q), quad_of_w(row + 2u, q), quad_of_w(row + 3u, q)); }
    return Four(quad_of_a(row, q), quad_of_a(row + 1u, q), quad_of_a(row + 2u, q), quad_of_a(row + 3u, q));
}

// Turns four rows of four words into four words of four rows, and puts them into the tile.
fn keep(r: Four, at: u32, flip: u32) {
    tile[at] = vec4(r.x.x, r.y.x, r.z.x, r.w.x) ^ vec4(flip);
    tile[at + 2u * SIDE] = vec4(r.x.y, r.y.y, r.z.y, r.w.y) ^ vec4(flip);
    tile[at + 4u * SIDE] = vec4(r.x.z, r.y.z, r.z.z, r.w.z) ^ vec4(flip);
    tile[at + 6u * SIDE] = vec4(r.x.w, r.y.w, r.z.w, r.w.w) ^ vec4(flip);
}

// Adds the products of one word of K.
fn add(s: ptr<function, Sums>, a_at: u32, w_at: u32) {
    let al = tile[a_at];
    let ah = tile[a_at + SIDE];
    let wl = tile[w_at];
    let wh = tile[w_at + SIDE];
    (*s).l0 += dots(al.x, wl);
    (*s).l1 += dots(al.y, wl);
    (*s).l2 += dots(al.z, wl);
    (*s).l3 += dots(al.w, wl);
    (*s).l4 += dots(ah.x, wl);
    (*s).l5 += dots(ah.y, wl);
    (*s).l6 += dots(ah.z, wl);
    (*s).l7 += dots(ah.w, wl);
    (*s).h0 += dots(al.x, wh);
    (*s).h1 += dots(al.y, wh);
    (*s).h2 += dots(al.z, wh);
    (*s).h3 += dots(al.w, wh);
    (*s).h4 += dots(ah.x, wh);
    (*s).h5 += dots(ah.y, wh);
    (*s).h6 += dots(ah.z, wh);
    (*s).h7 += dots(ah.w, wh);
}

// The sums of four rows of A, or of W, over all of K: two invocations loaded each four.
fn exchanged(four: u32) -> vec4<i32> {
    return vec4<i32>(tile[2u * four] + tile[2u * four + 1u]);
}

fn many_rows(id: u32, lane: u32) {
    // Panels of eight tiles of rows, column after column: workgroups that run side by side share their operands.
    let panel = 8u * params.tiles_n;
    let first = 8u * (id / panel);
    let height = min(params.tiles_m - first, 8u);
    let row0 = 8u * SIDE * (first + (id % panel) % height);
    let col0 = 8u * SIDE * ((id % panel) / height);

    // The first 8 SIDE invocations load: half of them A, half of them W, four rows and one of two quads each.
    let loads = lane < 8u * SIDE;
    let of_w = lane >= 4u * SIDE;
    let block = lane % (4u * SIDE);
    let load_row = select(row0, col0, of_w) + 4u * (block / 2u);
    let load_quad = block % 2u;
    let load_at = select(0u, 16u * SIDE, of_w) + 8u * SIDE * load_quad + block / 2u;
    let flip = select(0u, FLIP, select(flips_a(), flips_w(), of_w));
    let adds_up = (flips_a() && of_w) || (needs_sums_of_a() && !of_w);
    let is_signed = select(A_SIGNED, W_SIGNED, of_w);
    var mine = vec4<i32>();

    let a_at = lane / SIDE;
    let w_at = 16u * SIDE + lane % SIDE;
    var s = Sums();
    var next = Four();
    if loads {
        next = load(of_w, load_row, load_quad);
        keep(next, load_at, flip);
    }
    workgroupBarrier();
    let steps = (params.words + 7u) / 8u;
    for (var step = 0u; step < steps; step++) {
        if loads {
            if adds_up {
                mine += vec4(quad_sum(next.x, is_signed), quad_sum(next.y, is_signed), quad_sum(next.z, is_signed), quad_sum(next.w, is_signed));
            }
            next = load(of_w, load_row, 2u * step + 2u + load_quad);
        }
        let now = 32u * SIDE * (step & 1u);
        for (var k = now; k < now + 16u * SIDE; k += 4u * SIDE) {
            add(&s, a_at + k, w_at + k);
            add(&s, a_at + k + 2u * SIDE, w_at + k + 2u * SIDE);
        }
        if loads { keep(next, load_at + 32u * SIDE - now, flip); }
        workgroupBarrier();
    }

    let row = row0 + 4u * (lane / SIDE);
    let col = col0 + 4u * (lane % SIDE);
    let cl = channels_of(col);
    let ch = channels_of(col + 4u * SIDE);
    if flips_a() || needs_sums_of_a() {
        if loads { tile[lane] = vec4<u32>(mine); }
        workgroupBarrier();
        let fl = factors(cl);
        let fh = factors(ch);
        var rl = vec4<i32>();
        var rh = vec4<i32>();
        if needs_sums_of_a() {
            rl = exchanged(lane / SIDE);
            rh = exchanged(SIDE + lane / SIDE);
        }
        var vl = vec4<i32>();
        var vh = vec4<i32>();
        if flips_a() {
            vl = 128 * exchanged(2u * SIDE + lane % SIDE);
            vh = 128 * exchanged(3u * SIDE + lane % SIDE);
        }
        s.l0 += rl.x * fl + vl;
        s.l1 += rl.y * fl + vl;
        s.l2 += rl.z * fl + vl;
        s.l3 += rl.w * fl + vl;
        s.l4 += rh.x * fl + vl;
        s.l5 += rh.y * fl + vl;
        s.l6 += rh.z * fl + vl;
        s.l7 += rh.w * fl + vl;
        s.h0 += rl.x * fh + vh;
        s.h1 += rl.y * fh + vh;
        s.h2 += rl.z * fh + vh;
        s.h3 += rl.w * fh + vh;
        s.h4 += rh.x * fh + vh;
        s.h5 += rh.y * fh + vh;
        s.h6 += rh.z * fh + vh;
        s.h7 += rh.w * fh + vh;
    }
    emit(row, col, s.l0, cl);
    emit(row + 1u, col, s.l1, cl);
    emit(row + 2u, col, s.l2, cl);
    emit(row + 3u, col, s.l3, cl);
    emit(row + 4u * SIDE, col, s.l4, cl);
    emit(row + 4u * SIDE + 1u, col, s.l5, cl);
    emit(row + 4u * SIDE + 2u, col, s.l6, cl);
    emit(row + 4u * SIDE + 3u, col, s.l7, cl);
    emit(row, col + 4u * SIDE, s.h0, ch);
    emit(row + 1u, col + 4u * SIDE, s.h1, ch);
    emit(row + 2u, col + 4u * SIDE, s.h2, ch);
    emit(row + 3u, col + 4u * SIDE, s.h3, ch);
    emit(row + 4u * SIDE, col + 4u * SIDE, s.h4, ch);
    emit(row + 4u * SIDE + 1u, col + 4u * SIDE, s.h5, ch);
    emit(row + 4u * SIDE + 2u, col + 4u * SIDE, s.h6, ch);
    emit(row + 4u * SIDE + 3u, col + 4u * SIDE, s.h7, ch);
}

// What one quad of row `row` adds to four columns. `v` is what flipping A left out, `f` what the sum of A counts.
fn few_products(row: u32, q: u32, w: Four, f: vec4<i32>, v: vec4<i32>) -> vec4<i32> {
    let x = quad_of_a(row, q);
    let y = flipped_a(x);
    var s = vec4(quad_dot(y, w.x), quad_dot(y, w.y), quad_dot(y, w.z), quad_dot(y, w.w)) + v;
    if needs_sums_of_a() { s += quad_sum(x, A_SIGNED) * f; }
    return s;
}

// The sum of four vectors over the 64 invocations that share columns; all may use it, each after the other.
fn added_up(lane: u32, x: vec4<i32>, y: vec4<i32>, z: vec4<i32>, w: vec4<i32>) -> Four {
    tile[lane] = vec4<u32>(x);
    tile[lane + 256u] = vec4<u32>(y);
    tile[lane + 512u] = vec4<u32>(z);
    tile[lane + 768u] = vec4<u32>(w);
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane % 64u < half {
            tile[lane] += tile[lane + half];
            tile[lane + 256u] += tile[lane + 256u + half];
            tile[lane + 512u] += tile[lane + 512u + half];
            tile[lane + 768u] += tile[lane + 768u + half];
        }
    }
    let sum = Four(tile[lane], tile[lane + 256u], tile[lane + 512u], tile[lane + 768u]);
    workgroupBarrier();
    return sum;
}

fn few_rows(id: u32, lane: u32) {
    // Tiles of rows follow each other, so that the weights are read once and found in the cache then.
    let row = 8u * (id % params.tiles_m);
    let col = 16u * (id / params.tiles_m) + 4u * (lane / 64u);
    let count = params.m - row;
    let c = channels_of(col);
    let f = factors(c);
    var s0 = vec4<i32>();
    var s1 = vec4<i32>();
    var s2 = vec4<i32>();
    var s3 = vec4<i32>();
    var s4 = vec4<i32>();
    var s5 = vec4<i32>();
    var s6 = vec4<i32>();
    var s7 = vec4<i32>();
    for (var q = lane % 64u; 4u * q < params.words; q += 64u) {
        let x = load(true, col, q);
        let w = Four(flipped_w(x.x), flipped_w(x.y), flipped_w(x.z), flipped_w(x.w));
        var v = vec4<i32>();
        if flips_a() { v = 128 * vec4(quad_sum(x.x, W_SIGNED), quad_sum(x.y, W_SIGNED), quad_sum(x.z, W_SIGNED), quad_sum(x.w, W_SIGNED)); }
        s0 += few_products(row, q, w, f, v);
        if count > 1u { s1 += few_products(row + 1u, q, w, f, v); }
        if count > 2u { s2 += few_products(row + 2u, q, w, f, v); }
        if count > 3u { s3 += few_products(row + 3u, q, w, f, v); }
        if count > 4u { s4 += few_products(row + 4u, q, w, f, v); }
        if count > 5u { s5 += few_products(row + 5u, q, w, f, v); }
        if count > 6u { s6 += few_products(row + 6u, q, w, f, v); }
        if count > 7u { s7 += few_products(row + 7u, q, w, f, v); }
    }
    let l = added_up(lane, s0, s1, s2, s3);
    let h = added_up(lane, s4, s5, s6, s7);
    if lane % 64u == 0u {
        emit(row, col, vec4<i32>(l.x), c);
        emit(row + 1u, col, vec4<i32>(l.y), c);
        emit(row + 2u, col, vec4<i32>(l.z), c);
        emit(row + 3u, col, vec4<i32>(l.w), c);
        emit(row + 4u, col, vec4<i32>(h.x), c);
        emit(row + 5u, col, vec4<i32>(h.y), c);
        emit(row + 6u, col, vec4<i32>(h.z), c);
        emit(row + 7u, col, vec4<i32>(h.w), c);
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups);
    if id >= params.tiles_m * params.tiles_n { return; }
    if FEW { few_rows(id, lane); } else { many_rows(id, lane); }
}
