//! Windows as rows: worked examples, a convolution, agreement, refusal.

use crate::support::{CPU, backends, cross_check, noise, tiny_gpu};
use tersor::{
    Backend, DType, Error, Result, Tensor,
    kernels::{Image, Window, im2col},
};

fn image(count: usize, height: usize, width: usize, channels: usize) -> Image {
    Image { count, height, width, channels }
}

fn window(height: usize, width: usize, stride: usize, padding: usize) -> Window {
    Window { height, width, stride, padding }
}

/// Codes as a matrix, each row from a fresh word.
fn codes(on: &Backend, codes: &[u8], cols: usize) -> Tensor {
    let words = |row: &[u8]| -> Vec<u32> {
        row.chunks(4).map(|c| c.iter().rev().fold(0, |w, c| w << 8 | u32::from(*c))).collect()
    };
    let data: Vec<u32> = codes.chunks(cols).flat_map(words).collect();
    Tensor::new(on, DType::U32, codes.len() / cols, cols.div_ceil(4), data).unwrap()
}

fn read_codes(on: &Backend, t: &Tensor, cols: usize) -> Vec<u8> {
    let words = t.read(on).unwrap();
    let rows = words.chunks(t.cols()).map(|row| row.iter().flat_map(|w| w.to_le_bytes()));
    rows.flat_map(|row| row.take(cols).collect::<Vec<_>>()).collect()
}

#[test]
fn worked_example() {
    // Pixel (y, x) of channel c is 10 (3 y + x) + c. Two places of a square; all of its first channel come first.
    let values = [0, 1, 10, 11, 20, 21, 30, 31, 40, 41, 50, 51];
    let expected = [0, 10, 30, 40, 1, 11, 31, 41, 10, 20, 40, 50, 11, 21, 41, 51];
    let (images, square) = (image(1, 2, 3, 2), window(2, 2, 1, 0));
    for on in backends() {
        let x = Tensor::from_f32(on, &values.map(f32::from), 6).unwrap();
        let columns = im2col(on, &x, images, square, 0).unwrap();
        assert_eq!(columns.read_f32(on).unwrap(), expected.map(f32::from), "{}", on.name());
        assert_eq!((columns.rows(), columns.cols()), (2, 8));
        let x = codes(on, &values, 2);
        let columns = im2col(on, &x, images, square, 0).unwrap();
        assert_eq!(read_codes(on, &columns, 8), expected, "{}", on.name());
        assert_eq!((columns.rows(), columns.cols()), (2, 2));

        // A single pixel that a padded square passes over. The row of 4 codes is a word.
        let corners = window(2, 2, 1, 1);
        let columns = im2col(on, &codes(on, &[5], 1), image(1, 1, 1, 1), corners, 255).unwrap();
        let expected = [0x05ff_ffff, 0xff05_ffff, 0xffff_05ff, 0xffff_ff05];
        assert_eq!(columns.read(on).unwrap(), expected, "{}", on.name());
        // Two images of two channels, 3 columns of each: the last two codes of a row are nothing, not fill.
        let bar = window(1, 3, 1, 1);
        let x = codes(on, &[1, 2, 3, 4, 5, 6, 7, 8], 2);
        let columns = im2col(on, &x, image(2, 1, 2, 2), bar, 9).unwrap();
        let out = [0x0909_0909, 0x0909];
        let first = [0x0903_0109, 0x0402, 0x0209_0301, 0x0904];
        let second = [0x0907_0509, 0x0806, 0x0609_0705, 0x0908];
        let expected =
            [&out[..], &out, &first, &out, &out, &out, &out, &second, &out, &out].concat();
        assert_eq!(columns.read(on).unwrap(), expected, "{}", on.name());
    }
}

#[test]
fn floats_are_copied_as_bits() {
    let bits = [0x8000_0000, 0x7fa0_1234, 0xffff_ffff, 0x0000_0001, 0x7f80_0000, 0x3f80_0000];
    for on in backends() {
        let x = Tensor::new(on, DType::F32, 6, 1, bits.to_vec()).unwrap();
        let columns = im2col(on, &x, image(1, 2, 3, 1), window(1, 1, 1, 0), 0).unwrap();
        assert_eq!(columns.read(on).unwrap(), bits, "{}", on.name());
    }
}

#[test]
fn a_window_as_large_as_the_image_flattens_it() {
    // Channels last in, [channels, height, width] out: what a dense layer after PyTorch's flatten expects.
    let (count, height, width, channels) = (3, 4, 5, 7);
    let whole = window(height, width, 1, 0);
    let flat = |n: usize, c: usize, y: usize, x: usize| {
        ((((n * height + y) * width + x) * channels + c) * 11 % 251) as u8
    };
    let mut expected = Vec::new();
    let mut values = vec![0; count * height * width * channels];
    for n in 0..count {
        for c in 0..channels {
            for y in 0..height {
                for x in 0..width {
                    values[((n * height + y) * width + x) * channels + c] = flat(n, c, y, x);
                    expected.push(flat(n, c, y, x));
                }
            }
        }
    }
    let images = image(count, height, width, channels);
    for on in backends() {
        let columns = im2col(on, &codes(on, &values, channels), images, whole, 0).unwrap();
        assert_eq!(read_codes(on, &columns, expected.len() / count), expected, "{}", on.name());
        assert_eq!(columns.rows(), count);
        let floats: Vec<f32> = values.iter().map(|v| f32::from(*v)).collect();
        let x = Tensor::from_f32(on, &floats, count * height * width).unwrap();
        let columns = im2col(on, &x, images, whole, 0).unwrap().read_f32(on).unwrap();
        assert!(columns.iter().zip(&expected).all(|(a, b)| *a == f32::from(*b)), "{}", on.name());
    }
}

/// Small whole numbers, whose products and sums are exact in f32.
fn whole(seed: u64, len: usize) -> Vec<f32> {
    noise(seed, len).iter().map(|v| (v * 8.0).round()).collect()
}

/// A convolution by its definition: `[count, down, across, filters]` of images with the channels last and PyTorch's weights
/// `[filters, channels, window.height, window.width]`; pixels outside are `outside`.
fn convolution(
    x: &[f32],
    images: Image,
    weights: &[f32],
    filters: usize,
    window: Window,
    outside: f32,
) -> Vec<f32> {
    let Image { count, height, width, channels } = images;
    let down = (height + 2 * window.padding - window.height) / window.stride + 1;
    let across = (width + 2 * window.padding - window.width) / window.stride + 1;
    let mut out = Vec::new();
    for n in 0..count {
        for oy in 0..down {
            for ox in 0..across {
                for f in 0..filters {
                    let mut sum = 0.0;
                    for c in 0..channels {
                        for ky in 0..window.height {
                            for kx in 0..window.width {
                                let y =
                                    (oy * window.stride + ky) as isize - window.padding as isize;
                                let x_ =
                                    (ox * window.stride + kx) as isize - window.padding as isize;
                                let inside = (0..height as isize).contains(&y)
                                    && (0..width as isize).contains(&x_);
                                let pixel = ((n * height) as isize + y) * width as isize + x_;
                                let value = match inside {
                                    true => x[pixel as usize * channels + c],
                                    false => outside,
                                };
                                let w = (f * channels + c) * window.height + ky;
                                sum += value * weights[w * window.width + kx];
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

/// `columns` times the transposed weights.
fn product(columns: &[f32], weights: &[f32], filters: usize) -> Vec<f32> {
    let cols = weights.len() / filters;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let row = |a| weights.chunks(cols).map(move |w| dot(a, w));
    columns.chunks(cols).flat_map(row).collect()
}

#[test]
fn a_convolution_is_a_product_of_its_columns() {
    let mut cases = 0;
    for (images, window) in [
        (image(2, 9, 7, 3), window(3, 3, 2, 1)),
        (image(1, 7, 11, 5), window(5, 3, 2, 1)),
        (image(3, 5, 5, 1), window(5, 5, 1, 2)),
        (image(1, 28, 28, 1), window(5, 5, 1, 0)),
        (image(2, 3, 3, 4), window(1, 1, 2, 0)),
        (image(1, 2, 3, 2), window(2, 2, 3, 3)),
    ] {
        let filters = 6;
        let area = window.height * window.width;
        let x = whole(1, images.count * images.height * images.width * images.channels);
        let weights = whole(2, filters * images.channels * area);
        let expected = convolution(&x, images, &weights, filters, window, 0.0);
        // The same images as codes with zero point 100, their padding too.
        let shifted: Vec<u8> = x.iter().map(|v| (v + 100.0) as u8).collect();
        for on in backends() {
            let rows = x.len() / images.channels;
            let tensor = Tensor::from_f32(on, &x, rows).unwrap();
            let columns = im2col(on, &tensor, images, window, 0).unwrap().read_f32(on).unwrap();
            let case = (images, window, on.name());
            assert_eq!(product(&columns, &weights, filters), expected, "{case:?}");

            let tensor = codes(on, &shifted, images.channels);
            let columns = im2col(on, &tensor, images, window, 100).unwrap();
            let columns = read_codes(on, &columns, images.channels * area);
            let columns: Vec<f32> = columns.iter().map(|c| f32::from(*c) - 100.0).collect();
            assert_eq!(product(&columns, &weights, filters), expected, "codes, {case:?}");
            let output = window.output(images).unwrap();
            assert_eq!(output.count * output.height * output.width * filters, expected.len());
            cases += 1;
        }
    }
    assert!(cases >= 6);
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, len).iter().map(|v| (v * 128.0) as i32 as u8).collect()
}

fn both_kinds(on: &Backend, images: Image, window: Window) -> Result<Vec<u32>> {
    let pixels = images.count * images.height * images.width;
    let x = Tensor::from_f32(on, &noise(3, pixels * images.channels), pixels)?;
    let mut words = im2col(on, &x, images, window, 0)?.read(on)?;
    let x = codes(on, &bytes(4, pixels * images.channels), images.channels);
    words.extend(im2col(on, &x, images, window, 0x81)?.read(on)?);
    Ok(words)
}

#[test]
fn gpu_agrees_with_reference() {
    for channels in [1, 2, 3, 4, 5, 8, 9] {
        for (count, height, width) in [(1, 1, 1), (2, 3, 5), (3, 8, 4)] {
            for (kh, kw) in [(1, 1), (2, 3), (3, 2), (3, 3)] {
                for (stride, padding) in [(1, 0), (1, 1), (2, 1), (3, 2), (1, 4)] {
                    let images = image(count, height, width, channels);
                    let window = window(kh, kw, stride, padding);
                    if window.output(images).is_ok() {
                        cross_check((images, window), |on| both_kinds(on, images, window));
                    }
                }
            }
        }
    }
    // Both sides of a workgroup, whose invocations write a word of four rows.
    for width in [62, 63, 64, 65, 66] {
        let images = image(4, 1, width, 4);
        cross_check(images, |on| both_kinds(on, images, window(1, 1, 1, 0)));
    }
}

#[test]
fn gpu_agrees_past_65535_workgroups() {
    // One row of as many words as there are pixels.
    let images = image(1, 4096, 4097, 1);
    let values = noise(5, 4096 * 4097);
    cross_check("folded dispatch", |on| {
        let x = Tensor::from_f32(on, &values, values.len())?;
        im2col(on, &x, images, window(4096, 4097, 1, 0), 0)?.read(on)
    });
    // A device that starts 7 workgroups per dimension.
    if let Some(on) = tiny_gpu() {
        let (images, window) = (image(3, 10, 11, 3), window(2, 2, 1, 0));
        let expected = both_kinds(&CPU, images, window).unwrap();
        assert_eq!(both_kinds(on, images, window).unwrap(), expected);
    }
}

#[test]
fn nothing_gives_nothing() {
    for on in backends() {
        for (count, channels) in [(0, 3), (2, 0), (0, 0)] {
            let images = image(count, 5, 5, channels);
            let words = |elements: usize| elements.div_ceil(4);
            for (dtype, cols, expected) in [
                (DType::F32, channels, 9 * channels),
                (DType::U32, words(channels), words(9 * channels)),
            ] {
                let x = Tensor::new(on, dtype, 25 * count, cols, vec![]).unwrap();
                let columns = im2col(on, &x, images, window(3, 3, 2, 1), 0).unwrap();
                assert_eq!((columns.rows(), columns.cols()), (9 * count, expected));
                assert!(columns.read(on).unwrap().is_empty(), "{}", on.name());
            }
        }
    }
}

#[test]
fn output_is_pytorchs_floor_mode() {
    let images = image(2, 28, 27, 3);
    assert_eq!(window(5, 5, 1, 0).output(images).unwrap(), image(2, 24, 23, 3));
    assert_eq!(window(2, 2, 2, 0).output(images).unwrap(), image(2, 14, 13, 3));
    assert_eq!(window(3, 3, 2, 1).output(images).unwrap(), image(2, 14, 14, 3));
    assert_eq!(window(28, 27, 9, 0).output(images).unwrap(), image(2, 1, 1, 3));
}

#[test]
fn refuses_windows_and_images_that_do_not_fit() {
    let x = Tensor::from_f32(&CPU, &[1.0; 24], 12).unwrap();
    let images = image(1, 3, 4, 2);
    let refused = |x: &Tensor, images, window, fill| match im2col(&CPU, x, images, window, fill) {
        Err(Error::Shape { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let square = window(2, 2, 1, 0);
    assert_eq!(refused(&x, images, window(2, 2, 0, 0), 0), "stride");
    assert_eq!(refused(&x, images, window(4, 2, 1, 0), 0), "height");
    assert_eq!(refused(&x, images, window(2, 7, 1, 1), 0), "width");
    assert_eq!(refused(&x, images, window(0, 2, 1, 0), 0), "height");
    assert_eq!(refused(&x, images, window(2, 2, 1, 1 << 30), 0), "padding");
    assert_eq!(refused(&x, images, window(2, 2, 1, usize::MAX), 0), "padding");
    assert_eq!(refused(&x, images, square, 1), "fill");
    // More elements than can be counted: of the result, and in the image's own description.
    assert_eq!(refused(&x, images, window(40_000, 40_000, 1, 30_000), 0), "result");
    assert_eq!(refused(&x, image(usize::MAX, 3, 4, 2), square, 0), "x");
    for wrong in [image(2, 3, 4, 2), image(1, 4, 4, 2), image(1, 3, 4, 3), image(1, 0, 4, 2)] {
        assert_eq!(refused(&x, wrong, square, 0), "x");
    }
    // Two channels of codes are one word.
    let words = Tensor::new(&CPU, DType::U32, 12, 2, vec![0; 24]).unwrap();
    assert_eq!(refused(&words, images, square, 0), "x");
    let halves = Tensor::new(&CPU, DType::F16, 12, 2, vec![0; 12]).unwrap();
    assert_eq!(refused(&halves, images, square, 0), "x");
    let nothing = Tensor::new(&CPU, DType::F32, 0, 2, vec![]).unwrap();
    assert_eq!(refused(&nothing, image(1, 0, 4, 2), square, 0), "height");
}
