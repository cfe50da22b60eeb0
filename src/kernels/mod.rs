//! The kernels, in wings by subject: one file each, which holds the contract, the CPU reference and the GPU path.
//!
//! A kernel is told the backend that it runs on, and everything that it is given has to live there: [`Error::Backend`] if not.
//! [`Error::Gpu`] says that the device cannot do it, or failed: the CPU can do the same.
//!
//! [`Error::Backend`]: crate::Error::Backend
//! [`Error::Gpu`]: crate::Error::Gpu

/// The kernels of a wing: of each its file, and what the file gives to the world. A new kernel is a line here beside its `mod`.
macro_rules! kernels {
    ($($(#[$attribute:meta])* $file:ident: $($name:ident),+;)+) => {
        $($(#[$attribute])* pub use $file::{$($name),+};)+

        /// The kernels of this wing.
        pub(super) const KERNELS: &[&$crate::gpu::Kernel] = &[$(&$file::KERNEL),+];
    };
}

pub(crate) mod affine;
pub(crate) mod codes;
pub(crate) mod expect;
pub(crate) mod layers;
pub(crate) mod order;
pub(crate) mod palette;
pub(crate) mod products;
pub(crate) mod prune;
pub(crate) mod pyramid;
pub(crate) mod tasks;
pub(crate) mod transforms;
pub(crate) mod vectors;

#[doc(hidden)]
pub use crate::decide::histogram::TAIL;
pub use crate::{
    codec::block::IndexKind,
    decide::{groups::Groups, histogram::Histogram, order_key, range::Range},
    gpu::Kernel,
};
pub use affine::*;
pub use codes::*;
pub use layers::*;
pub use order::*;
pub use palette::*;
pub use products::*;
pub use prune::*;
pub use pyramid::*;
pub use transforms::*;
pub use vectors::*;

use std::sync::LazyLock;

/// Every kernel, by name, for the tests and benches that must not miss one.
#[doc(hidden)]
pub static ALL: LazyLock<Vec<&'static Kernel>> = LazyLock::new(|| {
    let wings = [
        affine::KERNELS,
        codes::KERNELS,
        layers::KERNELS,
        order::KERNELS,
        palette::KERNELS,
        products::KERNELS,
        prune::KERNELS,
        pyramid::KERNELS,
        transforms::KERNELS,
        vectors::KERNELS,
        &[&crate::gpu::NUMERICS],
    ];
    let mut all = wings.concat();
    all.sort_by_key(|k| k.name);
    all
});
