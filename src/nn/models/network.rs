use crate::{
    Backend, Error, Result, Tensor,
    kernels::{Activation, Image, Window, im2col, max_pool},
    nn::{
        layers::linear::{Arithmetic, Linear},
        store::Model,
    },
};

/// One layer of an [`Architecture`]. A dense layer after an image is one whose only window is the whole of it.
#[derive(Clone, Copy, Debug)]
pub struct LayerShape {
    /// Stem of its tensors' names.
    pub name: &'static str,
    /// The window of a convolution; none for a dense layer.
    pub window: Option<Window>,
    /// What follows it.
    pub activation: Activation,
    /// The window of a max-pooling after that.
    pub pool: Option<Window>,
}

/// A feed-forward network: what goes in, and its layers. How many outputs a layer has is in its weights.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// Height, width and channels of an image.
    pub image: [usize; 3],
    /// From the first layer to the last.
    pub layers: &'static [LayerShape],
}

const fn dense(name: &'static str, activation: Activation) -> LayerShape {
    LayerShape { name, window: None, activation, pool: None }
}

const fn convolution(name: &'static str) -> LayerShape {
    LayerShape {
        name,
        window: Some(Window { height: 5, width: 5, stride: 1, padding: 0 }),
        activation: Activation::None,
        pool: Some(Window { height: 2, width: 2, stride: 2, padding: 0 }),
    }
}

/// Source: LeCun, Bottou, Bengio, Haffner 1998.
pub const LENET_300_100: Architecture = Architecture {
    image: [28, 28, 1],
    layers: &[
        dense("fc1", Activation::Relu),
        dense("fc2", Activation::Relu),
        dense("fc3", Activation::None),
    ],
};

/// The form that Caffe made common: no activation after the convolutions.
pub const LENET_5: Architecture = Architecture {
    image: [28, 28, 1],
    layers: &[
        convolution("conv1"),
        convolution("conv2"),
        dense("fc1", Activation::Relu),
        dense("fc2", Activation::None),
    ],
};

/// The shape of a batch after a window has gone over it, with so many channels.
pub(in crate::nn) fn after(image: Image, window: Window, channels: usize) -> Image {
    let along = |n: usize, w: usize| (n + 2 * window.padding).saturating_sub(w) / window.stride + 1;
    Image {
        height: along(image.height, window.height),
        width: along(image.width, window.width),
        channels,
        ..image
    }
}

/// The window of a layer on an image: its own, or all of it.
pub(in crate::nn) fn window_on(shape: &LayerShape, image: Image) -> Window {
    let (height, width) = (image.height, image.width);
    shape.window.unwrap_or(Window { height, width, stride: 1, padding: 0 })
}

/// The inputs of a layer, a row for each window; what is one row already stays.
pub(in crate::nn) fn patches(
    on: &Backend,
    x: Tensor,
    image: Image,
    window: Window,
) -> Result<Tensor> {
    match (image.height, image.width) {
        (1, 1) => Ok(x),
        _ => im2col(on, &x, image, window, 0),
    }
}

/// The batch that so many values make; refuses what is no whole number of images.
pub(in crate::nn) fn expect_images(
    architecture: &Architecture,
    network: &'static str,
    values: usize,
) -> Result<Image> {
    let one = architecture.image.iter().product::<usize>();
    if !values.is_multiple_of(one) {
        let expected = format!("a multiple of {one}, an image");
        return Err(Error::shape(network, "values of the images", values, expected));
    }
    Ok(architecture.batch(values / one))
}

/// Refuses a window, of a layer or of the pooling after it, that is larger than the image before it.
pub(in crate::nn) fn expect_windows(model: &Model, shape: &LayerShape, image: Image) -> Result<()> {
    let places = match shape.window {
        Some(window) => window.output(image),
        None => Ok(Image { height: 1, width: 1, ..image }),
    };
    let pooled = places.and_then(|places| match shape.pool {
        Some(pool) => pool.output(places),
        None => Ok(places),
    });
    let why = |e| {
        let (height, width) = (image.height, image.width);
        model.refuse(
            &format!("{}.weight", shape.name),
            &format!("on {height} x {width} pixels: {e}"),
        )
    };
    pooled.map(|_| ()).map_err(why)
}

impl Architecture {
    /// A batch of so many images.
    pub(in crate::nn) fn batch(&self, count: usize) -> Image {
        let [height, width, channels] = self.image;
        Image { count, height, width, channels }
    }
}

/// Dense and convolution layers one after the other, on weights as they are stored.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes = [1f32, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0].map(f32::to_le_bytes).concat();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 4], &bytes);
/// # safetensors::serialize_to_file([("fc.weight", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, kernels::Activation};
/// use tersor::nn::{Architecture, Arithmetic, LayerShape, Model, Network};
///
/// // `path`: a checkpoint of one matrix, `fc.weight`: [[1, 0, 0, 0], [0, 0, 0, 1]].
/// const CORNERS: Architecture = Architecture {
///     image: [2, 2, 1],
///     layers: &[LayerShape { name: "fc", window: None, activation: Activation::None, pool: None }],
/// };
/// let (on, model) = (Backend::Cpu, Model::open(&path)?);
/// let network = Network::load(&model, &on, CORNERS, Arithmetic::Float)?;
/// // Two images: the first is bright at the top left, the second at the bottom right.
/// assert_eq!(network.classify(&on, &[255, 0, 0, 9, 0, 0, 0, 255])?, [0, 1]);
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    architecture: Architecture,
    layers: Vec<Linear>,
}

impl Network {
    /// Loads every layer, and checks that each takes what the one before gives. With [`Arithmetic::Binary`] the first and the
    /// last layer take their inputs as f32, as in XNOR-Net (Rastegari et al. 2016, arXiv 1603.05279).
    ///
    /// # Errors
    ///
    /// As [`Linear::load`].
    pub fn load(
        model: &Model,
        on: &Backend,
        architecture: Architecture,
        arithmetic: Arithmetic,
    ) -> Result<Self> {
        let (mut image, mut layers) = (architecture.batch(1), Vec::new());
        for (l, shape) in architecture.layers.iter().enumerate() {
            let window = window_on(shape, image);
            expect_windows(model, shape, image)?;
            let inputs = window.height * window.width * image.channels;
            let arithmetic = match arithmetic {
                Arithmetic::Binary if l == 0 || l + 1 == architecture.layers.len() => {
                    Arithmetic::BinaryWeights
                }
                other => other,
            };
            let layer = Linear::load(model, on, shape.name, inputs, shape.activation, arithmetic)?;
            image = after(image, window, layer.outputs());
            if let Some(pool) = shape.pool {
                image = after(image, pool, image.channels);
            }
            layers.push(layer);
        }
        Ok(Self { architecture, layers })
    }

    /// The outputs of the last layer for a batch of images.
    ///
    /// - `images`: F32 `[count * height * width, channels]`, pixels from 0 to 1.
    /// - returns F32 `[count, classes]`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the images have another shape; [`Error::Gpu`].
    pub fn forward(&self, on: &Backend, images: &Tensor) -> Result<Tensor> {
        self.trace(on, images, |_| Ok(()))
    }

    /// [`Network::forward`], showing the outputs of every layer, before pooling, to `see`.
    pub(in crate::nn) fn trace(
        &self,
        on: &Backend,
        images: &Tensor,
        mut see: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut image = expect_images(&self.architecture, "network", images.elements())?;
        let mut x = images.clone();
        for (shape, layer) in self.architecture.layers.iter().zip(&self.layers) {
            let window = window_on(shape, image);
            x = layer.forward(on, &patches(on, x, image, window)?)?;
            see(&x)?;
            image = after(image, window, layer.outputs());
            if let Some(pool) = shape.pool {
                x = max_pool(on, &x, image, pool, true)?;
                image = after(image, pool, image.channels);
            }
        }
        Ok(x)
    }

    /// The class of every image: the largest output, the first of equal ones.
    ///
    /// - `pixels`: a byte each, image by image, row by row.
    ///
    /// # Errors
    ///
    /// As [`Network::forward`].
    pub fn classify(&self, on: &Backend, pixels: &[u8]) -> Result<Vec<usize>> {
        let mut classes = Vec::new();
        for batch in pixels.chunks(BATCH * self.architecture.image.iter().product::<usize>()) {
            let outputs = self.forward(on, &self.images(on, batch)?)?;
            let width = outputs.cols();
            classes.extend(
                outputs
                    .read_f32(on)?
                    .chunks(width)
                    .map(|o| largest(o.iter().copied().map(f64::from))),
            );
        }
        Ok(classes)
    }

    /// Pixels as a batch of images, from 0 to 1.
    pub(in crate::nn) fn images(&self, on: &Backend, pixels: &[u8]) -> Result<Tensor> {
        let values: Vec<f32> = pixels.iter().map(|p| f32::from(*p) / 255.0).collect();
        Tensor::from_f32(on, &values, pixels.len() / self.architecture.image[2])
    }

    /// Bytes its weights take on the device.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(Linear::bytes).sum()
    }
}

/// Images that run together: their patches stay below any device's binding.
pub(in crate::nn) const BATCH: usize = 250;

/// The number of the largest, the first of equal ones.
pub(in crate::nn) fn largest(outputs: impl Iterator<Item = f64>) -> usize {
    let best = outputs
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (i, o)| if o > best.1 { (i, o) } else { best });
    best.0
}
