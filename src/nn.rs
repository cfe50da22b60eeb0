//! Layers, as far as the demo needs them: a dense layer in f32, on the CPU.

use crate::{Error, Result, dtype, format::Checkpoint, stage::Blocks, stage::Source};
use multiversion::multiversion;
use rayon::prelude::*;

/// `y = W x + b`, with W of shape `[outputs, inputs]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Linear {
    /// Reads `<name>.weight` and `<name>.bias` of a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if one is missing or their shapes do not fit each other.
    pub fn load(checkpoint: &Checkpoint, name: &str) -> Result<Self> {
        let read = |part: &str, rank: usize| {
            let full = format!("{name}.{part}");
            let found = checkpoint
                .tensors
                .iter()
                .find(|t| t.name == full && t.shape.len() == rank && t.dtype.is_weight());
            let info = found.ok_or_else(|| {
                Error::format(
                    &checkpoint.root,
                    format!("layer {name}: no {full} of {rank} dimensions"),
                )
            })?;
            let blocks = Blocks::new(info.dtype, (info.rows(), info.cols()));
            let source = Source::open(checkpoint, info, 0);
            let mut values = Vec::new();
            for unit in blocks.units(0) {
                let start = values.len();
                values.resize(start + unit.elements(), 0.0);
                dtype::decode(info.dtype, &source.load(&blocks, &unit)?, 0, &mut values[start..]);
            }
            Ok((values, info.shape.clone()))
        };
        let ((weight, shape), (bias, of_bias)) = (read("weight", 2)?, read("bias", 1)?);
        if of_bias[0] != shape[0] {
            let why = format!("layer {name}: bias of {}, expected {}", of_bias[0], shape[0]);
            return Err(Error::format(&checkpoint.root, why));
        }
        Ok(Self { weight, bias, inputs: shape[1] as usize })
    }

    /// Applies the layer to one input vector.
    ///
    /// # Panics
    ///
    /// If `x` has not as many elements as the layer has inputs.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        assert_eq!(x.len(), self.inputs, "inputs of the layer");
        self.weight.chunks(self.inputs).zip(&self.bias).map(|(row, b)| dot(row, x) + b).collect()
    }
}

/// Sixteen sums side by side, so that the order does not depend on the machine.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// The share of inputs that a network of dense layers, ReLU between them, gives another class than their label.
///
/// # Panics
///
/// If there are not as many labels as inputs.
pub fn error_rate(layers: &[Linear], inputs: &[Vec<f32>], labels: &[u8]) -> f64 {
    assert_eq!(inputs.len(), labels.len(), "a label for every input");
    let wrong = inputs.par_iter().zip(labels).filter(|(x, label)| {
        let mut x = (*x).clone();
        for (i, layer) in layers.iter().enumerate() {
            if i > 0 {
                x.iter_mut().for_each(|v| *v = v.max(0.0));
            }
            x = layer.forward(&x);
        }
        let best = x.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class);
        best != Some(usize::from(**label))
    });
    wrong.count() as f64 / inputs.len() as f64
}
