//! Long work is started in parts, and the parts make the whole.

use crate::support::{CPU, gpu, noise};
use tersor::{
    Backend, DType, Result, Tensor,
    kernels::{Channels, Epilogue, Int8, matmul_i8, sort_rows},
};

const SIDE: usize = 640;

fn product(on: &Backend) -> Result<Vec<u32>> {
    let codes = |seed: u32| -> Result<Int8> {
        let words = (0..SIDE * SIDE / 4).map(|i| (i as u32 ^ seed).wrapping_mul(2_654_435_761));
        let words = Tensor::new(on, DType::U32, SIDE, SIDE / 4, words.collect())?;
        Ok(Int8 { words, cols: SIDE, signed: true })
    };
    let channels = Channels::new(on, &vec![[0; 4]; SIDE])?;
    matmul_i8(on, &codes(1)?, &codes(2)?, &channels, Epilogue::Sum)?.read(on)
}

fn sorted(on: &Backend) -> Result<Vec<u32>> {
    let weights = noise(3, 100 * 5000);
    sort_rows(on, &Tensor::from_f32(on, &weights, 100)?)?.read(on)
}

#[test]
fn long_work_is_started_in_parts_that_make_the_whole() {
    let Some(on @ Backend::Gpu(gpu)) = gpu() else { return };
    for (name, kernel, job) in [
        ("product", "matmul_i8", product as fn(&Backend) -> Result<Vec<u32>>),
        ("sorted", "sort_rows", sorted),
    ] {
        let expected = job(&CPU).unwrap();
        let (got, dispatches) = gpu.dispatches(|| job(on)).unwrap();
        assert!(got == expected, "{name}: parts make something else");
        let parts: Vec<_> = dispatches.iter().filter(|d| d.0 == kernel).collect();
        println!("{name}: {parts:?}");
        assert!(parts.len() > 1, "{name}: {parts:?}");
        // Now that its speed is known, as well.
        assert!(job(on).unwrap() == expected, "{name}: other parts make something else");
    }
}
