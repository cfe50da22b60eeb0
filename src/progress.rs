use std::sync::atomic::{AtomicI32, Ordering};

use crate::{Error, Result};

/// What a job says while it runs. The library never prints; the command line draws bars with this.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes: Vec<u8> = (0..64).flat_map(|_| (-127..=127).flat_map(|i: i32| (i as f32).to_le_bytes())).collect();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 255], &bytes);
/// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use tersor::{Backend, Cancel, Progress, format::Checkpoint, inspect::inspect, pipeline::Options};
///
/// struct Done(AtomicU64);
/// impl Progress for Done {
///     fn begin(&self, _stage: &str, _bytes: u64) {}
///     fn advance(&self, bytes: u64) {
///         self.0.fetch_add(bytes, Relaxed);
///     }
///     fn warn(&self, _message: &str) {}
/// }
///
/// // `path`: a checkpoint of one F32 matrix, 64 x 255.
/// let (done, cancel) = (Done(AtomicU64::new(0)), Cancel::new());
/// inspect(&Checkpoint::open(&path)?, &Options::new(&Backend::Cpu, &done, &cancel))?;
/// assert_eq!(done.0.into_inner(), 64 * 255 * 4);
/// # Ok::<(), tersor::Error>(())
/// ```
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
///
/// # Example
///
/// ```
/// use tersor::{Cancel, Error};
///
/// let cancel = Cancel::new();
/// assert!(cancel.check().is_ok());
/// cancel.raise(2); // the number of SIGINT
/// assert!(matches!(cancel.check(), Err(Error::Interrupted(2))));
/// ```
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
