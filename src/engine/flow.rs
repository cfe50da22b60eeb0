//! How a device is given work: the one way there, for whatever kind of work, and the one way back to the CPU.

use crate::{
    Backend, Cause, Error, Result,
    engine::{Chain, Engine, Same, Task},
    gpu::{self, Gpu},
};
use std::sync::{PoisonError, atomic::Ordering::Relaxed};

impl Engine<'_> {
    /// Has the device do `work`, if there is one. `None` where the CPU is to do it: there is none, it was given up, or it has not
    /// done it, which is noted. An error that is not the device's is returned, since the CPU would not mend it.
    pub(super) fn try_device<T>(
        &self,
        work: impl FnOnce(&Backend, &Gpu) -> Result<T>,
    ) -> Result<Option<T>> {
        self.cancel.check()?;
        let on @ Backend::Gpu(gpu) = self.backend() else { return Ok(None) };
        match work(on, gpu) {
            Err(error @ Error::Gpu { .. }) => {
                self.record(&error, gpu);
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    /// Has the device do a task, in so many tiles, and answers for it: `device` is told whether the task is picked, and if it
    /// is, every bit must be as `expected` has it from the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device cannot, fails, is found wrong, or was given up meanwhile; whatever else the two return.
    pub(super) fn on_device<T: Same>(
        &self,
        task: Task,
        tiles: usize,
        device: impl FnOnce(bool) -> Result<T>,
        expected: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.given_up.load(Relaxed) {
            return Err(given_up(task.chain));
        }
        let first = self.is_first_of_kind(task);
        let picked = first || self.draws(task);
        // What the host does with the results of a device must be prepared for anything.
        let done = gpu::quietly(|| device(picked))
            .unwrap_or_else(|| Err(self.distrust(task.chain, "its results make no sense")));
        if first && done.is_err() {
            self.forget_kind(task);
        }
        let done = done?;
        if picked {
            let expected = expected()?;
            self.checked.fetch_add(tiles as u64, Relaxed);
            if let Some(what) = done.difference(&expected) {
                let start = task.unit.start(task.blocks);
                let what = format!("tile from element {start} on, {what}");
                return Err(self.distrust(task.chain, &what));
            }
        }
        // What was done beside something wrong does not count.
        if self.distrusted() {
            return Err(given_up(task.chain));
        }
        self.gpu_tiles.fetch_add(tiles as u64, Relaxed);
        Ok(done)
    }

    /// Notes why the device has not done something. Only a lost device is not asked again.
    pub(super) fn record(&self, error: &Error, gpu: &Gpu) {
        self.repaired.fetch_add(1, Relaxed);
        let reason = error.to_string();
        let follows = matches!(error, Error::Gpu { cause: Cause::GivenUp, .. });
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if reasons.insert(reason) && !follows {
            self.progress.warn(&format!("{error}; redone on the CPU"));
        }
        if gpu.is_lost() {
            self.given_up.store(true, Relaxed);
        }
    }
}

/// Work that was under way comes to nothing.
fn given_up(chain: Chain) -> Error {
    Error::Gpu { kernel: chain.kernel, cause: Cause::GivenUp, message: String::new() }
}
