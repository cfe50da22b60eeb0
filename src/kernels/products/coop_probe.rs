//! Whether the matrix units of a device can be trusted with integers, and are worth it.

use crate::{
    DType, Result, Tensor,
    gpu::Gpu,
    kernels::products::{
        int8::{Channels, Epilogue, Int8},
        matmul_i8_coop::{KERNEL, matmul_i8_coop, matmul_i8_coop_as},
    },
};
use std::time::Duration;

/// What this looks at matrix units beside: sums by packed dot products, in small or in large tiles.
type Plain<'a> = &'a dyn Fn(&Int8, &Int8, &Channels, bool) -> Result<Tensor>;

/// Whether this device's matrix units multiply integers exactly, and faster than its packed dot products.
pub(crate) fn probe(
    gpu: &Gpu,
    plain: impl Fn(&Int8, &Int8, &Channels, bool) -> Result<Tensor>,
) -> bool {
    gpu.offers(&KERNEL)
        && exact(gpu, &plain).unwrap_or(false)
        && faster(gpu, &plain).unwrap_or(false)
}

/// Side of the product that asks for exactness, and its K: one matrix never moved to integers before its end.
const SIDE: usize = 128;
const K: usize = 1056;

/// Code k of row `row` of the activations or the weights, for sums that reach for 2^24.
///
/// Rows are of four kinds, in turn, and every row of one side meets every row of the other. Up to k = 1040 the signs of a kind
/// are: all positive; random; alternating; positive, then negative. Where two kinds are the same, products add up: to 1040 *
/// 127^2, or to something odd near 1040 * 126^2. Where they differ, sums walk at random, cancel all the time, or climb to 2^23
/// and return. One more column lifts the all-positive sum to 2^24 - 1 exactly.
///
/// Source: what the models of Khattak and Mikaitis 2025, arXiv 2512.07004, fail on first.
fn operand(is_weight: bool, row: usize, k: usize) -> i8 {
    let hash = |x: usize| {
        (x as u32).wrapping_mul(2_654_435_761).rotate_left(15).wrapping_mul(2_246_822_519) >> 16
    };
    let kind = row % 4;
    let magnitude = if kind == 0 { 127 } else { 125 + (hash(row * K + k) % 3) as i8 };
    let positive = match kind {
        0 => true,
        1 => hash(k) % 2 == 0,
        2 => k.is_multiple_of(2),
        _ => k < 520,
    };
    match k {
        ..1040 if positive => magnitude,
        ..1040 => -magnitude,
        1040 if kind == 0 => [47, 65][usize::from(is_weight)],
        _ => 0,
    }
}

fn matrix(gpu: &Gpu, rows: usize, cols: usize, code: impl Fn(usize, usize) -> i8) -> Result<Int8> {
    let codes: Vec<i8> = (0..rows * cols).map(|i| code(i / cols, i % cols)).collect();
    let words = gpu.upload(&codes)?;
    Ok(Int8 { words: Tensor::gpu(DType::U32, rows, cols / 4, words), cols, signed: true })
}

fn no_channels(gpu: &Gpu, n: usize) -> Result<Channels> {
    let rows = vec![[0; 4]; n];
    Ok(Channels::of(&rows, Tensor::gpu(DType::U32, n, 4, gpu.upload(&rows)?)))
}

fn exact(gpu: &Gpu, plain: Plain) -> Result<bool> {
    let a = matrix(gpu, SIDE, K, |row, k| operand(false, row, k))?;
    let w = matrix(gpu, SIDE, K, |row, k| operand(true, row, k))?;
    let channels = no_channels(gpu, SIDE)?;
    let sums = |product: Tensor| gpu.read(product.buffer()?, SIDE * SIDE);
    let expected = plain(&a, &w, &channels, false)?;
    let whole = Some(K / 16);
    let got = matmul_i8_coop_as(gpu, &KERNEL, whole, &a, &w, &channels, Epilogue::Sum)?;
    Ok(sums(got)? == sums(expected)?)
}

fn faster(gpu: &Gpu, plain: Plain) -> Result<bool> {
    let (m, k) = (2048, 1024);
    let code = |row: usize, k: usize| (row * 31 + k * 17) as i8 | 1;
    let (a, w) = (matrix(gpu, m, k, code)?, matrix(gpu, m, k, code)?);
    let channels = no_channels(gpu, m)?;
    let time = |run: &dyn Fn() -> Result<Tensor>| -> Result<Duration> {
        // The first run compiles and wakes the device.
        run()?;
        let mut best = Duration::MAX;
        for _ in 0..3 {
            best = best.min(gpu.timed(run)?.1);
        }
        Ok(best)
    };
    let units = || matmul_i8_coop(gpu, &a, &w, &channels, Epilogue::Sum);
    Ok(time(&units)? < time(&|| plain(&a, &w, &channels, true))?)
}

#[cfg(test)]
mod tests {
    use super::{K, SIDE, operand};

    /// The sum of a row by a row as a unit would add it up: sixteen products at a time, then `round`.
    fn sum(a: usize, w: usize, round: impl Fn(i32) -> i32) -> i32 {
        let product = |k| i32::from(operand(false, a, k)) * i32::from(operand(true, w, k));
        (0..K).step_by(16).fold(0, |sum, k| round(sum + (k..k + 16).map(product).sum::<i32>()))
    }

    #[test]
    fn operands_reach_2_to_the_24_but_never_pass_it() {
        let mut highest = 0;
        for (a, w) in (0..SIDE * SIDE).map(|i| (i / SIDE, i % SIDE)) {
            let mut sum = 0;
            for k in (0..K).step_by(16) {
                let products = (k..k + 16)
                    .map(|k| i32::from(operand(false, a, k)) * i32::from(operand(true, w, k)));
                // Whatever the order within a step, no sum is further out than that of one sign only.
                let up: i32 = products.clone().filter(|p| *p > 0).sum();
                let down: i32 = products.filter(|p| *p < 0).sum();
                highest = highest.max(sum + up).max(-(sum + down));
                sum += up + down;
            }
        }
        assert_eq!(highest, (1 << 24) - 1);
    }

    #[test]
    fn a_unit_that_loses_the_last_bit_is_found_out() {
        let lossy = |limit: i32| move |s: i32| if s.abs() < limit { s } else { s / 2 * 2 };
        for limit in [1 << 22, 1 << 23, (1 << 24) - 1] {
            let wrong = (0..16 * 16)
                .filter(|i| sum(i / 16, i % 16, lossy(limit)) != sum(i / 16, i % 16, |s| s));
            assert!(wrong.count() > 0, "bits lost from {limit} on go unnoticed");
        }
    }
}
