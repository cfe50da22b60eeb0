//! What a device is believed: which of its work is done on the CPU as well, and what becomes of one that was wrong.

use crate::{
    Backend, Cause, DType, Error, Result,
    digest::digest,
    engine::{Chain, Engine, Needs, Task},
    quote::quoted,
};
use std::sync::{PoisonError, atomic::Ordering::Relaxed};

/// A chain of kernels, the type and the length of the rows that it is given, and whether that is the end of a row that is cut.
/// Which code runs and how it finds its elements depends on these; more rows are only more of the same.
pub(super) type Kind = (&'static str, DType, usize, bool);

impl Task<'_> {
    /// What it is one of, for the first of a tensor, and the end of a first row that is cut.
    fn kind(&self) -> Option<Kind> {
        let (unit, start) = (self.unit, self.unit.start(self.blocks));
        let ends_row = start > 0 && unit.rows.start == 0 && unit.cols.end == self.blocks.cols;
        let kind = (self.chain.kernel, self.blocks.dtype, unit.shape().1, ends_row);
        (start == 0 || ends_row).then_some(kind)
    }
}

impl Engine<'_> {
    /// Whether a task is the first of its kind, which is always picked.
    pub(super) fn is_first_of_kind(&self, task: Task) -> bool {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        task.kind().is_some_and(|kind| kinds.insert(kind))
    }

    /// The first of a kind was not done: the next is to be.
    pub(super) fn forget_kind(&self, task: Task) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        task.kind().map(|kind| kinds.remove(&kind));
    }

    /// Whether a task is picked: a share of all is, by their names and places alone, so that every run picks the same.
    pub(super) fn draws(&self, Task { chain, blocks, unit }: Task) -> bool {
        let place = format!("{}\0{}\0{}", chain.kernel, unit.start(blocks), chain.tensor);
        let draw = u32::from_le_bytes(*digest(place.as_bytes()).first_chunk().expect("16 bytes"));
        f64::from(draw) < self.paranoid * 2f64.powi(32)
    }

    /// Gives the device up because it computes otherwise than the CPU: the error to return where that was found.
    pub(super) fn distrust(&self, chain: Chain, what: &str) -> Error {
        self.distrusted.store(true, Relaxed);
        self.given_up.store(true, Relaxed);
        let tensor = quoted(chain.tensor);
        let message = format!("tensor {tensor}, {what}; it is not used any more in this run");
        Error::Gpu { kernel: chain.kernel, cause: Cause::Wrong, message }
    }

    /// Whether the device has computed something wrong.
    pub(super) fn distrusted(&self) -> bool {
        self.distrusted.load(Relaxed)
    }

    /// Does `work` on a tensor, and does it again, on the CPU, if the device was found to compute wrong meanwhile: what it did
    /// just before was not all compared. So it does if the tensor that a device restores has another digest than it should.
    /// `work` must be able to begin anew.
    pub fn again<T>(&self, tensor: &str, work: impl Fn() -> Result<T>) -> Result<T> {
        let Backend::Gpu(gpu) = self.backend() else { return work() };
        let begun = self.mark();
        match work() {
            _ if self.distrusted() => {
                self.rewind(begun);
                work()
            }
            Err(Error::Digest { .. }) => {
                self.given_up.store(true, Relaxed);
                self.rewind(begun);
                let done = work()?;
                // So it was not the archive.
                let chain = Chain { kernel: "restore", tensor, needs: Needs::default() };
                self.record(&self.distrust(chain, "it has another digest"), gpu);
                Ok(done)
            }
            done => done,
        }
    }
}
