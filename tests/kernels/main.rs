//! Every kernel: a worked example on every backend, agreement of the GPU with the reference, refusals. One file a kernel.

#[path = "../support/mod.rs"]
mod support;

mod affine;
mod codes;
mod crosscheck;
mod dispatches;
mod layers;
mod order;
mod palette;
mod products;
mod prune;
mod pyramid;
mod shaders;
mod transforms;
mod vectors;

#[test]
fn the_generator_is_splitmix64() {
    // What splitmix64.c gives from the state 1234567.
    let expected =
        [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert!(support::splitmix64(1_234_567).take(3).eq(expected));
}
