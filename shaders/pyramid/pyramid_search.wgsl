// pulses[g] = integers of the signs of codes[g] whose magnitudes add up to K, about in proportion to those of the codes: the floors of
// K |x| / sum |x|, and then one after the other where (sum x y)^2 / sum y^2 becomes largest, the first of equals.
// One invocation per group of 4 * WORDS integers of 8 bits, four to a word.

struct Params { groups: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<u32>;            // [groups, WORDS]
@group(0) @binding(2) var<storage, read_write> pulses: array<u32>;     // [groups, WORDS]

override WG: u32;
override WORDS: u32;       // 1 to 16

// Whether a / b is above c / d: a and c below 2^29, b and d below 2^15.
fn above(a: u32, b: u32, c: u32, d: u32) -> bool {
    let low = (a & 0xffffu) * d;
    let high = (a >> 16u) * d + (low >> 16u);
    let other_low = (c & 0xffffu) * b;
    let other_high = (c >> 16u) * b + (other_low >> 16u);
    return high > other_high || (high == other_high && (low & 0xffffu) > (other_low & 0xffffu));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.groups { return; }
    var sizes: array<u32, 64>;
    var y: array<u32, 64>;
    let n = 4u * WORDS;
    var sum = 0u;
    for (var i = 0u; i < n; i++) {
        let code = extractBits(i32(codes[id * WORDS + i / 4u]), i % 4u * 8u, 8u);
        sizes[i] = u32(abs(code));
        sum += sizes[i];
    }
    var left = params.k;
    var xy = 0u;
    var yy = 0u;
    for (var i = 0u; i < n; i++) {
        y[i] = params.k * sizes[i] / max(sum, 1u);
        left -= y[i];
        xy += sizes[i] * y[i];
        yy += y[i] * y[i];
    }
    for (; left > 0u; left--) {
        var best = 0u;
        var best_square = 0u;
        var best_norm = 1u;
        for (var i = 0u; i < n; i++) {
            let product = xy + sizes[i];
            let norm = yy + 2u * y[i] + 1u;
            if above(product * product, norm, best_square, best_norm) {
                best = i;
                best_square = product * product;
                best_norm = norm;
            }
        }
        xy += sizes[best];
        yy += 2u * y[best] + 1u;
        y[best] += 1u;
    }
    for (var w = 0u; w < WORDS; w++) {
        let code = codes[id * WORDS + w];
        var word = 0u;
        for (var j = 0u; j < 4u; j++) {
            let negative = extractBits(i32(code), j * 8u, 8u) < 0;
            let size = i32(y[4u * w + j]);
            word |= (u32(select(size, -size, negative)) & 255u) << (8u * j);
        }
        pulses[id * WORDS + w] = word;
    }
}
