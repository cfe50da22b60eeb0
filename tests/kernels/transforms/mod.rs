mod transform;
mod untransform;

use tersor::form::{BlockTransform, TransformKind};

/// Every kind and block, a cosine transform with steps too.
pub fn transforms() -> Vec<BlockTransform> {
    let of = |kind, block, steps| BlockTransform { kind, block, steps };
    let hadamard = (3..=8).map(|b| of(TransformKind::Hadamard { seed: 5 + b }, 1 << b, vec![]));
    let dct = [8, 16, 32].map(|block| of(TransformKind::Dct, block, vec![]));
    let stepped = of(TransformKind::Dct, 8, vec![16, 11, 10, 16, 24, 40, 51, 255]);
    hadamard.chain(dct).chain([stepped]).collect()
}

/// The orthonormal matrix by its definition: the factor of weight `i` in coefficient `k`, the signs aside.
pub fn factor(of: &BlockTransform, i: usize, k: usize) -> f64 {
    let block = f64::from(of.block);
    match of.kind {
        TransformKind::Hadamard { .. } => (-1f64).powi((i & k).count_ones() as i32) / block.sqrt(),
        TransformKind::Dct => {
            let root = if k == 0 { (1.0 / block).sqrt() } else { (2.0 / block).sqrt() };
            let angle = std::f64::consts::PI * ((2 * i + 1) * k) as f64 / (2.0 * block);
            root * angle.cos()
        }
    }
}

/// The sign of weight `i`: a bit of a number of splitmix64.
pub fn sign(of: &BlockTransform, i: usize) -> f64 {
    match of.kind {
        TransformKind::Hadamard { seed } => {
            let word = crate::support::splitmix64(seed.into()).nth(i / 64).unwrap();
            if word >> (i % 64) & 1 == 1 { -1.0 } else { 1.0 }
        }
        TransformKind::Dct => 1.0,
    }
}

/// By how much coefficient `k` is divided.
pub fn step(of: &BlockTransform, k: usize) -> f64 {
    let least = of.steps.iter().min().copied().unwrap_or(1);
    of.steps.get(k).map_or(1.0, |q| f64::from(*q) / f64::from(least))
}
