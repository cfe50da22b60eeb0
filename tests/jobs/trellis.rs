//! Paths through trellises in jobs: what they take and what error they have, the same bytes everywhere, and what is odd.

use super::{
    pipeline::{contents, run},
    quantizers::{gaussian, matrix, same_everywhere},
};
use crate::support::{CPU, WEIGHTS, options, words_of, write_checkpoint};
use tersor::{
    DType,
    pipeline::{Options, compress, decompress},
    recipe::Recipe,
};

fn recipe(quantize: &str, more: &str) -> Recipe {
    let text = format!(
        "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = {{ kind = \"{quantize} }}\n{more}\nencode = \"rans\"\n"
    );
    Recipe::parse(&text).unwrap()
}

#[test]
fn bits_are_met_and_a_fifth_of_the_error_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let input = matrix(dir.path(), [512, 1024], &gaussian(3, 512 * 1024));
    let of = |quantize: &str, more: &str| {
        let report = run(&input, &dir.path().join("out"), &recipe(quantize, more), &CPU);
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        let t = &report.tensors[0];
        // What is stored of it in the data section, its part of the header not.
        (
            t.components.iter().filter(|c| c.name != "header").map(|c| c.bytes).sum::<u64>() as f64
                * 8.0
                / (512.0 * 1024.0),
            t.error.mse.unwrap(),
        )
    };
    // Of half a million weights tables and ends of blocks take a larger share than of many.
    for (bits, most) in [(1.0, 0.284), (2.0, 0.0706), (3.0, 0.0177), (4.0, 0.00445)] {
        let (taken, error) = of(&format!("trellis\", bits = {bits}"), "");
        assert!((0.997 * bits..=1.0006 * bits).contains(&taken), "{bits}: {taken}");
        assert!(error < most, "{bits}: {error}");
        // At no more bytes.
        let (scalar, other) = of(&format!("entropy\", bits = {}", taken - 0.01), "");
        assert!(scalar <= taken && error < 0.83 * other, "{bits}: {error}, {other} in {scalar}");
    }
    let (_, eight) = of("trellis\", bits = 2.5", "");
    let (_, many) = of("trellis\", bits = 2.5, states = 64", "");
    let (_, four) = of("trellis\", bits = 2.5, states = 4", "");
    assert!(many < 0.97 * eight && eight < 0.99 * four, "{four} {eight} {many}");
    // Of the survivors.
    let (taken, error) = of("trellis\", bits = 3", "prune = { kind = \"n:m\", n = 2, m = 4 }");
    assert!(taken < 0.5 * 3.0 + 1.02 && error > 0.0, "{taken}");
}

#[test]
fn an_error_is_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    for (scale, dtype) in [(1.0, DType::F32), (1e-20, DType::F32), (0.02, DType::BF16)] {
        let values: Vec<f32> = gaussian(4, 256 * 256).iter().map(|x| x * scale).collect();
        let input = dir.path().join("in.safetensors");
        write_checkpoint(&input, &[("w", dtype, vec![256, 256], words_of(dtype, &values))]);
        for limit in [0.02, 0.1, 0.5] {
            let quantize = format!("trellis\", max_error = {limit}, states = 16");
            let report = run(&input, &dir.path().join("out"), &recipe(&quantize, ""), &CPU);
            let error = report.tensors[0].error.rel_error.unwrap();
            assert!((0.96 * limit..=limit).contains(&error), "{dtype:?} {limit}: {error}");
        }
    }
}

#[test]
fn the_same_bytes_from_every_backend() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.safetensors");
    let tensors: Vec<_> = WEIGHTS
        .iter()
        .enumerate()
        .map(|(i, dtype)| {
            // The last blocks have one lane, eight and 32.
            let shape = [[96, 240], [33, 480], [7, 100], [300, 220]][i % 4];
            let values = gaussian(i as u64, shape[0] * shape[1]);
            (format!("w{i}"), *dtype, shape.to_vec(), words_of(*dtype, &values))
        })
        .collect();
    let borrowed: Vec<_> =
        tensors.iter().map(|(n, d, s, w)| (&**n, *d, s.clone(), w.clone())).collect();
    write_checkpoint(&input, &borrowed);
    for (quantize, more) in [
        ("trellis\", bits = 5.5", ""),
        ("trellis\", max_error = 0.2, states = 64", "axis = 1"),
        (
            "trellis\", max_error = 0.1, states = 4",
            "prune = { kind = \"magnitude\", density = 0.4 }",
        ),
        ("trellis\", max_error = 0.3, states = 16", "transform = { kind = \"dct\", block = 8 }"),
    ] {
        if more.starts_with("transform") {
            write_checkpoint(&input, &borrowed[..2]);
        }
        let of = (&recipe(quantize, more), quantize);
        let unfit = |reason: &str| reason.contains("beyond the device");
        let report = same_everywhere((&input, dir.path()), of, unfit);
        assert!(report.tensors.iter().any(|t| t.form.kind == "trellis"), "{quantize}");
    }
}

#[test]
fn what_is_constant_or_of_few_values_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    for values in [&[0.0][..], &[0.25], &[-1.5, 0.0, 1.5], &[1e30, -1e30, 3.0]] {
        let weights: Vec<f32> = (0..64 * 64).map(|i| values[i * 7 % 11 % values.len()]).collect();
        let input = matrix(dir.path(), [64, 64], &weights);
        let (output, back) = (dir.path().join("out"), dir.path().join("back"));
        run(&input, &output, &recipe("trellis\", bits = 3", ""), &CPU);
        decompress(&output, &back, &options(&CPU)).unwrap();
        let restored: Vec<f32> = bytemuck::pod_collect_to_vec(&contents(&back)["w"].2);
        let largest = values.iter().fold(0f32, |a, v| a.max(v.abs()));
        let far = weights.iter().zip(&restored).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far <= 5e-3 * largest, "{values:?}: {far}");
    }
}

#[test]
fn bits_that_tables_leave_too_few_of_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let input = matrix(dir.path(), [10, 10], &gaussian(1, 100));
    let recipe = recipe("trellis\", bits = 0.5", "");
    let error = compress(&input, &dir.path().join("out"), &recipe, &options(&CPU)).unwrap_err();
    let error = error.to_string();
    let expected = "recipe: tensor \"w\": bits is 0.5, fewer than its tables and paths take; ";
    assert!(error.starts_with(expected), "{error}");
}

/// A few columns count a hundred times as much: at the same bytes what their errors count is less, pruned or not, and the same
/// everywhere. Importance that says nothing changes nothing.
#[test]
fn what_is_important_is_off_by_less() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, cols) = (256, 512);
    let values = gaussian(8, rows * cols);
    let input = matrix(dir.path(), [rows, cols], &values);
    let path = dir.path().join("importance.safetensors");
    let importance: Vec<f32> = (0..cols).map(|c| if c % 16 == 3 { 100.0 } else { 1.0 }).collect();
    let weigh = |importance: &[f32]| {
        let words = words_of(DType::F32, importance);
        write_checkpoint(&path, &[("w", DType::F32, vec![cols], words)]);
    };
    weigh(&importance);
    let key = format!("importance = {:?}\n", path.to_str().unwrap());
    let prune = "prune = { kind = \"n:m\", n = 3, m = 4 }\n";
    let counted = |more: &str| {
        let of = (&recipe("trellis\", bits = 2.5", more), more);
        let report = same_everywhere((&input, dir.path()), of, |r| r.contains("beyond the device"));
        let restored: Vec<f32> =
            bytemuck::pod_collect_to_vec(&contents(&dir.path().join("back"))["w"].2);
        let squares = (0..rows * cols).map(|i| {
            let off = f64::from(values[i] - restored[i]);
            // What is pruned is off by all of it, whatever is known.
            if restored[i] == 0.0 { 0.0 } else { f64::from(importance[i % cols]) * off * off }
        });
        (report.output_bytes, squares.sum::<f64>(), std::fs::read(dir.path().join("out")).unwrap())
    };
    for more in ["", prune] {
        let (plain, weighed) = (counted(more), counted(&format!("{more}{key}")));
        assert!(weighed.0.abs_diff(plain.0) < plain.0 / 250, "{} {}", weighed.0, plain.0);
        assert!(weighed.1 < 0.5 * plain.1, "{more}: {} beside {}", weighed.1, plain.1);
    }
    let plain = counted("").2;
    for nothing in [0.0, 7.0] {
        weigh(&vec![nothing; cols]);
        let same = counted(&key).2;
        // What counts the same everywhere is in one class: the same paths.
        assert!(same == plain, "{nothing}");
    }
}

/// Weights of which a part is much larger than the others: more bits have no more error, up to three less than palettes by entropy at as many
/// bits, and an error that is asked for is kept to, or refused.
#[test]
fn heavy_tails_have_less_error_with_more_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, cols) = (256, 512);
    let normal = gaussian(11, rows * cols);
    let divisor = gaussian(12, 2 * rows * cols);
    let of =
        |scale: &dyn Fn(usize) -> f32| (0..rows * cols).map(|i| normal[i] * scale(i)).collect();
    let cases: [(&str, Vec<f32>); 6] = [
        ("rows x 10", of(&|i| if i / cols % 10 == 0 { 10.0 } else { 1.0 })),
        ("rows x 30", of(&|i| if i / cols % 10 == 0 { 30.0 } else { 1.0 })),
        ("rows x 300", of(&|i| if i / cols % 10 == 0 { 300.0 } else { 1.0 })),
        ("a column x 60", of(&|i| if i % cols == 7 { 60.0 } else { 1.0 })),
        ("one weight x 10000", of(&|i| if i == 777 { 1e4 } else { 1.0 })),
        // Student's of two degrees.
        (
            "student",
            of(&|i| 1.0 / (0.5 * (divisor[2 * i].powi(2) + divisor[2 * i + 1].powi(2))).sqrt()),
        ),
    ];
    for (name, values) in cases {
        let input = matrix(dir.path(), [rows, cols], &values);
        let made = |quantize: &str| {
            let report = run(&input, &dir.path().join("out"), &recipe(quantize, ""), &CPU);
            let stored = report.tensors[0].components.iter().filter(|c| c.name != "header");
            let bits = 8.0 * stored.map(|c| c.bytes).sum::<u64>() as f64 / (rows * cols) as f64;
            (bits, report.tensors[0].error.rel_error.unwrap())
        };
        let mut last = f64::MAX;
        for bits in [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0] {
            let (taken, error) = made(&format!("trellis\", bits = {bits}"));
            assert!(taken <= 1.0006 * bits, "{name} {bits}: {taken}");
            assert!(error <= 1.1 * last, "{name} {bits}: {error} after {last}");
            last = error;
            if bits <= 3.0 {
                let (_, of_entropy) = made(&format!("entropy\", bits = {}", taken - 0.01));
                assert!(
                    error < of_entropy,
                    "{name} {bits}: {error}, {of_entropy} by entropy at {taken}"
                );
            }
        }
        for limit in [0.5, 0.1, 0.03] {
            let recipe = recipe(&format!("trellis\", max_error = {limit}"), "");
            let made = compress(
                &input,
                &dir.path().join("limited"),
                &recipe,
                &Options { force: true, ..options(&CPU) },
            );
            match made {
                Ok(report) => {
                    let error = report.tensors[0].error.rel_error.unwrap();
                    assert!(error <= limit, "{name} {limit}: {error}");
                }
                Err(e) => {
                    let said = e.to_string();
                    assert!(
                        limit < 0.2 && said.contains("256 levels do not reach"),
                        "{name} {limit}: {said}"
                    );
                }
            }
        }
    }
}
