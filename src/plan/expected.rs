//! What a treated tensor is expected to take. Exact where it is not coded, holds no NaN, and its own weights decide what is pruned;
//! of a coded one, what it takes if its weights are about normally distributed.

use crate::{
    DType, TensorInfo,
    codec::block::Element,
    form::Method,
    plan::{
        bounds::{stored_bytes, survivors},
        step::Treat,
    },
    recipe::{Encode, Prune, Quantize, TrellisGoal},
    stage::Blocks,
};

/// Bits of entropy that the exponents of normally distributed values have.
const EXPONENT: f64 = 2.6;

/// The bytes of a treated tensor, headers aside.
pub(super) fn expected_bytes(t: &TensorInfo, treat: &Treat) -> u64 {
    let manifest = &treat.manifest;
    if !manifest.coded {
        return stored_bytes(treat, false);
    }
    let blocks = Blocks::new(manifest.dtype, manifest.matrix());
    let all = blocks.elements() as f64;
    // Codes or values: of vectors fewer than weights, of their stages perhaps more.
    let stored = manifest.stored_cols(survivors(treat, false) as usize) as f64;
    let symbol = match manifest.element() {
        Element::Code(bits) | Element::Path(bits, _) => code_bits(treat, bits),
        Element::Value(dtype) => value_bits(dtype),
    };
    let bits = match treat.treatment.encode {
        Some(Encode::Retrieval { max_error, .. }) => {
            // As many bits more as make false positives, which have the survivors' values, rare enough.
            let wrong = (all - stored) / stored / (max_error * max_error);
            stored * (symbol.ceil() + wrong.log2().ceil().max(0.0)).min(15.0)
        }
        _ => stored * symbol + all * index_bits(treat, survivors(treat, false) as f64 / all),
    };
    let beside = manifest.table_starts().0 + 4 * blocks.count();
    t.bytes.min(beside + (bits / 8.0).ceil() as u64)
}

/// Bits of a code: what it has been asked for, or somewhat less than it is wide.
fn code_bits(treat: &Treat, width: u32) -> f64 {
    let width = f64::from(width);
    match (&treat.treatment.quantize, treat.manifest.method) {
        (Some(Quantize::Entropy { bits }), _) => 1.005 * bits,
        (Some(Quantize::Trellis { goal: TrellisGoal::Bits(bits), .. }), _) => *bits,
        // The squared error of normally distributed weights at so many bits is about 1.1 * 4^-bits.
        (Some(Quantize::Trellis { goal: TrellisGoal::Error(error), .. }), _) => {
            (1.05 / error).log2().clamp(0.1, width)
        }
        // The fewest bits of the best tables with that error.
        (Some(Quantize::Palette { max_error: Some(error), .. }), _) => {
            (1.65 / error).log2().ceil().clamp(1.0, width) - 0.2
        }
        (_, Method::Palette(_)) if width > 1.0 => width - 0.2,
        (_, Method::Affine(_)) => width - 0.6,
        (_, Method::Vector(_)) => width - 0.1,
        _ => width,
    }
}

/// Bits of a value that comes back bit for bit; of what is no float, nothing is known.
fn value_bits(dtype: DType) -> f64 {
    let sign_and_mantissa = match dtype {
        DType::F64 => 53.0,
        DType::F32 => 24.0,
        DType::F16 => 11.0,
        DType::BF16 => 8.0,
        DType::F8E4M3 => 4.0,
        DType::F8E5M2 => 3.0,
        _ => return dtype.bits() as f64,
    };
    sign_and_mantissa + EXPONENT
}

/// Bits of a weight's share of the index: the entropy of whether it survives, which whole rows and blocks share by the byte.
fn index_bits(treat: &Treat, density: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    let entropy = part(density) + part(1.0 - density);
    match treat.prune {
        None => 0.0,
        Some(Prune::Channel { .. } | Prune::Block { .. }) => entropy / 8.0,
        Some(Prune::Magnitude { .. } | Prune::NOfM { .. }) => entropy,
    }
}
