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
    ///
    /// [`Cause::Refused`] counts as the device's, though the mistake may be in a shader or a call of this crate: that drivers
    /// refuse what is valid happens, from here the two cannot be told apart, and a user's job must finish either way. It is
    /// never hidden: the note, the report and the exit status say that work was redone, and the words of the cause whose
    /// mistake it may be.
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
    ///
    /// # Panics
    ///
    /// If `expected` does.
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
        let done = gpu::quietly(|| device(picked));
        if first && !matches!(done, Some(Ok(_))) {
            self.forget_kind(task);
        }
        // What the host does with the results of a device must be prepared for anything; but a panic is a mistake of ours
        // where the CPU panics too, and that one is neither silent nor held.
        let Some(done) = done else {
            expected()?;
            return Err(self.distrust(task.chain, "its results make no sense"));
        };
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

#[cfg(test)]
mod tests {
    use crate::{
        Backend, Cancel, Cause, DType, Device, Error, Silent, Tensor,
        decide::groups::Groups,
        engine::{Chain, Engine, Needs},
        kernels::range,
        stage::Blocks,
    };
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn open() -> Option<Backend> {
        match Backend::open(Device::Gpu) {
            Ok(on) => Some(on),
            Err(e) if std::env::var_os("TERSOR_REQUIRE_GPU").is_some() => panic!("{e}"),
            Err(e) => {
                eprintln!("SKIPPED: {e}");
                None
            }
        }
    }

    /// A card is not blamed for a mistake that the CPU makes as well.
    #[test]
    fn a_panic_is_the_devices_only_where_the_cpu_does_not_panic() {
        let Some(on) = open() else { return };
        let (blocks, cancel) = (Blocks::new(DType::F32, (4, 32)), Cancel::new());
        let chain = Chain { kernel: "range", tensor: "w", needs: Needs::default() };
        let job = |ours: bool| {
            let engine = Engine::new(&on, &Silent, &cancel, 0, 0.0);
            let mut elements = vec![1.0f32.to_bits(); 128];
            let run = || {
                engine.run(chain, &blocks, &blocks.units(0)[0], &mut elements, |on, tiles| {
                    assert!(!ours, "a mistake of ours");
                    assert!(matches!(on, Backend::Cpu), "a result out of bounds");
                    range(on, &tiles[0].weights, Groups::of(128))
                })
            };
            let done = catch_unwind(AssertUnwindSafe(run));
            (done, engine.counts())
        };
        let (done, counts) = job(false);
        assert_eq!(done.expect("the CPU does not panic").unwrap().len(), 1);
        let reason = counts.reasons.first().expect("it is noted");
        assert!(reason.contains("its results make no sense"), "{reason}");
        let (done, counts) = job(true);
        let panic = done.expect_err("both panic");
        assert_eq!(panic.downcast_ref(), Some(&"a mistake of ours"));
        assert_eq!((counts.repaired, counts.reasons.len()), (0, 0), "{counts:?}");
    }

    /// What a kernel is given is the caller's affair: had the CPU to do it again, a mistake would look like a bad card.
    #[test]
    fn a_mistake_of_the_caller_is_returned_and_a_failure_of_the_device_repaired() {
        let (Some(on), Some(other)) = (open(), open()) else { return };
        let (blocks, cancel) = (Blocks::new(DType::F32, (4, 32)), Cancel::new());
        let unit = &blocks.units(0)[0];
        let weights = [1.0; 128];
        let of = |on: &Backend| Tensor::from_f32(on, &weights, 4).unwrap();
        let (on_cpu, on_other) = (of(&Backend::Cpu), of(&other));
        let chain = Chain { kernel: "range", tensor: "w", needs: Needs::default() };
        // A job whose device gets wrong what the CPU gets right.
        let job = |on: &Backend, wrong: &dyn Fn(&Backend) -> crate::Result<Vec<_>>| {
            let engine = Engine::new(on, &Silent, &cancel, 0, 0.0);
            let mut elements = bytemuck::cast_slice(&weights).to_vec();
            let done = engine.run(chain, &blocks, unit, &mut elements, |on, tiles| match on {
                Backend::Gpu(_) => wrong(on),
                Backend::Cpu => range(on, &tiles[0].weights, Groups::of(128)),
            });
            (done, engine.counts())
        };
        for tensor in [&on_cpu, &on_other] {
            let (done, counts) = job(&on, &|on| range(on, tensor, Groups::of(128)));
            assert!(matches!(done, Err(Error::Backend { .. })), "{done:?}");
            assert_eq!((counts.repaired, counts.cpu), (0, 0), "{counts:?}");
        }
        let read = |on: &Backend| on_other.read(on).map(|_| Vec::new());
        assert!(matches!(job(&on, &read).0, Err(Error::Backend { .. })));
        let (done, counts) = job(&on, &|_| Err(Error::shape("range", "w", 1, 2)));
        assert!(matches!(done, Err(Error::Shape { .. })) && counts.repaired == 0, "{done:?}");
        for cause in [Cause::Beyond, Cause::Refused, Cause::Failed] {
            let failed = Error::Gpu { kernel: "range", cause, message: "thus".into() };
            let reason = failed.to_string();
            let failed = std::sync::Mutex::new(Some(failed));
            let (done, counts) = job(&on, &|_| Err(failed.lock().unwrap().take().unwrap()));
            assert_eq!(done.unwrap().len(), 1);
            assert_eq!((counts.repaired, counts.cpu, counts.gpu), (1, 1, 0));
            let says = match cause {
                Cause::Beyond => "beyond the device: thus",
                Cause::Refused => {
                    "not accepted by wgpu or the driver, a mistake there or in tersor: thus"
                }
                _ => "the device failed: thus",
            };
            assert_eq!(reason, format!("range: {says}"));
            assert!(counts.reasons.iter().eq([&reason]), "{counts:?}");
        }
    }
}
