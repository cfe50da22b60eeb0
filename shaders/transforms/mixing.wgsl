// Shared by transform and untransform: the blocks of 256 numbers that a workgroup has in its memory.
// Reference: src/kernels/transforms/mixing.rs.
const SPAN = 256u;

override HADAMARD: bool;

var<workgroup> integers: array<i32, SPAN>;
var<workgroup> exponents: array<atomic<u32>, 32>;

// Before any number is seen: called by a whole workgroup. That its memory begins as zeros is not relied on.
fn begin(lane: u32, width: u32) {
    for (var b = lane; b < 32u; b += width) { atomicStore(&exponents[b], 1u); }
    workgroupBarrier();
}

// Takes note of number c: a block has the exponent of its largest.
fn see(c: u32, block: u32, bits: u32) {
    atomicMax(&exponents[c / block], (bits >> 23u) & 255u);
}

fn exponent_of(c: u32, block: u32) -> u32 {
    return atomicLoad(&exponents[c / block]);
}

// Sums and differences of all pairs, gap by gap, of a Hadamard transform: called by a whole workgroup, once its integers are there.
fn sum_up(lane: u32, width: u32, block: u32) {
    for (var gap = 1u; gap < select(1u, block, HADAMARD); gap *= 2u) {
        workgroupBarrier();
        for (var t = lane; t < SPAN / 2u; t += width) {
            let i = 2u * gap * (t / gap) + t % gap;
            let a = integers[i];
            let b = integers[i + gap];
            integers[i] = a + b;
            integers[i + gap] = a - b;
        }
    }
    workgroupBarrier();
}

// A sum of products with a row of a cosine matrix, in two halves: of the integers' upper and lower 11 bits.
fn halves_to_whole(high: i32, low: i32) -> i32 {
    return (high + ((low + 0x8000) >> 11u)) >> 5u;
}
