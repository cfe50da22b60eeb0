use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::tasks::task_rows,
    parallel::chunks,
    wgsl,
};
use bytemuck::Pod;
use std::ops::Range;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "im2col",
    wgsl: wgsl!("lib/grid", "layers/im2col"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    height: u32,
    width: u32,
    pixel: u32,
    down: u32,
    across: u32,
    rows: u32,
    cols: u32,
    words: u32,
    window_height: u32,
    window_width: u32,
    stride: u32,
    padding: u32,
    fill: u32,
    total: u32,
}

/// How the rows of a matrix are the pixels of a batch of images: image by image, line by line, the channels of a pixel side by
/// side. Either F32, or U32 words of four 8-bit codes, each pixel from a fresh word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Images.
    pub count: usize,
    /// Lines of an image.
    pub height: usize,
    /// Pixels of a line.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
}

/// A window that moves over images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its lines.
    pub height: usize,
    /// Its pixels in a line.
    pub width: usize,
    /// Pixels from one place to the next, in both directions.
    pub stride: usize,
    /// Pixels that are added around every image, on each side.
    pub padding: usize,
}

impl Image {
    /// Pixels of all images, or `None` if there are more than can be counted.
    fn pixels(self) -> Option<usize> {
        self.count.checked_mul(self.height)?.checked_mul(self.width)
    }
}

impl Window {
    /// The images that have a pixel for every place of the window, and channels as before.
    ///
    /// `height = floor((image.height + 2 padding - window.height) / stride) + 1`, the width alike
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the image, the window or the stride is empty, the window is larger than the padded image, or the
    /// padded image has 2^31 pixels in a line.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::kernels::{Image, Window};
    ///
    /// let image = Image { count: 1, height: 28, width: 28, channels: 6 };
    /// let places = Window { height: 5, width: 5, stride: 2, padding: 1 }.output(image)?;
    /// assert_eq!((places.height, places.width, places.channels), (13, 13, 6)); // 25 / 2 + 1
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn output(self, image: Image) -> Result<Image> {
        Ok(Image {
            height: self.places("height", image.height, self.height)?,
            width: self.places("width", image.width, self.width)?,
            ..image
        })
    }

    /// Places in one direction, where the image and the window have so many pixels.
    fn places(self, what: &'static str, image: usize, window: usize) -> Result<usize> {
        let refuse = |what, got, expected: String| Err(Error::shape("window", what, got, expected));
        if self.stride == 0 {
            return refuse("stride", 0, "at least 1".into());
        }
        if image == 0 {
            return refuse(what, 0, "an image of at least 1 pixel".into());
        }
        let padded = self.padding.checked_mul(2).and_then(|p| p.checked_add(image));
        let Some(padded) = padded.filter(|p| *p <= i32::MAX as usize) else {
            return refuse("padding", self.padding, "a padded image below 2^31".into());
        };
        if window == 0 || window > padded {
            return refuse(what, window, format!("1 to {padded}, the padded image"));
        }
        Ok((padded - window) / self.stride + 1)
    }

    /// The part of an image, `side` pixels in one direction, under a window of `length` pixels at `start` of the padded image.
    pub(crate) fn seen(self, start: usize, length: usize, side: usize) -> Range<usize> {
        let end = (start + length).saturating_sub(self.padding);
        start.saturating_sub(self.padding)..end.min(side)
    }
}

/// Whether the elements of a batch of images are codes rather than F32; refuses a tensor that is not such a batch.
pub(crate) fn expect_image(kernel: &'static str, x: &Tensor, image: Image) -> Result<bool> {
    let codes = match x.dtype() {
        DType::F32 => false,
        DType::U32 => true,
        other => return Err(Error::shape(kernel, "x", other.name(), "F32 or U32")),
    };
    let cols = if codes { image.channels.div_ceil(4) } else { image.channels };
    if image.pixels() != Some(x.rows()) || x.cols() != cols {
        let got = format!("[{}, {}]", x.rows(), x.cols());
        return Err(Error::shape(kernel, "x", got, format!("[pixels, {cols}] of {image:?}")));
    }
    Ok(codes)
}

/// Rows and columns of a result with a row for every place; refuses more elements than shaders count in 32 bits.
pub(crate) fn expect_size(
    kernel: &'static str,
    places: Image,
    cols: Option<usize>,
) -> Result<(usize, usize)> {
    let size = places.pixels().zip(cols);
    let elements = size.and_then(|(rows, cols)| rows.checked_mul(cols));
    match size {
        Some(size) if elements.is_some_and(|n| u32::try_from(n).is_ok()) => Ok(size),
        _ => {
            let got = format!("places {places:?} of {cols:?} elements");
            Err(Error::shape(kernel, "result", got, "less than 2^32 elements"))
        }
    }
}

/// Lays out what a window sees at each of its places as a row, so that a convolution becomes a product of matrices.
///
/// `columns[p, (c * window.height + ky) * window.width + kx] = x[pixel in line ky, place kx of window p, c]`, or `fill` where
/// that pixel lies in the padding: the column order of a PyTorch weight `[filters, c, ky, kx]`
///
/// - `x`: the images, F32 `[pixels, channels]` or codes U32 `[pixels, ceil(channels / 4)]`, four a word.
/// - `fill`: the code of the padding, as a byte: the zero point; 0 for F32.
/// - returns as many rows as the window has places (see [`Window::output`]), of `channels * window.height * window.width`
///   elements of the same kind; codes again four a word, each row from a fresh one, padding zero.
///
/// A window as large as the image makes one row of each, in the order in which PyTorch flattens `[channels, height, width]`.
///
/// Agreement: exact: elements are copied as bits.
///
/// # Errors
///
/// [`Error::Shape`] if `x` is not these images, the window does not fit them, an F32 image is to be filled with anything but 0,
/// or the result has 2^32 elements or more; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Chellapilla, Puri and Simard 2006, "High Performance Convolutional Neural Networks for Document Processing".
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels::{self, Image, Window}};
///
/// let on = Backend::Cpu;
/// // 1 2 3
/// // 4 5 6
/// let x = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 6)?;
/// let image = Image { count: 1, height: 2, width: 3, channels: 1 };
/// let window = Window { height: 2, width: 2, stride: 1, padding: 0 };
/// let columns = kernels::im2col(&on, &x, image, window, 0)?;
/// assert_eq!(columns.read_f32(&on)?, [1.0, 2.0, 4.0, 5.0, 2.0, 3.0, 5.0, 6.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn im2col(on: &Backend, x: &Tensor, image: Image, window: Window, fill: u8) -> Result<Tensor> {
    let codes = expect_image(KERNEL.name, x, image)?;
    let places = window.output(image)?;
    if !codes && fill != 0 {
        return Err(Error::shape(KERNEL.name, "fill", fill, "0 for F32"));
    }
    let area = window.height.checked_mul(window.width);
    let cols = area.and_then(|a| a.checked_mul(image.channels));
    let (rows, cols) = expect_size(KERNEL.name, places, cols)?;
    match on {
        Backend::Cpu if codes => {
            let bytes: &[u8] = bytemuck::cast_slice(x.words()?);
            let columns = reference(bytes, fill, image, window, places);
            Ok(Tensor::cpu(DType::U32, rows, cols.div_ceil(4), columns))
        }
        Backend::Cpu => {
            let columns = reference(x.words()?, 0, image, window, places);
            Ok(Tensor::cpu(DType::F32, rows, cols, columns))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, x, fill, image, window, places),
    }
}

/// `x` and the result as bytes for codes, as words for F32.
fn reference<T: Pod + Send + Sync>(
    x: &[T],
    fill: T,
    image: Image,
    window: Window,
    places: Image,
) -> Vec<u32> {
    let area = window.height * window.width;
    let rows = places.count * places.height * places.width;
    // Pixels and rows start on a fresh word.
    let whole = |elements: usize| elements.next_multiple_of(4 / size_of::<T>());
    let (pixel, row) = (whole(image.channels), whole(image.channels * area));
    let mut columns = vec![0; rows * row * size_of::<T>() / 4];
    let elements: &mut [T] = bytemuck::cast_slice_mut(&mut columns);
    if rows == 0 {
        return columns;
    }
    let task = task_rows(rows, row);
    // Where each element of a row lies from the first pixel under the window on, if all of it lies within the image.
    let inside: Vec<usize> = (0..image.channels * area)
        .map(|e| {
            let (c, line, place) = (e / area, e % area / window.width, e % window.width);
            (line * image.width + place) * pixel + c
        })
        .collect();
    chunks(elements, task * row, &|t, elements| {
        for (r, elements) in elements.chunks_mut(row.max(1)).enumerate() {
            let p = t * task + r;
            let first = p / places.width / places.height * image.height;
            let top = p / places.width % places.height * window.stride;
            let left = p % places.width * window.stride;
            let lines = window.seen(top, window.height, image.height);
            let pixels = window.seen(left, window.width, image.width);
            if (lines.len(), pixels.len()) == (window.height, window.width) {
                let from = ((first + lines.start) * image.width + pixels.start) * pixel;
                for (element, offset) in elements.iter_mut().zip(&inside) {
                    *element = x[from + offset];
                }
                continue;
            }
            elements[..image.channels * area].fill(fill);
            if pixels.is_empty() {
                continue;
            }
            for c in 0..image.channels {
                for y in lines.clone() {
                    let line = c * window.height + y + window.padding - top;
                    let at = line * window.width + pixels.start + window.padding - left;
                    let from = ((first + y) * image.width + pixels.start) * pixel + c;
                    let seen = elements[at..][..pixels.len()].iter_mut();
                    for (element, value) in seen.zip(x[from..].iter().step_by(pixel)) {
                        *element = *value;
                    }
                }
            }
        }
    });
    columns
}

/// Rows of the result that an invocation writes a word of.
const PLACES: usize = 4;

fn on_gpu(
    gpu: &Gpu,
    x: &Tensor,
    fill: u8,
    image: Image,
    window: Window,
    places: Image,
) -> Result<Tensor> {
    let codes = x.dtype() == DType::U32;
    let rows = places.count * places.height * places.width;
    let cols = image.channels * window.height * window.width;
    let words = if codes { cols.div_ceil(4) } else { cols };
    let out = gpu.alloc(4 * rows * words)?;
    let params = Params {
        height: image.height as u32,
        width: image.width as u32,
        pixel: x.cols() as u32,
        down: places.height as u32,
        across: places.width as u32,
        rows: rows as u32,
        cols: cols as u32,
        words: words as u32,
        window_height: window.height as u32,
        window_width: window.width as u32,
        stride: window.stride as u32,
        padding: window.padding as u32,
        fill: fill.into(),
        total: (rows.div_ceil(PLACES) * words) as u32,
    };
    let constants = [("PLACES", PLACES as f64), ("CODES", f64::from(u8::from(codes)))];
    let workgroups = KERNEL.workgroups(params.total.into());
    gpu.dispatch(&KERNEL, &constants, &params, &[x.buffer()?, &out], workgroups)?;
    Ok(Tensor::gpu(x.dtype(), rows, words, out))
}
