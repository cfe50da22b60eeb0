use crate::engine::Engine;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How far a stage of a job is, in bytes. What is done again goes over bytes that were said before.
#[derive(Default)]
pub(super) struct Position {
    /// Bytes that are done.
    at: AtomicU64,
    /// Bytes that were said to be: the most that were ever done.
    said: AtomicU64,
}

/// A place to go back to.
#[derive(Clone, Copy)]
pub struct Mark(u64);

impl Engine<'_> {
    /// Begins a stage that will go through so many bytes.
    pub fn begin(&self, stage: &str, bytes: u64) {
        self.position.at.store(0, Relaxed);
        self.position.said.store(0, Relaxed);
        self.progress.begin(stage, bytes);
    }

    /// So many more bytes are done: those that were not said yet are.
    pub fn advance(&self, bytes: u64) {
        let at = self.position.at.fetch_add(bytes, Relaxed) + bytes;
        let said = self.position.said.fetch_max(at, Relaxed);
        if at > said {
            self.progress.advance(at - said);
        }
    }

    /// Where a tensor begins; tensors are done one after the other.
    pub fn mark(&self) -> Mark {
        Mark(self.position.at.load(Relaxed))
    }

    /// What was done since is done again.
    pub fn rewind(&self, Mark(at): Mark) {
        self.position.at.store(at, Relaxed);
    }
}
