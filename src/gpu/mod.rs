//! The only module that talks to wgpu: open, upload, dispatch, read back. Every failure is an [`Error`]; nothing panics.
//!
//! All methods may be called from several threads at once; that is how transfers and compute overlap.

mod audit;
#[cfg(feature = "faults")]
mod fault;
mod guard;
mod kernel;
mod numerics;
mod open;
mod split;
mod time;

pub use audit::Audited;
#[cfg(feature = "faults")]
pub use fault::Fault;
pub use guard::longest_call;
pub(crate) use guard::quietly;
pub use kernel::Kernel;
pub use numerics::{KERNEL as NUMERICS, Numerics};
pub(crate) use open::NO_ADAPTER;
pub use open::{AdapterSummary, GpuOptions, adapters, probe};

pub use time::Dispatched;

use crate::{Cause, Error, Result};
use audit::Start;
use bytemuck::Pod;
use std::{
    borrow::Cow,
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    time::{Duration, Instant},
};
use wgpu::BufferUsages as Usage;

/// No wait for the device is longer than this; then it counts as lost.
const DEADLINE: Duration = Duration::from_secs(20);

/// The driver waits no longer than this at a time, so that one thread's wait neither keeps another from submitting nor goes on
/// when another has found the device lost.
const SLICE: Duration = Duration::from_millis(200);

/// A device, its queue, and the pipelines compiled so far.
#[derive(Debug)]
pub struct Gpu {
    /// Its own among those that this process opens: a buffer says whose it is.
    number: u64,
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: AdapterSummary,
    limits: wgpu::Limits,
    numerics: Numerics,
    matrices: OnceLock<bool>,
    lost: Arc<Mutex<Option<String>>>,
    pipelines: Mutex<HashMap<PipelineKey, Arc<Compiled>>>,
    timer: Mutex<Option<time::Timer>>,
    #[cfg(feature = "faults")]
    faults: fault::Faults,
    audit: Option<Mutex<audit::Audit>>,
}

/// A kernel's name and the values of its override constants, as bits.
type PipelineKey = (&'static str, Vec<(&'static str, u64)>);

/// A pipeline, and what every dispatch of it needs.
#[derive(Debug)]
struct Compiled {
    pipeline: wgpu::ComputePipeline,
    /// Says that its first workgroup has the number 0.
    first: wgpu::BindGroup,
    rate: Mutex<split::Rate>,
}

/// A storage buffer on a device, whose number it has, in whole units of 16 bytes, so that any may be read as fours of words.
#[derive(Clone, Debug)]
pub struct Buffer(wgpu::Buffer, u64);

/// A readback under way: the copy has been submitted, the host has not waited yet.
#[derive(Debug)]
pub struct Pending {
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    mapped: mpsc::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    #[cfg(feature = "faults")]
    spoilt: bool,
}

impl Gpu {
    /// Adapter, API and driver, and whether it is software.
    pub fn title(&self) -> &str {
        &self.adapter.title
    }

    /// What was opened.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.adapter
    }

    /// What this device's arithmetic really does, measured when it was opened.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// Measures this device's arithmetic again.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device fails.
    pub fn measure(&self) -> Result<Numerics> {
        Numerics::measure(self)
    }

    /// A digest, in hexadecimal, of the limits that the device was opened with where they may differ from wgpu's defaults. Their names
    /// and order are fixed here: what `{:?}` prints may be another with every version of wgpu.
    pub fn limits_digest(&self) -> String {
        let limits = serde_json::json!({
            "max_buffer_size": self.limits.max_buffer_size,
            "max_storage_buffer_binding_size": self.limits.max_storage_buffer_binding_size,
            "max_uniform_buffer_binding_size": self.limits.max_uniform_buffer_binding_size,
            "max_compute_workgroups_per_dimension": self.limits.max_compute_workgroups_per_dimension,
        });
        blake3::hash(limits.to_string().as_bytes()).to_hex()[..32].to_owned()
    }

    /// Whether its matrix units are used, which `probe` decides once, when they are first of use.
    pub(crate) fn matrices(&self, probe: impl FnOnce(&Self) -> bool) -> bool {
        *self.matrices.get_or_init(|| probe(self))
    }

    /// Whether the device was opened with all that a kernel needs.
    pub(crate) fn offers(&self, kernel: &Kernel) -> bool {
        self.device.features().contains(kernel.features())
    }

    /// Whether the device was lost, or did not answer in time: it will do nothing more.
    pub fn is_lost(&self) -> bool {
        lock(&self.lost).is_some()
    }

    /// The longest tensor, in bytes, that one buffer can hold and one binding can show.
    pub fn max_bytes(&self) -> u64 {
        let most = self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size);
        (most & !15) - self.guard_bytes()
    }

    /// The most workgroups one dispatch can start, folded over three dimensions.
    pub fn max_workgroups(&self) -> u64 {
        u64::from(self.limits.max_compute_workgroups_per_dimension).pow(3).min(1 << 24)
    }

    /// A storage buffer holding `data`, padded to 4 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if it does not fit the device, or the device fails.
    pub fn upload<T: Pod>(&self, data: &[T]) -> Result<Buffer> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let buffer =
            self.create(bytes.len(), Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC)?;
        self.write_at(&buffer, 0, bytes)?;
        self.supervise(&buffer, bytes.len(), Start::Uploaded(bytes))?;
        Ok(buffer)
    }

    /// A storage buffer of at least `bytes` bytes for a kernel to fill. It starts as zeros in release builds and as
    /// `0xA5` in debug builds, so that an element nobody wrote never passes for a zero.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if it does not fit the device, or the device fails.
    pub fn alloc(&self, bytes: usize) -> Result<Buffer> {
        let buffer = self.create(bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        if cfg!(debug_assertions) && self.audit.is_none() {
            self.write_at(&buffer, 0, &vec![0xA5; bytes.next_multiple_of(4).max(4)])?;
        }
        self.supervise(&buffer, bytes, Start::Poison)?;
        Ok(buffer)
    }

    /// A storage buffer of at least `bytes` zero bytes, for kernels that add to it.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if it does not fit the device, or the device fails.
    pub fn zeros(&self, bytes: usize) -> Result<Buffer> {
        let buffer = self.create(bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        self.supervise(&buffer, bytes, Start::Zero)?;
        Ok(buffer)
    }

    /// Starts `workgroups` workgroups of `kernel`, which do a few operations for every word that they are given.
    ///
    /// `constants` are the kernel's overrides, `WG` only if it is not the kernel's usual width; `buffers` its bindings from 1
    /// on.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device refuses or fails; [`Error::Backend`] if a buffer is another device's.
    pub fn dispatch<P: Pod>(
        &self,
        kernel: &'static Kernel,
        constants: &[(&'static str, f64)],
        params: &P,
        buffers: &[&Buffer],
        workgroups: u64,
    ) -> Result<()> {
        let words = buffers.iter().map(|b| b.0.size() / 4).sum::<u64>();
        self.dispatch_long(kernel, constants, params, (buffers, workgroups), 8 * words)
    }

    /// Like [`Gpu::dispatch`], for kernels that do more: about so many operations in all. They are started in parts of 50
    /// milliseconds, so that no driver takes the device for hung. Nothing is waited for, but that a pipeline with much to do is
    /// measured first.
    ///
    /// # Errors
    ///
    /// As [`Gpu::dispatch`].
    pub fn dispatch_long<P: Pod>(
        &self,
        kernel: &'static Kernel,
        constants: &[(&'static str, f64)],
        params: &P,
        (buffers, workgroups): (&[&Buffer], u64),
        operations: u64,
    ) -> Result<()> {
        debug_assert_eq!(size_of::<P>(), kernel.params);
        buffers.iter().try_for_each(|b| self.owns(kernel.name, b))?;
        if workgroups == 0 {
            return Ok(());
        }
        let max = self.limits.max_compute_workgroups_per_dimension;
        if fold(workgroups, max).is_none() {
            let message = format!("{workgroups} workgroups, at most {max} per dimension");
            return Err(Error::beyond(kernel.name, message));
        }
        let compiled = self.pipeline(kernel, constants)?;
        self.note(kernel, buffers);
        let each = (operations / workgroups).max(1);
        let mut first = 0;
        while first < workgroups {
            let (count, measure) = lock(&compiled.rate).next(each, workgroups - first);
            #[cfg(feature = "faults")]
            let (count, measure) = match self.faults.concerns(kernel.name) {
                true => (workgroups, false),
                false => (count, measure),
            };
            if measure {
                self.idle()?;
            }
            let began = Instant::now();
            self.start(kernel, &compiled, params, buffers, first..first + count)?;
            if measure {
                self.idle()?;
                lock(&compiled.rate).learn(count * each, began.elapsed());
            }
            first += count;
        }
        Ok(())
    }

    /// Waits until the device has done everything.
    fn idle(&self) -> Result<()> {
        let last = self.check("wait", || self.queue.submit([]))?;
        self.poll(last)
    }

    /// Starts some of a kernel's workgroups.
    fn start<P: Pod>(
        &self,
        kernel: &'static Kernel,
        compiled: &Compiled,
        params: &P,
        buffers: &[&Buffer],
        part: Range<u64>,
    ) -> Result<()> {
        let max = self.limits.max_compute_workgroups_per_dimension;
        let [x, y, z] = fold(part.end - part.start, max).expect("all of them can be folded");
        #[cfg(feature = "faults")]
        let Some([x, y, z]) = self.faults.workgroups(kernel.name, buffers, [x, y, z]) else {
            return Ok(());
        };
        self.check(kernel.name, || {
            let uniform = self.uniform(kernel.name, bytemuck::bytes_of(params));
            let entries: Vec<_> = std::iter::once(&uniform)
                .chain(buffers.iter().map(|b| &b.0))
                .enumerate()
                .map(|(i, b)| wgpu::BindGroupEntry {
                    binding: i as u32,
                    resource: b.as_entire_binding(),
                })
                .collect();
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(kernel.name),
                layout: &compiled.pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            let first = match part.start {
                0 => compiled.first.clone(),
                first => self.first(&compiled.pipeline, first as u32),
            };
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut timer = lock(&self.timer);
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(kernel.name),
                    timestamp_writes: timer.as_mut().and_then(|t| t.next(kernel.name)),
                });
                pass.set_pipeline(&compiled.pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.set_bind_group(1, &first, &[]);
                pass.dispatch_workgroups(x, y, z);
            }
            self.queue.submit([encoder.finish()]);
        })
    }

    fn uniform(&self, label: &str, bytes: &[u8]) -> wgpu::Buffer {
        let uniform = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.len() as u64,
            usage: Usage::UNIFORM | Usage::COPY_DST,
            mapped_at_creation: false,
        });
        self.queue.write_buffer(&uniform, 0, bytes);
        uniform
    }

    /// What tells a kernel the number of its first workgroup; see `lib/grid.wgsl`.
    fn first(&self, pipeline: &wgpu::ComputePipeline, first: u32) -> wgpu::BindGroup {
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("first"),
            layout: &pipeline.get_bind_group_layout(1),
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: self.uniform("first", &first.to_le_bytes()).as_entire_binding(),
            }],
        })
    }

    /// Submits the copy of the first `bytes` bytes of `buffer` back to the host, without waiting for it.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device refuses or fails; [`Error::Backend`] if the buffer is another device's.
    pub fn read_later(&self, buffer: &Buffer, bytes: usize) -> Result<Pending> {
        self.owns("readback", buffer)?;
        let size = (bytes.next_multiple_of(4).max(4)) as u64;
        self.copy_back("readback", &[(buffer, 0..size)])
    }

    /// Submits the copy of parts of buffers, one after the other.
    fn copy_back(
        &self,
        label: &'static str,
        parts: &[(&Buffer, std::ops::Range<u64>)],
    ) -> Result<Pending> {
        self.check(label, || {
            let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: parts.iter().map(|(_, span)| span.end - span.start).sum(),
                usage: Usage::MAP_READ | Usage::COPY_DST,
                mapped_at_creation: false,
            });
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut at = 0;
            for (buffer, span) in parts {
                let bytes = span.end - span.start;
                encoder.copy_buffer_to_buffer(&buffer.0, span.start, &staging, at, bytes);
                at += bytes;
            }
            let submission = self.queue.submit([encoder.finish()]);
            let (send, mapped) = mpsc::channel();
            staging.map_async(wgpu::MapMode::Read, .., move |r| _ = send.send(r));
            Pending {
                staging,
                submission,
                mapped,
                #[cfg(feature = "faults")]
                spoilt: matches!(parts, [(buffer, _)] if self.faults.reaches(buffer)),
            }
        })
    }

    /// Waits for a readback and returns its first `len` words.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device was lost, failed, or did not answer within 20 seconds; [`Error::Shape`] if the buffer has not so
    /// many words.
    pub fn wait(&self, pending: Pending, len: usize) -> Result<Vec<u32>> {
        self.poll(pending.submission)?;
        let failed = |message: String| Error::failed("readback", message);
        let held = pending.staging.size() / 4;
        pending
            .mapped
            .recv_timeout(Duration::from_secs(1))
            .map_err(|e| failed(e.to_string()))?
            .map_err(|e| failed(e.to_string()))?;
        #[cfg_attr(not(feature = "faults"), allow(unused_mut))]
        let mut words: Vec<u32> = {
            let view = pending.staging.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
            let bytes =
                view.get(..len * 4).ok_or_else(|| Error::shape("readback", "len", len, held))?;
            bytemuck::pod_collect_to_vec(bytes)
        };
        pending.staging.unmap();
        #[cfg(feature = "faults")]
        if pending.spoilt {
            self.faults.spoil(&mut words);
        }
        Ok(words)
    }

    /// [`Gpu::read_later`] and [`Gpu::wait`] in one: the first `len` words of `buffer`.
    ///
    /// # Errors
    ///
    /// As [`Gpu::wait`].
    pub fn read(&self, buffer: &Buffer, len: usize) -> Result<Vec<u32>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        self.wait(self.read_later(buffer, len * 4)?, len)
    }

    fn create(&self, bytes: usize, usage: Usage) -> Result<Buffer> {
        let size = bytes.next_multiple_of(16).max(16) as u64;
        if size > self.max_bytes() {
            let message = format!("{size} bytes do not fit one binding of {}", self.max_bytes());
            return Err(Error::beyond("alloc", message));
        }
        self.check("alloc", || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: size + self.guard_bytes(),
                usage,
                mapped_at_creation: false,
            })
        })
        .map(|buffer| Buffer(buffer, self.number))
    }

    /// Refuses a buffer of another device, which wgpu would blame on this one.
    fn owns(&self, kernel: &'static str, buffer: &Buffer) -> Result<()> {
        match buffer.1 == self.number {
            true => Ok(()),
            false => Err(Error::Backend { kernel, found: "a buffer is on another GPU" }),
        }
    }

    /// Writes `bytes`, padded to 4, from word `first` on.
    fn write_at(&self, buffer: &Buffer, first: usize, bytes: &[u8]) -> Result<()> {
        let (at, whole) = (4 * first as u64, bytes.len() & !3);
        self.check("upload", || {
            if whole > 0 {
                self.queue.write_buffer(&buffer.0, at, &bytes[..whole]);
            }
            if whole < bytes.len() {
                let mut last = [0; 4];
                last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
                self.queue.write_buffer(&buffer.0, at + whole as u64, &last);
            }
        })
    }

    fn pipeline(
        &self,
        kernel: &'static Kernel,
        constants: &[(&'static str, f64)],
    ) -> Result<Arc<Compiled>> {
        let key = (kernel.name, constants.iter().map(|(n, v)| (*n, v.to_bits())).collect());
        let mut pipelines = lock(&self.pipelines);
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let mut overrides = vec![("WG", kernel.workgroup.into())];
        overrides.retain(|(name, _)| constants.iter().all(|(n, _)| n != name));
        overrides.extend_from_slice(constants);
        #[cfg(feature = "faults")]
        let source = self.faults.source(kernel)?;
        #[cfg(not(feature = "faults"))]
        let source = kernel.wgsl.into();
        let compiled = self.check(kernel.name, || {
            let module = trusted_module(&self.device, kernel.name, source);
            let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &overrides,
                    // Every kernel writes its workgroup memory before reading it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            });
            let first = self.first(&pipeline, 0);
            Arc::new(Compiled { pipeline, first, rate: Mutex::default() })
        })?;
        pipelines.insert(key, compiled.clone());
        Ok(compiled)
    }

    /// Waits for a submission. `poll` panics when the driver reports the device lost while it waits, and says nothing when it
    /// was lost at submission: so catch the one and look at the flag for the other.
    fn poll(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let began = Instant::now();
        loop {
            let submission_index = Some(submission.clone());
            let wait = wgpu::PollType::Wait { submission_index, timeout: Some(SLICE) };
            let polled = guard::driver(|| self.device.poll(wait));
            self.not_lost("wait")?;
            match polled {
                Some(Ok(_)) => return Ok(()),
                Some(Err(wgpu::PollError::Timeout)) if began.elapsed() < DEADLINE => {}
                Some(Err(wgpu::PollError::Timeout)) => {
                    return self.lose(format!("no answer in {} seconds", DEADLINE.as_secs()));
                }
                Some(Err(e)) => return self.lose(e.to_string()),
                None => return self.lose("the driver failed while waiting".into()),
            }
        }
    }

    /// A device that failed to answer once is not asked again.
    fn lose(&self, message: String) -> Result<()> {
        *lock(&self.lost) = Some(message.clone());
        Err(Error::failed("wait", message))
    }

    fn not_lost(&self, kernel: &'static str) -> Result<()> {
        match lock(&self.lost).as_ref() {
            None => Ok(()),
            Some(m) => Err(Error::failed(kernel, format!("lost: {m}"))),
        }
    }

    /// Runs `f` and turns whatever wgpu reports meanwhile, on this thread, into an error.
    fn check<T>(&self, kernel: &'static str, f: impl FnOnce() -> T) -> Result<T> {
        self.not_lost(kernel)?;
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let done = guard::driver(f);
        // Scopes of this backend are there at once: nothing is waited for.
        let errors = [internal, validation, memory].map(|scope| pollster::block_on(scope.pop()));
        if done.is_none() {
            // Whatever wgpu had under way is half done.
            lock(&self.lost).get_or_insert_with(|| "the driver failed".into());
        }
        self.not_lost(kernel)?;
        let refused = |e: wgpu::Error| {
            let memory = matches!(e, wgpu::Error::OutOfMemory { .. });
            let cause = if memory { Cause::Failed } else { Cause::Refused };
            Error::Gpu { kernel, cause, message: e.to_string() }
        };
        match (errors.into_iter().flatten().next(), done) {
            (None, Some(done)) => Ok(done),
            (Some(e), _) => Err(refused(e)),
            (None, None) => Err(Error::failed(kernel, "the driver failed")),
        }
    }
}

/// Compiles without the bounds checks, loop counters and division checks that naga adds to foreign shaders: ours are
/// fixed at compile time, guard their own indices, and are tested at every boundary. They cost up to 40 %.
#[allow(
    unsafe_code,
    reason = "the one unchecked shader module; its source is a constant of this crate"
)]
fn trusted_module(
    device: &wgpu::Device,
    name: &str,
    source: Cow<'static, str>,
) -> wgpu::ShaderModule {
    let source = wgpu::ShaderSource::Wgsl(source);
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(name), source };
    // SAFETY: no file content reaches the source, no loop is unbounded, and every index is guarded by the kernel.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}

/// Spreads workgroups over three dimensions; `lib/grid.wgsl` undoes it.
fn fold(workgroups: u64, max: u32) -> Option<[u32; 3]> {
    let max = u64::from(max);
    let x = workgroups.min(max);
    let y = workgroups.div_ceil(x).min(max);
    let z = workgroups.div_ceil(x * y);
    (z <= max).then_some([x as u32, y as u32, z as u32])
}

impl Drop for Gpu {
    /// Letting go of a device waits for its work, for ever if it hangs, and fails if it is lost: then it is left to the end of
    /// the process.
    fn drop(&mut self) {
        let idle = wgpu::PollType::Wait { submission_index: None, timeout: Some(DEADLINE) };
        let idle = || guard::driver(|| self.device.poll(idle));
        if self.is_lost() || !matches!(idle(), Some(Ok(_))) || self.is_lost() {
            std::mem::forget((self.device.clone(), self.queue.clone()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn fold_covers_every_workgroup_and_refuses_too_many() {
        for (n, max) in [
            (1, 7),
            (7, 7),
            (8, 7),
            (49, 7),
            (50, 7),
            (343, 7),
            (65_536, 65_535),
            (1 << 30, 65_535),
        ] {
            let [x, y, z] = fold(n, max).unwrap();
            assert!(u64::from(x) * u64::from(y) * u64::from(z) >= n && x.max(y).max(z) <= max);
        }
        assert_eq!(fold(344, 7), None);
    }
}
