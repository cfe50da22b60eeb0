//! Products on matrix units. No software device has them: the tests run the kernel with a twin of its matrices, in which every
//! invocation holds eight elements of its subgroup's, and check all the rest. A device that has the units runs the kernel too.

use super::matmul_i8::{Codes, SIGNS, channel, fixed, some_channels};
use crate::support::{CPU, assert_same, gpu};
use std::sync::LazyLock;
use tersor::{
    Backend, Error, Tensor,
    gpu::Kernel,
    kernels::{
        Activation, Channels, Epilogue, MATMUL_I8_COOP, Tile, matmul_i8, matmul_i8_coop,
        matmul_i8_coop_as, matmul_i8_in_tiles, matrix_units,
    },
};

const TWIN: &str = "
var<private> twin: u32;
struct Left { row: u32 }
struct Right { row: u32 }
struct Sums { e: array<f32, 8> }
fn left(row: u32) -> Left { return Left(row); }
fn right(row: u32) -> Right { return Right(row); }
fn coopMultiplyAdd(l: Left, r: Right, c: Sums) -> Sums {
    var d = c;
    for (var i = 0u; i < 8u; i++) {
        let e = twin % 32u + 32u * i;
        let x = PITCH * (l.row + e / 16u);
        let y = PITCH * (r.row + e % 16u);
        d.e[i] += dot(tile_a[x], tile_w[y]) + dot(tile_a[x + 1u], tile_w[y + 1u])
            + dot(tile_a[x + 2u], tile_w[y + 2u]) + dot(tile_a[x + 3u], tile_w[y + 3u]);
    }
    return d;
}
fn spread_out(c: Sums, at: u32) {
    for (var i = 0u; i < 8u; i++) { spread[at + twin % 32u + 32u * i] = c.e[i]; }
}
";

/// The kernel with the twin in the place of its matrices, and f32 in that of f16.
static KERNEL: LazyLock<Kernel> = LazyLock::new(|| {
    let text = MATMUL_I8_COOP.wgsl;
    let (before, rest) = text.split_once("// Matrices of a subgroup.").unwrap();
    let (_, after) = rest.split_once("// End of the matrices.").unwrap();
    let before = before.replace("enable f16;", "").replace("enable wgpu_cooperative_matrix;", "");
    let after = after.replace("let id =", "twin = lane;\n    let id =");
    let wgsl = format!("{before}{TWIN}{after}").replace("f16", "f32").leak();
    Kernel { name: "matmul_i8_coop twin", wgsl, ..MATMUL_I8_COOP }
});

/// Runs the twin, moving sums to integers after `window` steps, and the kernel where there are units; compares with the CPU.
/// The epilogue is given a scale and a zero point for each row.
fn check(
    window: impl Into<Option<usize>>,
    a: &Codes,
    w: &Codes,
    table: &[[u32; 4]],
    epilogue: impl for<'a> Fn(&'a Tensor) -> Epilogue<'a>,
) {
    let window = window.into();
    let inputs = |on: &Backend| {
        let row = |r: usize| [[0.5, 1.0, 2.0][r % 3], (r % 7) as f32];
        let scales: Vec<f32> = (0..a.rows).flat_map(row).collect();
        let scales = Tensor::from_f32(on, &scales, a.rows).unwrap();
        (a.on(on), w.on(on), Channels::new(on, table).unwrap(), scales)
    };
    let (x, y, channels, scales) = inputs(&CPU);
    let expected = matmul_i8(&CPU, &x, &y, &channels, epilogue(&scales)).unwrap();
    let expected = expected.read(&CPU).unwrap();
    let Some(on @ Backend::Gpu(device)) = gpu() else { return };
    let (x, y, channels, scales) = inputs(on);
    let compare = |kernel: &'static Kernel| {
        let epilogue = epilogue(&scales);
        let got = matmul_i8_coop_as(device, kernel, window, &x, &y, &channels, epilogue).unwrap();
        let case = (kernel.name, a.rows, w.rows, a.cols, a.signed, w.signed, window);
        assert_same(&case, &expected, &got.read(on).unwrap());
    };
    compare(&KERNEL);
    if matrix_units(device) {
        compare(&MATMUL_I8_COOP);
    }
}

#[test]
fn the_kernel_around_the_units_agrees_with_the_reference() {
    // Both sides of matrices, tiles and windows: a step, two, and more than there are.
    for (a_signed, w_signed) in SIGNS {
        for zero_points in [false, true] {
            for (m, n, k, window) in [(1, 1, 16, 1), (17, 15, 61, 2), (129, 130, 48, 1000)] {
                let (a, w) = (Codes::random(1, m, k, a_signed), Codes::random(2, n, k, w_signed));
                let table = some_channels(n, zero_points, w_signed);
                check(window, &a, &w, &table, |_| Epilogue::Sum);
            }
        }
    }
    let (a, w) = (Codes::random(3, 127, 160, true), Codes::random(4, 257, 160, true));
    check(3, &a, &w, &some_channels(257, false, true), |_| Epilogue::Sum);
}

#[test]
fn every_epilogue_comes_after_the_last_window() {
    // Powers of two and small sums: floats are exact.
    let (a, w) = (Codes::random(5, 20, 64, true), Codes::random(6, 35, 64, true));
    let table: Vec<_> = (0..35).map(|i| channel(i, 0, 0.5, -20.0)).collect();
    let fixed: Vec<_> = (0..35).map(|i| fixed(3 * i, 1.0 / (500.0 + f64::from(i)))).collect();
    for window in [1, 2, 4] {
        for activation in [Activation::None, Activation::Relu] {
            check(window, &a, &w, &table, |rows| Epilogue::Float { rows: Some(rows), activation });
            check(window, &a, &w, &table, |_| Epilogue::Float { rows: None, activation });
        }
        let epilogue = Epilogue::Requantize { zero_point: 3, lowest: 3, highest: 127 };
        check(window, &a, &w, &fixed, |_| epilogue);
    }
}

#[test]
fn panels_of_tiles_cover_every_output() {
    // Nine tiles by two: a whole panel of eight and the rest of one.
    let (a, w) = (Codes::random(7, 9 * 128 - 3, 16, true), Codes::random(8, 140, 16, true));
    check(1, &a, &w, &some_channels(140, false, true), |_| Epilogue::Sum);
}

#[test]
fn sums_move_to_integers_before_2_to_the_24() {
    // The largest codes of one sign, made odd here and there: f32 would lose bits of their sums by the second window.
    for (a_signed, w_signed) in SIGNS {
        for zero_points in [false, true] {
            let k = 2112;
            let largest = |signed| if signed { 127 } else { 255 };
            let a = Codes::new(&vec![if a_signed { -128 } else { 255 }; k], 1, a_signed);
            let w = (0..k as i32).map(|i| largest(w_signed) - i % 3).collect::<Vec<_>>();
            let w = Codes::new(&w, 1, w_signed);
            let zero = if zero_points && w_signed { -128 } else { i32::from(zero_points) };
            check(None, &a, &w, &[channel(1, zero, 1.0, 0.0)], |_| Epilogue::Sum);
        }
    }
}

#[test]
fn matrix_units_agree_at_full_length() {
    let Some(on @ Backend::Gpu(device)) = gpu() else { return };
    if !matrix_units(device) {
        eprintln!("SKIPPED: {} has no matrix units, or they lost the probe", on.name());
        return;
    }
    for (a_signed, w_signed) in SIGNS {
        let (a, w) = (Codes::random(1, 500, 5000, a_signed), Codes::random(2, 300, 5000, w_signed));
        let table = some_channels(300, false, w_signed);
        let (a, w, channels) = (a.on(on), w.on(on), Channels::new(on, &table).unwrap());
        let plain = matmul_i8_in_tiles(device, &a, &w, &channels, Epilogue::Sum, Tile::Large);
        let units = matmul_i8_coop(device, &a, &w, &channels, Epilogue::Sum).unwrap();
        let (plain, units) = (plain.unwrap().read(on).unwrap(), units.read(on).unwrap());
        assert_same(&(a_signed, w_signed), &plain, &units);
    }
}

#[test]
fn refuses_rows_of_no_whole_steps_and_devices_without_units() {
    let Some(on @ Backend::Gpu(device)) = gpu() else { return };
    let run = |k| {
        let (a, w) = (Codes::random(1, 2, k, true).on(on), Codes::random(2, 3, k, true).on(on));
        let channels = Channels::new(on, &some_channels(3, false, true)).unwrap();
        matmul_i8_coop(device, &a, &w, &channels, Epilogue::Sum)
    };
    for k in [0, 12, 65] {
        assert!(matches!(run(k), Err(Error::Shape { what: "words of a", .. })));
    }
    if !matrix_units(device) && device.adapter().software {
        assert!(matches!(run(16), Err(Error::Gpu { .. })));
        assert!(!device.is_lost());
    }
}
