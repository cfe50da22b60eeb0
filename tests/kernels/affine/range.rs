//! The range of groups: worked example, agreement, refusal.

use crate::support::{WEIGHTS, backends, cross_check, edges, matrix, noise};
use tersor::{
    Backend, DType, Error, Result, Tensor,
    kernels::{Groups, range},
};

fn bits(on: &Backend, w: &Tensor, groups: Groups) -> Result<Vec<(u32, u32)>> {
    Ok(range(on, w, groups)?.iter().map(|r| (r.min.to_bits(), r.max.to_bits())).collect())
}

#[test]
fn worked_example() {
    // Signed zeros are ordered, an infinity is seen, a NaN of either sign lies outside everything.
    let values = [0.0, -0.0, 1.5, -2.0, f32::INFINITY, 1.0, f32::NAN, 3.0, -7.0];
    for on in backends() {
        let w = Tensor::from_f32(on, &values, 1).unwrap();
        let got = range(on, &w, Groups::of(2)).unwrap();
        let min: Vec<u32> = got.iter().map(|r| r.min.to_bits()).collect();
        let expected = [-0.0f32, -2.0, 1.0, 3.0, -7.0].map(f32::to_bits);
        assert_eq!(min, expected, "{}", on.name());
        let finite: Vec<bool> = got.iter().map(|r| r.is_finite()).collect();
        assert_eq!(finite, [true, true, false, false, true], "{}", on.name());
        let absmax = [got[0].absmax(), got[1].absmax(), got[4].absmax()];
        assert_eq!(absmax, [0.0, 2.0, 7.0], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for cols in edges(256) {
            for group in [1, 3, cols] {
                for before in [0, group / 2, group - 1] {
                    let values = noise(1, 3 * cols);
                    cross_check((dtype, cols, group, before), |on| {
                        bits(on, &matrix(on, dtype, &values, 3), Groups { size: group, before })
                    });
                }
            }
        }
    }
}

#[test]
fn gpu_agrees_past_65535_workgroups() {
    let values = noise(3, 3_000_000);
    let check = |group| {
        cross_check(group, |on| bits(on, &matrix(on, DType::F32, &values, 1), Groups::of(group)));
    };
    [17, 1 << 20, usize::MAX].into_iter().for_each(check);
}

#[test]
fn long_groups_are_seen_to_their_end() {
    // As many weights as 256 lanes see in the 65,535 iterations after which llvmpipe ends all loops of an invocation, and more.
    let n = 65_536 * 256 + 300;
    let mut words = vec![0x3838_3838; n / 4];
    let last = words.len() - 1;
    for (word, finite) in [(0x7e38_3838, true), (0x7f38_b838, false)] {
        words[last] = word;
        for groups in [Groups::of(n), Groups { size: 3 * n, before: n + 5 }] {
            cross_check((word, groups), |on| {
                let w = Tensor::new(on, DType::F8E4M3, 1, n, words.clone())?;
                let ranges = range(on, &w, groups)?;
                assert_eq!(ranges[0].is_finite(), finite, "{}", on.name());
                bits(on, &w, groups)
            });
        }
    }
}

#[test]
fn every_16_and_8_bit_pattern_is_decoded_alike() {
    let halves: Vec<u32> = (0..32768u32).map(|i| ((2 * i + 1) << 16) | (2 * i)).collect();
    let bytes: Vec<u32> = (0..64u32).map(|i| 0x0302_0100 + i * 0x0404_0404).collect();
    for (dtype, words) in [
        (DType::F16, &halves),
        (DType::BF16, &halves),
        (DType::F8E4M3, &bytes),
        (DType::F8E5M2, &bytes),
    ] {
        let cols = words.len() * 32 / dtype.bits();
        // Payloads of NaN are nobody's business: they only must be seen as not finite.
        let quiet = |bits: u32| if f32::from_bits(bits).is_nan() { 0x7fc0_0000 } else { bits };
        cross_check(dtype, |on| {
            let w = Tensor::new(on, dtype, 1, cols, words.clone())?;
            Ok(bits(on, &w, Groups::of(1))?
                .into_iter()
                .map(|(a, b)| (quiet(a), quiet(b)))
                .collect())
        });
    }
}

#[test]
fn f64_is_rounded_to_the_nearest_f32() {
    let mut values =
        vec![0.0, -0.0, 1e-45, 7e-46, -1e-46, 1e300, f64::NEG_INFINITY, f64::MIN_POSITIVE];
    for x in noise(4, 4000) {
        // Ties between two f32 and their neighbours, at every exponent f32 has and around it.
        let exponent = f64::from_bits((((x.to_bits() as u64 * 77) % 320 + 860) << 52) & !(1 << 63));
        for tail in [0u64, 1 << 28, (1 << 28) + 1, (1 << 28) - 1, 1 << 29] {
            values.push(f64::from_bits((f64::from(x) * exponent).to_bits() & !0x1fff_ffff | tail));
        }
    }
    let words: Vec<u32> =
        values.iter().flat_map(|x| [x.to_bits() as u32, (x.to_bits() >> 32) as u32]).collect();
    for on in backends() {
        let w = Tensor::new(on, DType::F64, 1, values.len(), words.clone()).unwrap();
        let got = bits(on, &w, Groups::of(1)).unwrap();
        for (x, (min, _)) in values.iter().zip(got) {
            assert_eq!(min, (*x as f32).to_bits(), "{x:e} on {}", on.name());
        }
    }
}

#[test]
fn refuses_what_are_no_weights() {
    for on in backends() {
        let w = Tensor::new(on, DType::I32, 1, 2, vec![1, 2]).unwrap();
        assert!(matches!(range(on, &w, Groups::of(1)), Err(Error::Shape { what: "dtype", .. })));
    }
}
