use super::{Gpu, lock};
use crate::{Error, Result};
use std::time::Duration;

/// Dispatches that one measurement may hold.
const SLOTS: u32 = 64;

/// Timestamps around every dispatch of one measurement.
#[derive(Debug)]
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    used: u32,
}

impl Timer {
    pub(super) fn next(&mut self) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let slot = self.used;
        self.used += 1;
        (slot < SLOTS).then_some(wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * slot),
            end_of_pass_write_index: Some(2 * slot + 1),
        })
    }
}

impl Gpu {
    /// Runs `f` and returns the time its dispatches (at most 64, from any thread) spent on the device, by the device's
    /// own timestamps; transfers are not in it.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device has no timestamp queries, if `f` dispatches nothing or too much, or if `f` fails.
    pub fn timed<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
        let failed = |message: &str| Error::Gpu { kernel: "timestamps", message: message.into() };
        if !self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(failed("the device has no timestamp queries"));
        }
        let queries = self.check("timestamps", || {
            self.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * SLOTS,
            })
        })?;
        *lock(&self.timer) = Some(Timer { queries, used: 0 });
        let done = f();
        let timer = lock(&self.timer).take();
        let done = done?;
        let Some(Timer { queries, used: used @ 1..=SLOTS }) = timer else {
            return Err(failed("nothing, or more than 64 dispatches, to time"));
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
        let words = self.read(&super::Buffer(resolved), bytes as usize / 4)?;
        let ticks: u64 = words
            .chunks_exact(4)
            .map(|w| {
                (u64::from(w[3]) << 32 | u64::from(w[2]))
                    - (u64::from(w[1]) << 32 | u64::from(w[0]))
            })
            .sum();
        let nanos = ticks as f64 * f64::from(self.queue.get_timestamp_period());
        Ok((done, Duration::from_nanos(nanos as u64)))
    }
}
