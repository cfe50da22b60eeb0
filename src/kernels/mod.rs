//! One module per kernel. Each holds the contract, the CPU reference and the GPU path.

mod groups;
pub mod order_key;
mod range;

pub use groups::Groups;
pub use range::{Range, range};

use crate::{Error, Result, Tensor};

/// Every kernel, for the tests and benches that must not miss one.
pub const ALL: &[&crate::gpu::Kernel] = &[&crate::gpu::NUMERICS, &range::KERNEL];

/// Refuses a tensor whose elements are no weights.
fn expect_weights(kernel: &'static str, weights: &Tensor) -> Result<()> {
    let dtype = weights.dtype();
    if dtype.is_weight() {
        return Ok(());
    }
    Err(Error::shape(kernel, "dtype", dtype.name(), "F64, F32, F16, BF16, F8_E4M3 or F8_E5M2"))
}
