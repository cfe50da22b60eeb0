// What kernels that restore weights one by one share: one invocation per word of weights; per element, which is two words, for F64.
// The kernel's own file, before this one, has params.total and params.elements, weights, DTYPE, and restored(i), the f32 bits of
// weight i.

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    if DTYPE == F64 {
        let pair = f64_words(restored(id));
        weights[2u * id] = pair.x;
        weights[2u * id + 1u] = pair.y;
        return;
    }
    let per = per_word(DTYPE);
    var word = 0u;
    for (var k = 0u; k < per; k++) {
        let i = id * per + k;
        if i < params.elements { word |= encode(DTYPE, restored(i)) << (k * (32u / per)); }
    }
    weights[id] = word;
}
