use crate::{
    Backend, Result, Tensor,
    kernels::{
        Activation, BinaryMatrix, Channels, Epilogue, Int8Weights, activate, add, binarize,
        longest_row, matmul_binary, matmul_i8_with, quantize_rows,
    },
    nn::{
        layers::weight::{Weight, bytes},
        store::{Int8Channel, Int8Channels, Model},
    },
};

/// How a layer takes its inputs, and what it multiplies them with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// As f32: the weights alone are compressed.
    #[default]
    Float,
    /// Quantized to 8 bits, with a scale and a zero point for every row: products are of integers. The weights must be stored as
    /// integer codes of 2 to 8 bits, with a scale and perhaps a zero point for each row or for all; they are held as codes of 8
    /// bits. A layer whose weights are stored otherwise, in groups within a row for one, is refused.
    Int8,
    /// [`Arithmetic::Int8`] where the weights are stored as such codes of 8 bits, [`Arithmetic::Float`] elsewhere;
    /// [`Linear::is_int8`] tells.
    Mixed,
    /// As f32; of the weights only the signs are held, and the mean magnitude of each row.
    BinaryWeights,
    /// As signs too, with the mean magnitude of each row: a product counts the signs that agree. Made for networks that were
    /// trained so; a row without negative values, such as a ReLU gives, has nothing left but its mean. The means are found on
    /// the host, so that a layer reads three numbers of each row back.
    Binary,
}

/// A dense layer: `y = activation(W x + b)`, W of shape `[outputs, inputs]`; a row of the input tensor is one x.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes = [1f32, 0.0, 0.0, 1.0, -1.0, -1.0].map(f32::to_le_bytes).concat();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![3, 2], &bytes);
/// # safetensors::serialize_to_file([("fc.weight", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, Tensor, kernels::Activation, nn::{Arithmetic, Linear, Model}};
///
/// // `path`: a checkpoint of one matrix, `fc.weight`: [[1, 0], [0, 1], [-1, -1]].
/// let (on, model) = (Backend::Cpu, Model::open(&path)?);
/// let fc = Linear::load(&model, &on, "fc", 2, Activation::Relu, Arithmetic::Float)?;
/// let y = fc.forward(&on, &Tensor::from_f32(&on, &[3.0, 4.0], 1)?)?;
/// assert_eq!(y.read_f32(&on)?, [3.0, 4.0, 0.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    form: Form,
    activation: Activation,
    inputs: usize,
    outputs: usize,
}

#[derive(Clone, Debug)]
enum Form {
    Float {
        weight: Weight,
        bias: Option<Tensor>,
    },
    /// The codes, and the channels that [`matmul_i8`](crate::kernels::matmul_i8()) wants: sum, zero point, scale and bias.
    Int8 {
        codes: Int8Weights,
        channels: Channels,
    },
    Binary {
        weight: BinaryMatrix,
        bias: Option<Tensor>,
    },
}

impl Linear {
    /// Loads `<name>.weight` and, if there is one, `<name>.bias`.
    ///
    /// # Errors
    ///
    /// [`Error::Format`](crate::Error::Format) if the weight is missing, does not take `inputs` inputs or is stored in a form
    /// that the arithmetic has no product for, or the bias has not a value for every output; [`Error::Digest`](crate::Error::Digest), [`Error::Io`](crate::Error::Io),
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn load(
        model: &Model,
        on: &Backend,
        name: &str,
        inputs: usize,
        activation: Activation,
        arithmetic: Arithmetic,
    ) -> Result<Self> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let (outputs, inputs) = model.expect_matrix(&weight, inputs)?;
        let biases = match model.has(&bias) {
            true => Some(model.values(&bias, outputs)?),
            false => None,
        };
        let vector = |b: Option<Vec<f32>>| b.map(|b| Tensor::from_f32(on, &b, 1)).transpose();
        let form = match arithmetic {
            Arithmetic::Mixed if !model.has_int8(&weight) => {
                Form::Float { weight: model.weight(on, &weight, inputs)?, bias: vector(biases)? }
            }
            Arithmetic::Float => {
                Form::Float { weight: model.weight(on, &weight, inputs)?, bias: vector(biases)? }
            }
            Arithmetic::BinaryWeights => Form::Float {
                weight: model.binary_weight(on, &weight, inputs)?,
                bias: vector(biases)?,
            },
            Arithmetic::Binary => {
                Form::Binary { weight: model.binary(on, &weight, inputs)?, bias: vector(biases)? }
            }
            Arithmetic::Int8 | Arithmetic::Mixed => {
                let Int8Channels { codes, channels } = model.int8(on, &weight, inputs)?;
                let longest = longest_row(false, channels.iter().all(|c| c.zero_point == 0));
                if inputs > longest {
                    let expected = format!("has {inputs} inputs, expected at most {longest}");
                    let why = format!("{expected}, so that sums of integers fit 32 bits");
                    return Err(model.refuse(&weight, &why));
                }
                let row = |(o, c): (usize, &Int8Channel)| {
                    let bias = biases.as_ref().map_or(0.0, |b| b[o]);
                    [c.sum as u32, c.zero_point as u32, c.scale.to_bits(), bias.to_bits()]
                };
                let table: Vec<_> = channels.iter().enumerate().map(row).collect();
                let codes = Int8Weights::new(on, codes, false)?;
                Form::Int8 { codes, channels: Channels::new(on, &table)? }
            }
        };
        Ok(Self { form, activation, inputs, outputs })
    }

    /// Applies the layer to every row: F32 `[rows, inputs]` to F32 `[rows, outputs]`.
    ///
    /// Agreement: that of the product that the [`Arithmetic`] and the form of the weight choose: `matmul_f32`, `matmul_affine`,
    /// `matmul_palette`, `matmul_sparse`, `matmul_i8` or `matmul_binary` of [`kernels`](crate::kernels).
    ///
    /// # Errors
    ///
    /// [`Error::Shape`](crate::Error::Shape) if x has not as many columns as the layer has inputs;
    /// [`Error::Gpu`](crate::Error::Gpu) if the device fails.
    pub fn forward(&self, on: &Backend, x: &Tensor) -> Result<Tensor> {
        match &self.form {
            Form::Float { weight, bias } => weight.product(on, x, bias.as_ref(), self.activation),
            Form::Int8 { codes, channels } => {
                let x = quantize_rows(on, x)?;
                let epilogue =
                    Epilogue::Float { rows: Some(&x.scales), activation: self.activation };
                matmul_i8_with(on, &x.codes, codes, channels, epilogue)
            }
            // One rounding a step, so that all backends agree to the last bit, which the next layer's signs may hang on.
            Form::Binary { weight, bias } => {
                let mut y = matmul_binary(on, &binarize(on, x)?, weight, None)?;
                if let Some(bias) = bias {
                    y = add(on, &y, bias)?;
                }
                match self.activation {
                    Activation::None => Ok(y),
                    activation => activate(on, &y, activation),
                }
            }
        }
    }

    /// Columns it takes.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns it gives.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether its products are of integers.
    pub fn is_int8(&self) -> bool {
        matches!(self.form, Form::Int8 { .. })
    }

    /// Bytes it takes on the device.
    pub fn bytes(&self) -> u64 {
        match &self.form {
            Form::Float { weight, bias } => weight.bytes() + bias.as_ref().map_or(0, bytes),
            Form::Int8 { codes, channels } => codes.bytes() + channels.bytes(),
            Form::Binary { weight, bias } => {
                bytes(&weight.bits) + bytes(&weight.scales) + bias.as_ref().map_or(0, bytes)
            }
        }
    }
}
