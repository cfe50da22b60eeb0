use crate::{
    Error, Result,
    gpu::{Gpu, lock},
};
use std::time::Duration;

/// Dispatches that one measurement may hold.
const SLOTS: u32 = 2048;

/// A kernel, and how long one dispatch of it took.
pub type Dispatched = (&'static str, Duration);

/// Timestamps around every dispatch of one measurement.
#[derive(Debug)]
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    /// The kernel of each.
    used: Vec<&'static str>,
}

impl Timer {
    pub(super) fn next(
        &mut self,
        kernel: &'static str,
    ) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let slot = self.used.len() as u32;
        self.used.push(kernel);
        (slot < SLOTS).then_some(wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * slot),
            end_of_pass_write_index: Some(2 * slot + 1),
        })
    }
}

impl Gpu {
    /// Runs `f` and returns the time its dispatches spent on the device; see [`Gpu::dispatches`].
    ///
    /// # Errors
    ///
    /// As [`Gpu::dispatches`].
    pub fn timed<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
        let (done, dispatches) = self.dispatches(f)?;
        Ok((done, dispatches.iter().map(|(_, time)| *time).sum()))
    }

    /// Runs `f` and returns the kernel and the time on the device of each of its dispatches (at most 2048, from any thread), by
    /// the device's own timestamps; transfers are not in it.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device has no timestamp queries or fails; [`Error::Usage`] if `f` dispatches nothing or too much, or
    /// another measurement begins meanwhile; whatever `f` returns.
    pub fn dispatches<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Dispatched>)> {
        if !self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::beyond("timestamps", "it has no timestamp queries"));
        }
        let queries = self.check("timestamps", || {
            self.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * SLOTS,
            })
        })?;
        *lock(&self.timer) = Some(Timer { queries, used: Vec::new() });
        let done = f();
        let timer = lock(&self.timer).take();
        let done = done?;
        let Some(Timer { queries, used: kernels }) = timer else {
            return Err(Error::Usage("timestamps: another measurement has begun meanwhile".into()));
        };
        let used @ 1..=SLOTS = kernels.len() as u32 else {
            let found = kernels.len();
            return Err(Error::Usage(format!(
                "timestamps: {found} dispatches, expected 1 to {SLOTS}"
            )));
        };
        let bytes = u64::from(used) * 16;
        let resolved = self.check("timestamps", || {
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let descriptor = wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage,
                mapped_at_creation: false,
            };
            let resolved = self.device.create_buffer(&descriptor);
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.resolve_query_set(&queries, 0..2 * used, &resolved, 0);
            self.queue.submit([encoder.finish()]);
            resolved
        })?;
        let words = self.read(&super::Buffer(resolved, self.number), bytes as usize / 4)?;
        let period = f64::from(self.queue.get_timestamp_period());
        let time = |w: &[u32]| {
            let at = |i: usize| u64::from(w[i + 1]) << 32 | u64::from(w[i]);
            Duration::from_nanos(((at(2) - at(0)) as f64 * period) as u64)
        };
        Ok((done, kernels.into_iter().zip(words.chunks_exact(4).map(time)).collect()))
    }
}
