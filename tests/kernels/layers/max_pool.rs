//! The largest under a window: worked examples with NaN and signed zeros, against its definition, refusal.

use crate::support::{CPU, assert_same, backends, cross_check, noise, tiny_gpu};
use tersor::{
    Backend, DType, Error, Tensor,
    kernels::{Image, Window, max_pool},
};

fn image(count: usize, height: usize, width: usize, channels: usize) -> Image {
    Image { count, height, width, channels }
}

fn window(height: usize, width: usize, stride: usize, padding: usize) -> Window {
    Window { height, width, stride, padding }
}

#[test]
fn worked_example() {
    // 3 x 3 pixels of one channel; squares at every second pixel see the four corners of a padded image.
    let values = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, 7.0, -8.0, -9.0];
    for on in backends() {
        let x = Tensor::from_f32(on, &values, 9).unwrap();
        let largest = max_pool(on, &x, image(1, 3, 3, 1), window(2, 2, 2, 1), false).unwrap();
        // The padding is no zero: every one of these is the largest of negative numbers, but for the last line.
        assert_eq!(largest.read_f32(on).unwrap(), [-1.0, -2.0, 7.0, -5.0], "{}", on.name());
        // Floor mode: the last line and place are left out.
        let largest = max_pool(on, &x, image(1, 3, 3, 1), window(2, 2, 2, 0), false).unwrap();
        assert_eq!(largest.read_f32(on).unwrap(), [-1.0], "{}", on.name());
        let largest = max_pool(on, &x, image(1, 3, 3, 1), window(1, 3, 1, 0), false).unwrap();
        assert_eq!(largest.read_f32(on).unwrap(), [-1.0, -4.0, 7.0], "{}", on.name());

        // Five channels of codes, two pixels of one image each: unsigned, then signed. The padding codes stay zero.
        let pixels = vec![0x80ff_017f, 0x05, 0x7f00_fe80, 0xfe];
        let x = Tensor::new(on, DType::U32, 2, 2, pixels).unwrap();
        let (images, pair) = (image(1, 1, 2, 5), window(1, 2, 1, 0));
        let largest = max_pool(on, &x, images, pair, false).unwrap();
        assert_eq!(largest.read(on).unwrap(), [0x80ff_fe80, 0xfe], "{}", on.name());
        let largest = max_pool(on, &x, images, pair, true).unwrap();
        assert_eq!(largest.read(on).unwrap(), [0x7f00_017f, 0x05], "{}", on.name());
        assert_eq!((largest.rows(), largest.cols()), (1, 2));
    }
}

#[test]
fn nan_wins_and_zeros_have_an_order() {
    let (zero, minus) = (0, 0x8000_0000);
    let (one, infinity) = (0x3f80_0000, 0x7f80_0000);
    let nan = 0x7fc0_0000;
    let cases = [
        // Pairs of bits and the larger one, in either order.
        (zero, minus, zero),
        (minus, minus, minus),
        (minus, minus | 1, minus),
        (zero, 1, 1),
        (one, infinity, infinity),
        (infinity | minus, minus | one, minus | one),
        (infinity | minus, infinity | minus, infinity | minus),
        // NaN of any sign and payload.
        (nan, one, nan),
        (0x7fff_ffff, infinity, nan),
        (0x7f80_0001, zero, nan),
        (0xff80_0001, infinity, nan),
        (0xffff_ffff, infinity | minus, nan),
        (0xffc0_0000, nan, nan),
    ];
    for on in backends() {
        for (a, b, larger) in cases {
            for pair in [[a, b], [b, a]] {
                let x = Tensor::new(on, DType::F32, 2, 1, pair.to_vec()).unwrap();
                let got = max_pool(on, &x, image(1, 1, 2, 1), window(1, 2, 1, 0), false).unwrap();
                assert_eq!(got.read(on).unwrap(), [larger], "{pair:x?}, {}", on.name());
            }
            // Alone, a NaN becomes the same.
            let x = Tensor::new(on, DType::F32, 1, 1, vec![a]).unwrap();
            let got = max_pool(on, &x, image(1, 1, 1, 1), window(1, 1, 1, 0), false).unwrap();
            let alone = if f32::from_bits(a).is_nan() { nan } else { a };
            assert_eq!(got.read(on).unwrap(), [alone], "{a:x}, {}", on.name());
        }
    }
}

/// The largest by its definition, pixel by pixel of the padded image.
fn plain(x: &[i32], images: Image, window: Window) -> Vec<i32> {
    let Image { count, height, width, channels } = images;
    let down = (height + 2 * window.padding - window.height) / window.stride + 1;
    let across = (width + 2 * window.padding - window.width) / window.stride + 1;
    let mut out = Vec::new();
    for n in 0..count {
        for oy in 0..down {
            for ox in 0..across {
                for c in 0..channels {
                    let mut best = None;
                    for ky in 0..window.height {
                        for kx in 0..window.width {
                            let y = (oy * window.stride + ky).wrapping_sub(window.padding);
                            let x_ = (ox * window.stride + kx).wrapping_sub(window.padding);
                            if y < height && x_ < width {
                                let value = x[((n * height + y) * width + x_) * channels + c];
                                best = best.max(Some(value));
                            }
                        }
                    }
                    out.push(best.expect("a pixel under every window"));
                }
            }
        }
    }
    out
}

/// Codes as words, each pixel from a fresh one.
fn packed(codes: &[i32], channels: usize) -> Vec<u32> {
    let word = |c: &[i32]| c.iter().rev().fold(0, |w, c| w << 8 | (*c as u32 & 0xff));
    codes.chunks(channels).flat_map(|pixel| pixel.chunks(4).map(word)).collect()
}

/// Every kind of element against the definition.
fn check(on: &Backend, images: Image, window: Window) {
    let case = (images, window, on.name());
    let pixels = images.count * images.height * images.width;
    let values = noise(1, pixels * images.channels);
    for signed in [true, false] {
        let offset = if signed { 0.0 } else { 128.0 };
        let codes: Vec<i32> = values.iter().map(|v| (v * 127.0 + offset) as i32).collect();
        let expected = plain(&codes, images, window);
        let cols = images.channels.div_ceil(4);
        let x = Tensor::new(on, DType::U32, pixels, cols, packed(&codes, images.channels)).unwrap();
        let got = max_pool(on, &x, images, window, signed).unwrap().read(on).unwrap();
        assert_same(&(case, signed), &packed(&expected, images.channels), &got);
        let floats: Vec<f32> = codes.iter().map(|c| *c as f32).collect();
        let x = Tensor::from_f32(on, &floats, pixels).unwrap();
        let got = max_pool(on, &x, images, window, signed).unwrap().read_f32(on).unwrap();
        let expected: Vec<f32> = expected.iter().map(|c| *c as f32).collect();
        assert_same(&case, &expected, &got);
    }
}

#[test]
fn every_window_against_its_definition() {
    for on in backends() {
        for channels in [1, 3, 4, 5, 9] {
            for (count, height, width) in [(1, 1, 1), (2, 3, 5), (3, 8, 4)] {
                for (kh, kw) in [(1, 1), (2, 2), (3, 2), (3, 3), (8, 4)] {
                    for (stride, padding) in [(1, 0), (2, 0), (2, 1), (1, 2), (5, 1)] {
                        let images = image(count, height, width, channels);
                        let window = window(kh, kw, stride, padding);
                        if window.output(images).is_ok() && padding < kh.min(kw) {
                            check(on, images, window);
                        }
                    }
                }
            }
        }
        // Both sides of a workgroup.
        for width in [254, 255, 256, 257, 258] {
            check(on, image(1, 1, width, 1), window(1, 1, 1, 0));
        }
        // Everything at once.
        check(on, image(2, 100, 120, 1), window(100, 120, 1, 0));
    }
}

#[test]
fn gpu_agrees_past_65535_workgroups() {
    let images = image(1, 4097, 4096, 1);
    let values = noise(2, 4097 * 4096);
    cross_check("folded dispatch", |on| {
        let x = Tensor::from_f32(on, &values, values.len())?;
        max_pool(on, &x, images, window(1, 1, 1, 0), false)?.read(on)
    });
    // A device that starts 7 workgroups per dimension.
    if let Some(on) = tiny_gpu() {
        check(on, image(1, 40, 50, 2), window(2, 2, 1, 0));
    }
}

#[test]
fn nothing_gives_nothing() {
    for on in backends() {
        for (count, channels) in [(0, 3), (2, 0)] {
            let images = image(count, 4, 4, channels);
            let x = Tensor::new(on, DType::F32, 16 * count, channels, vec![]).unwrap();
            let largest = max_pool(on, &x, images, window(2, 2, 2, 0), false).unwrap();
            assert_eq!((largest.rows(), largest.cols()), (4 * count, channels));
            assert!(largest.read(on).unwrap().is_empty(), "{}", on.name());
        }
    }
}

#[test]
fn refuses_windows_and_images_that_do_not_fit() {
    let x = Tensor::from_f32(&CPU, &[1.0; 24], 12).unwrap();
    let images = image(1, 3, 4, 2);
    let refused = |images, window| match max_pool(&CPU, &x, images, window, false) {
        Err(Error::Shape { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(images, window(2, 2, 0, 0)), "stride");
    assert_eq!(refused(images, window(4, 2, 1, 0)), "height");
    assert_eq!(refused(images, window(3, 5, 1, 0)), "width");
    assert_eq!(refused(images, window(2, 2, 1, 2)), "padding");
    assert_eq!(refused(images, window(3, 1, 1, 1)), "padding");
    assert_eq!(refused(image(1, 4, 4, 2), window(2, 2, 1, 0)), "x");
    assert_eq!(refused(images, window(1 << 25, 1 << 25, 1, (1 << 25) - 1)), "result");
    if let Some(on) = crate::support::gpu() {
        let x = Tensor::from_f32(on, &[1.0; 300 * 300], 300 * 300).unwrap();
        let error = max_pool(on, &x, image(1, 300, 300, 1), window(300, 300, 1, 0), false);
        assert!(matches!(error, Err(Error::Gpu { kernel: "max_pool", .. })));
    }
}
