//! Points of a pyramid for groups of codes: worked example, agreement with fractions, refusal.

use crate::support::{CPU, backends, cross_check, splitmix64};
use tersor::{DType, Error, Tensor, kernels::pyramid_search};

#[test]
fn worked_example() {
    for on in backends() {
        // Two groups of four, -7 and 3 and 0 and 2, and zeros.
        let codes = Tensor::new(on, DType::U32, 1, 2, vec![0x02_00_03_f9, 0]).unwrap();
        let pulses = pyramid_search(on, &codes, 4, 5).unwrap().read(on).unwrap();
        // Floors of 35, 15, 0 and 10 twelfths are 2, 1, 0, 0. Then the first, (7 3 + 3)^2 / 10, and the last,
        // (7 3 + 3 + 2)^2 / 11, are better than all others.
        assert_eq!(pulses, [0x01_00_01_fd, 0x00_00_00_05], "{}", on.name());
    }
}

/// What the formula says, in f64 where it is exact, one group.
fn plainly(x: &[i8], k: u32) -> Vec<i8> {
    let sizes: Vec<u32> = x.iter().map(|x| u32::from(x.unsigned_abs())).collect();
    let sum = sizes.iter().sum::<u32>().max(1);
    let mut y: Vec<u32> = sizes.iter().map(|x| k * x / sum).collect();
    while y.iter().sum::<u32>() < k {
        let value = |i: usize| {
            let mut more = y.clone();
            more[i] += 1;
            let product: u32 = more.iter().zip(&sizes).map(|(y, x)| y * x).sum();
            let norm: u32 = more.iter().map(|y| y * y).sum();
            (u128::from(product).pow(2), u128::from(norm))
        };
        let mut best = 0;
        for i in 1..x.len() {
            let ((a, b), (c, d)) = (value(i), value(best));
            if a * d > c * b {
                best = i;
            }
        }
        y[best] += 1;
    }
    y.iter().zip(x).map(|(y, x)| if *x < 0 { -(*y as i8) } else { *y as i8 }).collect()
}

#[test]
fn agrees_with_the_formula() {
    for n in [4, 8, 12, 32, 64] {
        for k in [1, 2, 9, 40, 127] {
            for reach in [1, 9, 127] {
                let groups = 70;
                let number = |z: u64| (z % (2 * reach + 1)) as i64 - reach as i64;
                let codes: Vec<i8> = splitmix64(n as u64 * 1000 + k + reach)
                    .map(|z| number(z) as i8)
                    .take(groups * n)
                    .collect();
                let words: Vec<u32> = bytemuck::pod_collect_to_vec(&codes);
                let found = cross_check((n, k, reach), |on| {
                    let codes = Tensor::new(on, DType::U32, 2, words.len() / 2, words.clone())?;
                    pyramid_search(on, &codes, n, k as usize)?.read(on)
                });
                let found: &[i8] = bytemuck::cast_slice(&found);
                for (x, y) in codes.chunks_exact(n).zip(found.chunks_exact(n)) {
                    assert_eq!(y, plainly(x, k as u32), "{n} {k}: {x:?}");
                    let sum: u32 = y.iter().map(|y| u32::from(y.unsigned_abs())).sum();
                    assert_eq!(u64::from(sum), k);
                }
            }
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let codes = Tensor::new(&CPU, DType::U32, 2, 3, vec![0; 6]).unwrap();
    for (n, k, expected) in [
        (3, 4, "n"),
        (68, 4, "n"),
        (0, 4, "n"),
        (4, 0, "k"),
        (4, 128, "k"),
        (8, 4, "words per row"),
    ] {
        match pyramid_search(&CPU, &codes, n, k).unwrap_err() {
            Error::Shape { kernel: "pyramid_search", what, .. } => assert_eq!(what, expected),
            other => panic!("{other}"),
        }
    }
}
