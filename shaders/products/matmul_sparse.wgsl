// y[m, n] = activation(sum over k of x[m, k] * w[n, k] + bias[n]), w zero but where the mask has a bit: there it is the next of
// `values`, which are of type DTYPE. The frame is frames/product.wgsl.
// An invocation takes four elements of a mask word: so neighbours read neighbouring survivors.

@group(0) @binding(3) var<storage, read> mask: array<u32>;             // [outputs, words]: element k is bit k % 32 of word k / 32
@group(0) @binding(4) var<storage, read> starts: array<u32>;           // [outputs, words]: survivors before this word
@group(0) @binding(5) var<storage, read> values: array<u32>;           // [entries], of type DTYPE
@group(0) @binding(6) var<storage, read_write> y: array<f32>;          // [rows, outputs]

override DTYPE: u32;

fn value(i: u32) -> f32 {
    if i >= params.entries { return 0.0; }
    let at = word_of(DTYPE, i);
    if DTYPE == F16 { return halves(values[at])[i % 2u]; }
    let next = select(at, at + 1u, DTYPE == F64);
    return bitcast<f32>(decode(DTYPE, values[at], values[next], i));
}

fn weights(n: u32, q: u32) -> vec4<f32> {
    let at = n * params.words + q / 8u;
    let first = q % 8u * 4u;
    let word = mask[at];
    var i = starts[at] + countOneBits(extractBits(word, 0u, first));
    var quad = vec4(0.0);
    for (var j = 0u; j < 4u; j++) {
        if extractBits(word, first + j, 1u) == 1u {
            quad[j] = value(i);
            i++;
        }
    }
    return quad;
}

fn unit(sums: Sums, n: vec4<u32>, u: u32, at: u32) -> Sums {
    return added(sums, quads(n, u), at);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    product(workgroup_index(wid, groups), lane);
}
