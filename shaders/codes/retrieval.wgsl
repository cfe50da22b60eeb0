// What the queries of retrieval structures share: values of 32 neighbouring positions per invocation, and their word of the mask.
// The shader before it declares `params` with `positions` and `total`, the outputs `mask` and `values`, the overrides WG and R, and
// `result_of`: a position's result, or NONE.

const NONE = 0xffffu;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let end = min(32u * id + 32u, params.positions);
    var kept = 0u;
    var word = 0u;
    for (var position = 32u * id; position < end; position++) {
        let result = result_of(position);
        if result < (1u << R) {
            kept |= 1u << (position & 31u);
            word |= result << (8u * (position & 3u));
        }
        if (position & 3u) == 3u || position + 1u == end {
            values[position >> 2u] = word;
            word = 0u;
        }
    }
    mask[id] = kept;
}
