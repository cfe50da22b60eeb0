// Where a workgroup is among all of a kernel's.

// The host starts long work in parts (Gpu::dispatch_long): the number of the first workgroup of this one.
struct FirstWorkgroup { number: u32 }
@group(1) @binding(0) var<uniform> first_workgroup: FirstWorkgroup;

// The number of this workgroup in a dispatch that the host may have folded into three dimensions.
fn workgroup_index(wid: vec3<u32>, groups: vec3<u32>) -> u32 {
    return first_workgroup.number + wid.x + (wid.y + wid.z * groups.y) * groups.x;
}
