//! Weights from codes of a pyramid: worked example, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, splitmix64};
use tersor::{
    DType, Error, Tensor,
    codec::pyramid::Pyramid,
    kernels::{PyramidCodes, dequantize_pyramid},
};

/// Fields of some bits, one after the other, as words.
fn packed(fields: &[(u128, u32)]) -> Vec<u32> {
    let bits: usize = fields.iter().map(|f| f.1 as usize).sum();
    let mut words = vec![0; bits.div_ceil(32)];
    let mut at = 0;
    for (field, bits) in fields {
        for bit in 0..*bits {
            words[at / 32] |= ((field >> bit & 1) as u32) << (at % 32);
            at += 1;
        }
    }
    words
}

#[test]
fn worked_example() {
    let pyramid = Pyramid::new(4, 3).unwrap();
    let book = PyramidCodes { pyramid, gains: &[0.0, 0.5, 2.0, 7.0] };
    assert_eq!((pyramid.bits(), book.bits()), (7, 9));
    for on in backends() {
        let numbers = [[0, 0, 0, 3], [-1, 0, 2, 0], [0, 1, -1, 1]].map(|v| pyramid.number(&v));
        let row = |g: usize, gain: u128| [(gain, 2), (numbers[g], 7)];
        let words =
            [packed(&[row(0, 1), row(1, 2)].concat()), packed(&[row(2, 3), row(1, 0)].concat())];
        let codes = Tensor::new(on, DType::U32, 2, 1, words.concat()).unwrap();
        let w = dequantize_pyramid(on, &codes, 8, book, DType::F16).unwrap();
        let expected =
            [[0.0, 0.0, 0.0, 1.5, -2.0, 0.0, 4.0, 0.0], [0.0, 7.0, -7.0, 7.0, 0.0, 0.0, 0.0, 0.0]];
        assert_eq!(w.read_f32(on).unwrap(), expected.concat(), "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for (turn, dtype) in WEIGHTS.into_iter().enumerate() {
        for (n, k, gain_bits) in
            [(4, 1, 1), (4, 127, 10), (8, 9, 3), (16, 40, 5), (32, 64, 6), (64, 20, 8)]
        {
            let pyramid = Pyramid::new(n, k).unwrap();
            let gains: Vec<f32> = (0..1 << gain_bits).map(|i| i as f32 / 37.0).collect();
            let book = PyramidCodes { pyramid, gains: &gains };
            for groups in [1, 7, 33] {
                let mut random = splitmix64((n + k + groups + turn) as u64);
                let mut next = || random.next().unwrap();
                // Numbers of vectors, and now and then one of none.
                let mut field = || {
                    let wide = u128::from(next()) << 64 | u128::from(next());
                    let all =
                        if next() % 9 == 0 { 1 << pyramid.bits() } else { pyramid.count(n, k) };
                    [
                        (u128::from(next() % (1 << gain_bits)), gain_bits),
                        (wide % all, pyramid.bits()),
                    ]
                };
                let mut rows = || -> Vec<u32> {
                    packed(&(0..groups).flat_map(|_| field()).collect::<Vec<_>>())
                };
                let (a, b, c) = (rows(), rows(), rows());
                let (width, words) = (a.len(), [a, b, c].concat());
                cross_check((dtype, n, k, groups), |on| {
                    let codes = Tensor::new(on, DType::U32, 3, width, words.clone())?;
                    dequantize_pyramid(on, &codes, groups * n, book, dtype)?.read(on)
                });
            }
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let refused = |n: usize, k, gains: usize, words: usize, cols| {
        let pyramid = Pyramid::new(n, k).unwrap();
        let gains = vec![1.0; gains];
        let book = PyramidCodes { pyramid, gains: &gains };
        let codes = Tensor::new(&CPU, DType::U32, 2, words, vec![0; 2 * words]).unwrap();
        match dequantize_pyramid(&CPU, &codes, cols, book, DType::F32) {
            Err(Error::Shape { kernel: "dequantize_pyramid", what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(4, 3, 4, 1, 10), "cols");
    assert_eq!(refused(3, 3, 4, 1, 9), "cols");
    assert_eq!(refused(4, 3, 3, 1, 8), "gains");
    assert_eq!(refused(4, 3, 1, 1, 8), "gains");
    assert_eq!(refused(4, 3, 2048, 1, 8), "gains");
    assert_eq!(refused(4, 3, 4, 2, 8), "words per row");
}
