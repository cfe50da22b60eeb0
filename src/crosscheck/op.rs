//! What is cross-checked: a kernel with the cases to ask it.

use crate::{
    Backend, Result,
    crosscheck::{
        case::{Input, Outputs},
        compare::Class,
        inputs::Maker,
    },
    gpu::Kernel,
};

/// A kernel, or one way to use it.
pub struct Op {
    /// What `--ops` matches and the report shows.
    pub name: &'static str,
    /// Kernels that its cases run, its own first.
    pub kernels: &'static [&'static Kernel],
    /// How closely results must agree.
    pub class: Class,
    /// Bytes of its longest output for a byte of its longest input, at most: what is too long for the device of tiny limits is
    /// not tried there.
    pub expands: usize,
    /// Makes its cases.
    pub make: fn(&mut Maker),
    /// Runs one.
    pub run: fn(&Backend, &Input) -> Result<Outputs>,
}
