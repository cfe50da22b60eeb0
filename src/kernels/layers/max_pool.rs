use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::{
        layers::im2col::{Image, Window, expect_image, expect_size},
        tasks::task_rows,
    },
    parallel::chunks,
    wgsl,
};
use bytemuck::Pod;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "max_pool",
    wgsl: wgsl!("lib/grid", "lib/dtype", "layers/max_pool"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    height: u32,
    width: u32,
    words: u32,
    down: u32,
    across: u32,
    window_height: u32,
    window_width: u32,
    stride: u32,
    padding: u32,
    total: u32,
}

/// The largest value of every channel that a window sees at each of its places.
///
/// `largest[p, c] = max(x[q, c])` over the pixels q of the image under window p; the padding never wins
///
/// - `x`: the images, F32 `[pixels, channels]` or codes U32 `[pixels, ceil(channels / 4)]`, four a word, padding zero.
/// - `signed`: codes are two's complement; without meaning for F32.
/// - returns as many rows as the window has places (see [`Window::output`]), of the same type and number of columns.
///
/// Agreement: exact: +0 is larger than -0, and a NaN beats every number, as in PyTorch; it becomes the quiet NaN `7fc00000`.
///
/// # Errors
///
/// [`Error::Shape`] if `x` is not these images or the window does not fit them, or its padding reaches beyond it, so that a
/// place could hold no pixel; [`Error::Gpu`] if the device fails, or a window sees more pixels than it can go through.
///
/// # Source
///
/// Scherer, Müller and Behnke 2010, "Evaluation of Pooling Operations in Convolutional Architectures for Object Recognition".
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels::{self, Image, Window}};
///
/// let on = Backend::Cpu;
/// // 1  5 |  2  0
/// // 3 -1 | -2 -3
/// let x = Tensor::from_f32(&on, &[1.0, 5.0, 2.0, 0.0, 3.0, -1.0, -2.0, -3.0], 8)?;
/// let image = Image { count: 1, height: 2, width: 4, channels: 1 };
/// let window = Window { height: 2, width: 2, stride: 2, padding: 0 };
/// assert_eq!(kernels::max_pool(&on, &x, image, window, true)?.read_f32(&on)?, [5.0, 2.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn max_pool(
    on: &Backend,
    x: &Tensor,
    image: Image,
    window: Window,
    signed: bool,
) -> Result<Tensor> {
    let codes = expect_image(KERNEL.name, x, image)?;
    let places = window.output(image)?;
    if window.padding >= window.height.min(window.width) {
        let expected = format!("less than the window's {}", window.height.min(window.width));
        return Err(Error::shape(KERNEL.name, "padding", window.padding, expected));
    }
    let (rows, cols) = expect_size(KERNEL.name, places, Some(x.cols()))?;
    match on {
        Backend::Cpu => {
            let words = x.words()?;
            let bytes = bytemuck::cast_slice::<u32, u8>;
            let largest = match (codes, signed) {
                (false, _) => {
                    let x: &[f32] = bytemuck::cast_slice(words);
                    reference(x, f32::NEG_INFINITY, larger, image, window, places)
                }
                (true, false) => reference(bytes(words), 0, u8::max, image, window, places),
                (true, true) => {
                    let x: &[i8] = bytemuck::cast_slice(words);
                    reference(x, i8::MIN, i8::max, image, window, places)
                }
            };
            Ok(Tensor::cpu(x.dtype(), rows, cols, largest))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, x, signed, image, window, places),
    }
}

/// What a NaN becomes, whatever its sign and payload.
const NAN: f32 = f32::from_bits(0x7fc0_0000);

fn larger(a: f32, b: f32) -> f32 {
    // No && and ||: random values would make the processor guess wrong every other time.
    let b_wins = b.is_nan() | (!a.is_nan() & b.total_cmp(&a).is_gt());
    let larger = if b_wins { b } else { a };
    if larger.is_nan() { NAN } else { larger }
}

/// `x` and the result as bytes for codes, as floats for F32.
fn reference<T: Pod + Send + Sync>(
    x: &[T],
    lowest: T,
    larger: impl Fn(T, T) -> T + Sync,
    image: Image,
    window: Window,
    places: Image,
) -> Vec<u32> {
    let rows = places.count * places.height * places.width;
    // Pixels start on a fresh word.
    let pixel = image.channels.next_multiple_of(4 / size_of::<T>());
    let mut words = vec![0; rows * pixel * size_of::<T>() / 4];
    let elements: &mut [T] = bytemuck::cast_slice_mut(&mut words);
    let task = task_rows(rows, pixel);
    chunks(elements, task * pixel, &|t, elements| {
        for (r, best) in elements.chunks_mut(pixel.max(1)).enumerate() {
            let p = t * task + r;
            let top = p / places.width % places.height * window.stride;
            let left = p % places.width * window.stride;
            let first = p / places.width / places.height * image.height;
            let lines = window.seen(top, window.height, image.height);
            let pixels = window.seen(left, window.width, image.width);
            best.fill(lowest);
            for y in lines {
                let line = (first + y) * image.width;
                let seen = &x[(line + pixels.start) * pixel..(line + pixels.end) * pixel];
                for values in seen.chunks_exact(pixel.max(1)) {
                    for (best, value) in best.iter_mut().zip(values) {
                        *best = larger(*best, *value);
                    }
                }
            }
        }
    });
    words
}

fn on_gpu(
    gpu: &Gpu,
    x: &Tensor,
    signed: bool,
    image: Image,
    window: Window,
    places: Image,
) -> Result<Tensor> {
    // Some drivers end the loops of an invocation after 65,535 turns, without a word.
    if window.height.min(image.height) * (window.width.min(image.width) + 1) > 65_000 {
        return Err(Error::beyond(KERNEL.name, "the window is too large"));
    }
    let (rows, words) = (places.count * places.height * places.width, x.cols());
    let out = gpu.alloc(4 * rows * words)?;
    let total = (rows * words) as u32;
    let params = Params {
        height: image.height as u32,
        width: image.width as u32,
        words: words as u32,
        down: places.height as u32,
        across: places.width as u32,
        window_height: window.height as u32,
        window_width: window.width as u32,
        stride: window.stride as u32,
        padding: window.padding as u32,
        total,
    };
    let codes = x.dtype() == DType::U32;
    let constants =
        [("CODES", f64::from(u8::from(codes))), ("SIGNED", f64::from(u8::from(signed)))];
    let buffers = [x.buffer()?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total.into()))?;
    Ok(Tensor::gpu(x.dtype(), rows, words, out))
}
