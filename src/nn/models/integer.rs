use crate::{
    Backend, DType, Error, Result, Tensor,
    decide::{groups::Groups, range::Range},
    kernels::{
        Channels, Epilogue, Int8, Int8Weights, longest_row, matmul_i8_with, max_pool, multiplier,
        range,
    },
    nn::{
        models::network::{
            Architecture, BATCH, Network, after, expect_images, expect_windows, largest, patches,
            window_on,
        },
        store::{Int8Channel, Int8Channels, Model},
    },
};

/// The range of every layer's outputs over sample inputs: where static scales come from.
#[derive(Clone, Debug)]
pub struct Calibration(Vec<Range>);

impl Calibration {
    /// Runs a network over sample images.
    ///
    /// # Errors
    ///
    /// As [`Network::forward`].
    pub fn measure(network: &Network, on: &Backend, pixels: &[u8]) -> Result<Self> {
        let mut ranges: Vec<Range> = Vec::new();
        let images = network.images(on, pixels)?;
        network.trace(on, &images, |outputs| {
            let found = range(on, outputs, Groups::of(outputs.elements()))?;
            ranges.extend(found);
            Ok(())
        })?;
        Ok(Self(ranges))
    }
}

/// A network of 8-bit integers: pixels in, 32-bit sums out, no floating point between.
///
/// A layer is an integer product, to whose sums an integer bias is added, and a requantization: a multiplication by a fixed-point
/// number and a rounding shift. Activations after a ReLU are unsigned with zero at 0, others symmetric.
///
/// Agreement: exact.
///
/// # Source
///
/// Jacob et al. 2018, arXiv 1712.05877.
#[derive(Clone, Debug)]
pub struct IntegerNetwork {
    architecture: Architecture,
    layers: Vec<Layer>,
    /// Weight of one unit of each output.
    output_scales: Vec<f64>,
}

#[derive(Clone, Debug)]
struct Layer {
    codes: Int8Weights,
    channels: Channels,
    /// Limits of the codes it gives; `None` where it gives sums.
    limits: Option<(i32, i32)>,
}

/// A pixel is so much.
const PIXEL: f64 = 1.0 / 255.0;

impl IntegerNetwork {
    /// Loads every layer's codes, and fixes the scales between them. Weights that the archive keeps, as it does tiny ones, are
    /// rounded to 8 bits here.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the calibration is of a network with more or fewer layers;
    /// [`Error::Format`] if a weight is stored in another form than integer codes with one scale per
    /// channel or for all, or a bias leaves the range of the integers; otherwise as [`Linear::load`](crate::nn::Linear::load).
    pub fn load(
        model: &Model,
        on: &Backend,
        architecture: Architecture,
        calibration: &Calibration,
    ) -> Result<Self> {
        let (found, expected) = (calibration.0.len(), architecture.layers.len());
        if found != expected {
            return Err(Error::shape(
                "integer network",
                "layers of the calibration",
                found,
                expected,
            ));
        }
        let (mut image, mut layers) = (architecture.batch(1), Vec::new());
        let (mut input_scale, mut signed, mut output_scales) = (PIXEL, false, Vec::new());
        for (l, (shape, range)) in architecture.layers.iter().zip(&calibration.0).enumerate() {
            let window = window_on(shape, image);
            expect_windows(model, shape, image)?;
            let inputs = window.height * window.width * image.channels;
            let name = format!("{}.weight", shape.name);
            let Int8Channels { codes, channels } = model.int8_or_rounded(on, &name, inputs)?;
            let longest = longest_row(signed, channels.iter().all(|c| c.zero_point == 0));
            if inputs > longest {
                let found = format!("has {inputs} inputs, expected at most {longest}");
                return Err(model.refuse(&name, &format!("{found}, so that sums fit 32 bits")));
            }
            let outputs = channels.len();
            let biases = model.values(&format!("{}.bias", shape.name), outputs)?;
            let last = l + 1 == architecture.layers.len();
            let unsigned = range.min >= 0.0;
            let steps = if unsigned { 255.0 } else { 127.0 };
            let output_scale = (f64::from(range.absmax()) / steps).max(f64::MIN_POSITIVE);
            let mut table = Vec::new();
            for (Int8Channel { scale, zero_point, .. }, bias) in channels.iter().zip(&biases) {
                // A scale of 0 stands for codes that are all zero: what their unit is does not matter, but the bias needs one.
                let unit = match *scale {
                    0.0 if last => 2f64.powi(-20),
                    0.0 => 0.5 * output_scale,
                    scale => input_scale * f64::from(scale),
                };
                let (factor, shift) = match last {
                    true => (0, 0),
                    false => multiplier(unit / output_scale),
                };
                let offset = (f64::from(*bias) / unit).round_ties_even();
                if offset.abs() > f64::from(1 << 30) {
                    return Err(model.refuse(&name, "has a bias beyond 2^30 units of its sums"));
                }
                table.push([offset as i32 as u32, *zero_point as u32, factor as u32, shift]);
                if last {
                    output_scales.push(unit);
                }
            }
            layers.push(Layer {
                codes: Int8Weights::new(on, codes, signed)?,
                channels: Channels::new(on, &table)?,
                limits: (!last).then_some(if unsigned { (0, 255) } else { (-127, 127) }),
            });
            (input_scale, signed) = (output_scale, !unsigned);
            image = after(image, window, outputs);
            if let Some(pool) = shape.pool {
                image = after(image, pool, image.channels);
            }
        }
        Ok(Self { architecture, layers, output_scales })
    }

    /// The sums of the last layer for a batch of images: I32 `[count, classes]`.
    ///
    /// - `pixels`: a byte each, image by image, row by row.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if that is no whole number of images; [`Error::Gpu`].
    pub fn forward(&self, on: &Backend, pixels: &[u8]) -> Result<Tensor> {
        let [.., channels] = self.architecture.image;
        let mut image = expect_images(&self.architecture, "integer network", pixels.len())?;
        let mut x = packed(on, pixels, channels)?;
        let mut signed = false;
        for (shape, layer) in self.architecture.layers.iter().zip(&self.layers) {
            let window = window_on(shape, image);
            let cols = window.height * window.width * image.channels;
            let a = Int8 { words: patches(on, x, image, window)?, cols, signed };
            let epilogue = match layer.limits {
                None => Epilogue::Sum,
                Some((lowest, highest)) => Epilogue::Requantize { zero_point: 0, lowest, highest },
            };
            x = matmul_i8_with(on, &a, &layer.codes, &layer.channels, epilogue)?;
            signed = layer.limits.is_some_and(|l| l.0 < 0);
            image = after(image, window, layer.codes.rows());
            if let Some(pool) = shape.pool {
                x = max_pool(on, &x, image, pool, signed)?;
                image = after(image, pool, image.channels);
            }
        }
        Ok(x)
    }

    /// The sums of every image, as [`IntegerNetwork::forward`] gives them, batch by batch.
    ///
    /// # Errors
    ///
    /// As [`IntegerNetwork::forward`].
    pub fn sums(&self, on: &Backend, pixels: &[u8]) -> Result<Vec<i32>> {
        let mut sums = Vec::new();
        for batch in pixels.chunks(BATCH * self.architecture.image.iter().product::<usize>()) {
            sums.extend(self.forward(on, batch)?.read(on)?.into_iter().map(|s| s as i32));
        }
        Ok(sums)
    }

    /// The class of every image, from its sums: the largest output, the first of equal ones.
    pub fn classes(&self, sums: &[i32]) -> Vec<usize> {
        let outputs = |s: &[i32]| {
            largest(s.iter().zip(&self.output_scales).map(|(s, scale)| f64::from(*s) * scale))
        };
        sums.chunks(self.output_scales.len()).map(outputs).collect()
    }

    /// Bytes its weights take on the device.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|l| l.codes.bytes() + l.channels.bytes()).sum()
    }
}

/// Pixels as packed codes, each from a fresh word.
fn packed(on: &Backend, pixels: &[u8], channels: usize) -> Result<Tensor> {
    let row = channels.div_ceil(4) * 4;
    let mut bytes = vec![0; pixels.len() / channels * row];
    for (to, from) in bytes.chunks_mut(row).zip(pixels.chunks(channels)) {
        to[..channels].copy_from_slice(from);
    }
    let words = bytemuck::pod_collect_to_vec(&bytes);
    Tensor::new(on, DType::U32, pixels.len() / channels, row / 4, words)
}
