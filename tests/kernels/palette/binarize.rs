//! Signs and mean magnitudes: worked example, against f64, agreement, refusal.

use crate::support::{
    CPU, WEIGHTS, assert_same, assert_within, backends, cross_check, edges, matrix, noise,
    tiny_gpu, words_of,
};
use tersor::{
    Backend, DType, Error, Result, Tensor,
    kernels::{BinaryMatrix, binarize},
};

/// Bits, then the bits of the scales.
fn read(on: &Backend, matrix: &BinaryMatrix) -> Result<Vec<u32>> {
    let mut words = matrix.bits.read(on)?;
    words.extend(matrix.scales.read(on)?);
    Ok(words)
}

#[test]
fn worked_example() {
    // -0 is not negative, the least negative number is; halves round to even: 0.5 of 32767 to 0, 1.5 to 2. By hand.
    let weights = [-0.0, -f32::MIN_POSITIVE, 2.0, -32767.0, 0.5, -1.5, 3.0, 32767.0];
    for on in backends() {
        let w = Tensor::from_f32(on, &weights, 2).unwrap();
        let binary = binarize(on, &w).unwrap();
        assert_eq!(binary.bits.read(on).unwrap(), [0b1010, 0b0010], "{}", on.name());
        let scales = binary.scales.read_f32(on).unwrap();
        assert_eq!(scales, [32769.0 / 4.0, 32772.0 / 4.0], "{}", on.name());
        assert_eq!((binary.bits.cols(), binary.scales.cols(), binary.cols), (1, 1, 4));
        // A single element is its sign and its magnitude; a row of zeros, or of next to nothing, has no magnitude.
        for (weight, expected) in [(-0.3, [1, 0.3f32.to_bits()]), (0.0, [0, 0]), (-1e-34, [1, 0])] {
            let binary = binarize(on, &Tensor::from_f32(on, &[weight], 1).unwrap()).unwrap();
            assert_eq!(read(on, &binary).unwrap(), expected, "{weight}, {}", on.name());
        }
    }
}

#[test]
fn the_next_row_starts_a_word_of_its_own() {
    let weights: Vec<f32> = (0..66).map(|i| if i % 33 == 32 { -1.0 } else { 1.0 }).collect();
    for on in backends() {
        let binary = binarize(on, &Tensor::from_f32(on, &weights, 2).unwrap()).unwrap();
        assert_eq!(binary.bits.read(on).unwrap(), [0, 1, 0, 1], "{}", on.name());
    }
}

#[test]
fn scales_are_mean_magnitudes() {
    for cols in edges(32) {
        let values: Vec<f32> = noise(1, 5 * cols)
            .iter()
            .enumerate()
            .map(|(i, v)| v * [1.0, 1e-30, 1e30, 3e-5, 700.0][i / cols])
            .collect();
        let rows = || values.chunks(cols).map(|row| row.iter().map(|v| f64::from(v.abs())));
        let means: Vec<f64> = rows().map(|row| row.sum::<f64>() / cols as f64).collect();
        let largest: Vec<f64> = rows().map(|row| row.fold(0.0, f64::max)).collect();
        for on in backends() {
            let binary = binarize(on, &Tensor::from_f32(on, &values, 5).unwrap()).unwrap();
            // Half a step of absmax / 32767 for every weight, and the roundings of the inverse and of the scale.
            let bound = |row: usize| largest[row] / 65_534.0 + 2.0 * means[row] / (1 << 24) as f64;
            let scales = binary.scales.read_f32(on).unwrap();
            assert_within(&(cols, on.name()), &means, bound, &scales);
        }
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for cols in [edges(32), edges(256)].concat() {
            let values = noise(2, 3 * cols);
            cross_check((dtype, cols), |on| {
                read(on, &binarize(on, &matrix(on, dtype, &values, 3))?)
            });
        }
    }
}

#[test]
fn magnitudes_are_added_in_pieces_too() {
    // Longer than one sum takes, so that its last piece is short.
    let values = noise(3, 2 * 70_000);
    let mean = |row: &[f32]| row.iter().map(|v| f64::from(v.abs())).sum::<f64>() / 70_000.0;
    let means: Vec<f64> = values.chunks(70_000).map(mean).collect();
    for on in backends() {
        let binary = binarize(on, &Tensor::from_f32(on, &values, 2).unwrap()).unwrap();
        let scales = binary.scales.read_f32(on).unwrap();
        assert_within(&on.name(), &means, |_| 1.0 / 65_534.0, &scales);
    }
    cross_check("long rows", |on| read(on, &binarize(on, &Tensor::from_f32(on, &values, 2)?)?));
}

#[test]
fn dispatches_may_be_folded() {
    // 7 workgroups per dimension; a word, and so eight invocations, for every row of a single weight.
    let values = noise(4, 333);
    let run = |on| {
        let w = Tensor::from_f32(on, &values, values.len()).unwrap();
        read(on, &binarize(on, &w).unwrap()).unwrap()
    };
    if let Some(tiny) = tiny_gpu() {
        assert_same(&"folded dispatch", &run(&CPU), &run(tiny));
    }
}

#[test]
fn nothing_gives_nothing() {
    for on in backends() {
        for (rows, cols) in [(0, 5), (3, 0), (0, 0)] {
            let w = Tensor::new(on, DType::F32, rows, cols, vec![]).unwrap();
            let binary = binarize(on, &w).unwrap();
            assert_eq!((binary.bits.rows(), binary.cols), (rows, cols));
            assert_eq!(read(on, &binary).unwrap(), vec![0; rows], "{}", on.name());
        }
    }
}

#[test]
fn refuses_what_is_not_finite_or_no_weight() {
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for on in backends() {
            let w = Tensor::from_f32(on, &[1.0, 2.0, 3.0, bad], 2).unwrap();
            let error = binarize(on, &w).unwrap_err();
            assert!(matches!(error, Error::Shape { what: "weights", .. }), "{bad}: {error}");
        }
    }
    // Beyond f32.
    let w = Tensor::new(&CPU, DType::F64, 1, 1, vec![0, 0x7fe0_0000]).unwrap();
    assert!(matches!(binarize(&CPU, &w), Err(Error::Shape { what: "weights", .. })));
    let w = Tensor::new(&CPU, DType::I32, 1, 1, words_of(DType::F32, &[1.0])).unwrap();
    assert!(matches!(binarize(&CPU, &w), Err(Error::Shape { what: "dtype", .. })));
}
