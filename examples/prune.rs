//! Prunes a matrix to a tenth of its weights, and to 2 of every 4, on whatever backend is there.

use tersor::{Backend, Device, Tensor, ops};

fn main() -> tersor::Result<()> {
    let on = Backend::open(Device::Auto)?;
    let weights: Vec<f32> = (0..64 * 128).map(|i| (i as f32 * 0.7).sin() * 0.02).collect();
    let matrix = Tensor::from_f32(&on, &weights, 64)?;
    for (name, pruned) in [
        ("a tenth", ops::prune_magnitude(&on, &matrix, 0.1)?),
        ("2 of 4", ops::prune_nm(&on, &matrix, 2, 4)?),
    ] {
        let restored = pruned.restore(&on)?.read_f32(&on)?;
        let same = weights.iter().zip(&restored).filter(|(w, q)| w == q).count();
        println!(
            "{}: {name}: density {:.4}, {same} weights unchanged",
            on.name(),
            pruned.density()
        );
    }
    Ok(())
}
