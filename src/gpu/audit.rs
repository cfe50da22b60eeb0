//! A device under supervision: every buffer ends in words that no kernel may touch, buffers to fill start as a pattern that can
//! be changed, and what was uploaded is compared with what lies there afterwards. No kernel knows of it.

use crate::{
    Result,
    gpu::{Buffer, Gpu, Kernel, lock},
};
use std::{
    collections::BTreeSet,
    ops::{AddAssign, Range},
};

/// Guards that lie behind the contents of every buffer, within its binding; padding comes on top.
pub(super) const GUARD_BYTES: u64 = 64;

/// Bytes of one readback at most.
const BATCH: usize = 64 << 20;

/// Buffers since the last audit, and what new ones are filled with.
#[derive(Debug)]
pub(super) struct Audit {
    poison: u32,
    made: Vec<Made>,
    kernels: BTreeSet<&'static str>,
}

#[derive(Debug)]
struct Made {
    buffer: Buffer,
    /// Words before the guards.
    contents: usize,
    /// What was uploaded, until a kernel may write to it.
    uploaded: Option<Vec<u32>>,
}

/// What a buffer holds at first.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Poison,
    Zero,
    Uploaded(&'a [u8]),
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Kernels that were started.
    pub kernels: BTreeSet<&'static str>,
    /// Buffers looked at.
    pub buffers: usize,
    /// Buffers with guard words that were overwritten.
    pub overrun: usize,
    /// Buffers that were only bound for reading and hold something else than what was uploaded.
    pub changed: usize,
}

impl Audited {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        (self.overrun, self.changed) == (0, 0)
    }
}

impl AddAssign for Audited {
    fn add_assign(&mut self, other: Self) {
        self.kernels.extend(other.kernels);
        self.buffers += other.buffers;
        self.overrun += other.overrun;
        self.changed += other.changed;
    }
}

/// The guard at word `i` of a buffer: one that a kernel writes by mistake is not it.
fn guard(i: usize) -> u32 {
    0xfeed_c0de ^ (i as u32).wrapping_mul(0x9e37_79b9)
}

impl Audit {
    pub(super) fn new() -> Self {
        Self { poison: 0xaaaa_aaaa, made: Vec::new(), kernels: BTreeSet::new() }
    }
}

impl Made {
    fn all(&self) -> usize {
        self.buffer.0.size() as usize / 4
    }

    /// The words that an audit reads.
    fn span(&self) -> Range<usize> {
        if self.uploaded.is_some() { 0..self.all() } else { self.contents..self.all() }
    }
}

impl Gpu {
    /// Bytes that supervision adds to every buffer.
    pub(super) fn guard_bytes(&self) -> u64 {
        if self.audit.is_some() { GUARD_BYTES } else { 0 }
    }

    /// What buffers that kernels fill start as from now on; nothing on a device that is not audited.
    pub fn poison(&self, word: u32) {
        if let Some(audit) = &self.audit {
            lock(audit).poison = word;
        }
    }

    /// Puts the guards behind a new buffer and, before them, what it starts as.
    pub(super) fn supervise(&self, buffer: &Buffer, bytes: usize, start: Start) -> Result<()> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let (poison, contents) = (lock(audit).poison, bytes.div_ceil(4));
        let mut made = Made { buffer: buffer.clone(), contents, uploaded: None };
        let guards: Vec<u32> = (contents..made.all()).map(guard).collect();
        match start {
            Start::Poison => {
                let words = [vec![poison; contents], guards].concat();
                self.write_at(buffer, 0, bytemuck::cast_slice(&words))?;
            }
            Start::Zero => self.write_at(buffer, contents, bytemuck::cast_slice(&guards))?,
            Start::Uploaded(bytes) => {
                self.write_at(buffer, contents, bytemuck::cast_slice(&guards))?;
                let mut words = vec![0; contents];
                bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
                made.uploaded = Some(words);
            }
        }
        lock(audit).made.push(made);
        Ok(())
    }

    /// Notes which buffers a dispatch may write to.
    pub(super) fn note(&self, kernel: &Kernel, buffers: &[&Buffer]) {
        let Some(audit) = &self.audit else { return };
        let mut audit = lock(audit);
        audit.kernels.insert(kernel.name);
        for (i, buffer) in buffers.iter().enumerate() {
            if kernel.writes(i + 1) {
                let bound = audit.made.iter_mut().filter(|m| m.buffer.0 == buffer.0);
                bound.for_each(|m| m.uploaded = None);
            }
        }
    }

    /// Reads back every buffer since the last audit, and forgets it: are all guards whole, and do buffers that were only read
    /// still hold what was uploaded? Finds nothing on a device that is not audited.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`](crate::Error::Gpu) if the device fails.
    pub fn audit(&self) -> Result<Audited> {
        let Some(audit) = &self.audit else { return Ok(Audited::default()) };
        let (made, kernels) = {
            let mut audit = lock(audit);
            (std::mem::take(&mut audit.made), std::mem::take(&mut audit.kernels))
        };
        let mut found = Audited { kernels, buffers: made.len(), ..Audited::default() };
        let most = (self.limits.max_buffer_size as usize).min(BATCH) / 4;
        let mut rest = &made[..];
        while !rest.is_empty() {
            let mut words = 0;
            let fits = |m: &&Made| {
                words += m.span().len();
                words <= most
            };
            // A buffer that is too long for a batch has one of its own.
            let count = rest.iter().take_while(fits).count().max(1);
            let (batch, after) = rest.split_at(count);
            self.look_at(batch, &mut found)?;
            rest = after;
        }
        Ok(found)
    }

    fn look_at(&self, batch: &[Made], found: &mut Audited) -> Result<()> {
        let len = batch.iter().map(|m| m.span().len()).sum::<usize>();
        let part = |made: &'_ Made| {
            let span = made.span();
            4 * span.start as u64..4 * span.end as u64
        };
        let parts: Vec<_> = batch.iter().map(|made| (&made.buffer, part(made))).collect();
        let pending = self.copy_back("audit", &parts)?;
        let words = self.wait(pending, len)?;
        let mut at = 0;
        for made in batch {
            let span = made.span();
            let words = &words[at..][..span.len()];
            at += span.len();
            let (contents, guards) = words.split_at(made.contents - span.start);
            let whole = guards.iter().zip(made.contents..).all(|(w, i)| *w == guard(i));
            found.overrun += usize::from(!whole);
            let same = made.uploaded.as_ref().is_none_or(|u| contents == u);
            found.changed += usize::from(!same);
        }
        Ok(())
    }
}
