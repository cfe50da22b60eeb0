// Pure helpers only: no bindings, no entry points, no globals.

// The number of this workgroup in a dispatch that the host may have folded into three dimensions (Gpu::dispatch).
fn workgroup_index(wid: vec3<u32>, groups: vec3<u32>) -> u32 {
    return wid.x + (wid.y + wid.z * groups.y) * groups.x;
}
