use super::{Model, Weight, model::Int8Channels, weight::bytes};
use crate::{
    Backend, Result, Tensor,
    kernels::{Activation, Channels, Epilogue, Int8, matmul_i8, quantize_rows},
};

/// How a layer takes its inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// As f32: the weights alone are compressed.
    #[default]
    Float,
    /// Quantized to 8 bits, with a scale and a zero point for every row, where the weights are symmetric 8-bit codes with a scale for every
    /// channel or one for all: then products are of integers. Other layers take them as f32.
    Int8,
    /// As f32; of the weights only the signs are held, and the mean magnitude of each row.
    BinaryWeights,
}

/// A dense layer: `y = activation(W x + b)`, W of shape `[outputs, inputs]`; a row of the input tensor is one x.
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
    /// The codes, and the channels that [`matmul_i8`] wants: scale and bias.
    Int8 {
        codes: Int8,
        channels: Channels,
    },
}

impl Linear {
    /// Loads `<name>.weight` and, if there is one, `<name>.bias`.
    ///
    /// # Errors
    ///
    /// [`Error::Format`](crate::Error::Format) if the weight is missing or does not take `inputs` inputs, or the bias has not
    /// a value for every output; [`Error::Digest`](crate::Error::Digest), [`Error::Io`](crate::Error::Io),
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
        let integer = match arithmetic {
            Arithmetic::Float | Arithmetic::BinaryWeights => None,
            Arithmetic::Int8 => model.int8(on, &weight, inputs)?,
        };
        let form = match integer {
            Some(Int8Channels { codes, scales }) => {
                // What the zero points of the activations count: the sums of the codes.
                let words = codes.words.read(on)?;
                let sums = words.chunks(inputs.div_ceil(4).max(1)).map(|row| {
                    bytemuck::cast_slice(row).iter().map(|c: &i8| i32::from(*c)).sum::<i32>()
                });
                let channel = |(o, (scale, sum)): (usize, (&f32, i32))| {
                    let bias = biases.as_ref().map_or(0.0, |b| b[o]);
                    [sum as u32, 0, scale.to_bits(), bias.to_bits()]
                };
                let table: Vec<_> = scales.iter().zip(sums).enumerate().map(channel).collect();
                Form::Int8 { codes, channels: Channels::new(on, &table)? }
            }
            None => Form::Float {
                weight: match arithmetic {
                    Arithmetic::BinaryWeights => model.binary_weight(on, &weight, inputs)?,
                    _ => model.weight(on, &weight, inputs)?,
                },
                bias: biases.map(|b| Tensor::from_f32(on, &b, 1)).transpose()?,
            },
        };
        Ok(Self { form, activation, inputs, outputs })
    }

    /// Applies the layer to every row: F32 `[rows, inputs]` to F32 `[rows, outputs]`.
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
                matmul_i8(on, &x.codes, codes, channels, epilogue)
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
            Form::Int8 { codes, channels } => bytes(&codes.words) + channels.bytes(),
        }
    }
}
