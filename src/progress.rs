use std::sync::atomic::{AtomicI32, Ordering};

use crate::{Error, Result};

/// What a job says while it runs. The library never prints; the command line draws bars with this.
pub trait Progress: Sync {
    /// A stage begins that will go through `bytes` bytes.
    fn begin(&self, stage: &str, bytes: u64);
    /// So many more of them are done.
    fn advance(&self, bytes: u64);
    /// Something the user should know; the job goes on.
    fn warn(&self, message: &str);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}

/// Asks a job to stop: the number of the signal that arrived, 0 while none has.
#[derive(Debug, Default)]
pub struct Cancel(AtomicI32);

impl Cancel {
    /// One that nobody has raised.
    pub const fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    /// Asks the job to stop.
    pub fn raise(&self, signal: i32) {
        self.0.store(signal, Ordering::Relaxed);
    }

    /// # Errors
    ///
    /// [`Error::Interrupted`] once the job was asked to stop.
    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Error::Interrupted(signal)),
        }
    }
}
