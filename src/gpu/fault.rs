//! Devices that compute wrongly, for tests of what must notice: behind the feature `faults`, which no build has by default.

use crate::{
    Error,
    gpu::{Gpu, Kernel, Result, lock},
};
use std::{borrow::Cow, collections::HashSet, sync::Mutex};

/// What goes wrong, in one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its source reads otherwise: `from`, which occurs once in it, is replaced.
    Shader {
        /// The kernel's name.
        kernel: &'static str,
        /// What is replaced.
        from: &'static str,
        /// By what.
        to: &'static str,
    },
    /// It is never started.
    SkipDispatch {
        /// The kernel's name.
        kernel: &'static str,
    },
    /// Its last workgroup is not started; where workgroups are folded over several dimensions, the last of the outermost.
    SkipLastWorkgroup {
        /// The kernel's name.
        kernel: &'static str,
    },
    /// It is started only the first time; later its outputs hold what they did before.
    OnlyOnce {
        /// The kernel's name.
        kernel: &'static str,
    },
    /// In every buffer it was given, as it is read back, one bit is another: number `bit`, or what is left of it by the length.
    FlipBit {
        /// The kernel's name.
        kernel: &'static str,
        /// The number of the bit.
        bit: usize,
    },
    /// Of every buffer it was given, as it is read back, the last words are zero.
    LoseTail {
        /// The kernel's name.
        kernel: &'static str,
        /// How many words.
        words: usize,
    },
}

impl Fault {
    /// The kernel that goes wrong.
    pub fn kernel(&self) -> &'static str {
        match self {
            Self::Shader { kernel, .. }
            | Self::SkipDispatch { kernel }
            | Self::SkipLastWorkgroup { kernel }
            | Self::OnlyOnce { kernel }
            | Self::FlipBit { kernel, .. }
            | Self::LoseTail { kernel, .. } => kernel,
        }
    }
}

/// The fault of a device, and what it has reached.
#[derive(Debug, Default)]
pub(super) struct Faults {
    installed: Mutex<Option<Fault>>,
    /// Buffers that the faulty kernel was given.
    touched: Mutex<HashSet<wgpu::Buffer>>,
    /// How often the faulty kernel was to be started.
    started: Mutex<u64>,
}

impl Faults {
    fn of(&self, kernel: &str) -> Option<Fault> {
        lock(&self.installed).filter(|fault| fault.kernel() == kernel)
    }

    /// Whether it is a kernel's.
    pub fn concerns(&self, kernel: &str) -> bool {
        self.of(kernel).is_some()
    }

    /// The source of a kernel.
    pub fn source(&self, kernel: &'static Kernel) -> Result<Cow<'static, str>> {
        let Some(Fault::Shader { from, to, .. }) = self.of(kernel.name) else {
            return Ok(kernel.wgsl.into());
        };
        match kernel.wgsl.matches(from).count() {
            1 => Ok(kernel.wgsl.replace(from, to).into()),
            n => Err(Error::shape(kernel.name, "occurrences", n, format!("{from:?} once"))),
        }
    }

    /// Which workgroups are really started, if any.
    pub fn workgroups(
        &self,
        kernel: &str,
        buffers: &[&super::Buffer],
        all: [u32; 3],
    ) -> Option<[u32; 3]> {
        let Some(fault) = self.of(kernel) else { return Some(all) };
        let mut started = lock(&self.started);
        *started += 1;
        let [x, y, z] = all;
        match fault {
            Fault::SkipDispatch { .. } => None,
            Fault::OnlyOnce { .. } if *started > 1 => None,
            Fault::SkipLastWorkgroup { .. } if z > 1 => Some([x, y, z - 1]),
            Fault::SkipLastWorkgroup { .. } if y > 1 => Some([x, y - 1, z]),
            Fault::SkipLastWorkgroup { .. } => (x > 1).then_some([x - 1, y, z]),
            Fault::FlipBit { .. } | Fault::LoseTail { .. } => {
                lock(&self.touched).extend(buffers.iter().map(|b| b.0.clone()));
                Some(all)
            }
            _ => Some(all),
        }
    }

    /// Whether what is read back of a buffer is wrong.
    pub fn reaches(&self, buffer: &super::Buffer) -> bool {
        lock(&self.touched).contains(&buffer.0)
    }

    /// Makes what was read back wrong.
    pub fn spoil(&self, words: &mut [u32]) {
        match *lock(&self.installed) {
            Some(Fault::FlipBit { bit, .. }) if !words.is_empty() => {
                let bit = bit % (32 * words.len());
                words[bit / 32] ^= 1 << (bit % 32);
            }
            Some(Fault::LoseTail { words: lost, .. }) => {
                let kept = words.len().saturating_sub(lost);
                words[kept..].fill(0);
            }
            _ => {}
        }
    }
}

impl Gpu {
    /// Installs a fault in place of the one before, or takes it away. Kernels are compiled anew.
    pub fn inject(&self, fault: Option<Fault>) {
        *lock(&self.faults.installed) = fault;
        *lock(&self.faults.started) = 0;
        lock(&self.faults.touched).clear();
        lock(&self.pipelines).clear();
    }

    /// How often the faulty kernel was to be started since the fault was installed: a test that never did proves nothing.
    pub fn faulty_starts(&self) -> u64 {
        *lock(&self.faults.started)
    }
}
