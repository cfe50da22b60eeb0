//! Replaces the weights of a matrix by the 16 best values, on whatever backend is there.

use tersor::{Backend, Device, Tensor, ops};

fn main() -> tersor::Result<()> {
    let on = Backend::open(Device::Auto)?;
    let weights: Vec<f32> = (0..64 * 128).map(|i| (i as f32 * 0.7).sin().powi(3) * 0.02).collect();
    let matrix = Tensor::from_f32(&on, &weights, 64)?;
    let palettized = ops::palettize(&on, &matrix, 16)?;
    let restored = palettized.depalettize(&on)?.read_f32(&on)?;
    let error: f32 = weights.iter().zip(&restored).map(|(w, q)| (w - q).powi(2)).sum();
    let norm: f32 = weights.iter().map(|w| w * w).sum();
    println!(
        "{}: {:?}, relative error {:.4}",
        on.name(),
        palettized.entries,
        (error / norm).sqrt()
    );
    Ok(())
}
