//! Quantizes a matrix to 4 bits in groups of 32, on whatever backend is there.

use tersor::{Backend, Device, Tensor, affine::AffineCode, ops, recipe::Objective};

fn main() -> tersor::Result<()> {
    let on = Backend::open(Device::Auto)?;
    let weights: Vec<f32> = (0..64 * 128).map(|i| (i as f32 * 0.7).sin() * 0.02).collect();
    let matrix = Tensor::from_f32(&on, &weights, 64)?;
    let code = AffineCode { bits: 4, symmetric: true };
    let quantized = ops::quantize(&on, &matrix, code, Some(32), Objective::Mse)?;
    let restored = quantized.dequantize(&on)?.read_f32(&on)?;
    let error: f32 = weights.iter().zip(&restored).map(|(w, q)| (w - q).powi(2)).sum();
    let norm: f32 = weights.iter().map(|w| w * w).sum();
    println!(
        "{}: 4 bits, {} scales, relative error {:.4}",
        on.name(),
        quantized.scales.len(),
        (error / norm).sqrt()
    );
    Ok(())
}
