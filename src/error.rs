use crate::quote::{quoted, shown};
use std::path::PathBuf;

/// `std::result::Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong. Each variant names the thing, what was found and what was expected.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Error, Tensor};
///
/// // Three weights make no two rows.
/// let error = Tensor::from_f32(&Backend::Cpu, &[1.0, 2.0, 3.0], 2).unwrap_err();
/// assert_eq!(error.to_string(), "upload: weights is 3, expected a multiple of 2 rows");
/// assert!(matches!(error, Error::Shape { what: "weights", .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("{}: {source}", shown(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it claims to be. Untrusted names in `why` are escaped.
    #[error("{}: {why}", shown(path))]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        why: String,
    },
    /// Stored bytes or restored values differ from their digest.
    #[error("{}: {what}: digest mismatch, the file is damaged", shown(path))]
    Digest {
        /// The archive.
        path: PathBuf,
        /// The chunk, header or tensor.
        what: String,
    },
    /// An archive is whole, but not what it is compared with.
    #[error("{}: {what} differs from {}", shown(path), shown(from))]
    Differs {
        /// The archive.
        path: PathBuf,
        /// The tensor.
        what: String,
        /// What it was compared with.
        from: PathBuf,
    },
    /// An archive is whole, but was made from something else than what it is compared with.
    #[error("{}: not made from {}: {why}", shown(path), shown(from))]
    Unlike {
        /// The archive.
        path: PathBuf,
        /// What it was compared with.
        from: PathBuf,
        /// What is other there. Untrusted names are escaped.
        why: String,
    },
    /// A recipe cannot be understood, or does not fit the checkpoint.
    #[error("recipe: {0}")]
    Recipe(String),
    /// The command line or an option asks for something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// An argument's size or value disagrees with the kernel's contract.
    #[error("{kernel}: {what} is {got}, expected {expected}")]
    Shape {
        /// The kernel that refused.
        kernel: &'static str,
        /// The argument, by its name in the signature.
        what: &'static str,
        /// What was passed.
        got: String,
        /// What would have been right.
        expected: String,
    },
    /// Coded data is nothing that the encoder writes. A kernel does not know where it came from: who has read it from a file
    /// makes [`Error::Format`] of this.
    #[error("{kernel}: malformed data: {why}")]
    Malformed {
        /// The kernel that refused.
        kernel: &'static str,
        /// What was found.
        why: String,
    },
    /// A tensor holds NaN or infinite values where the recipe says `nonfinite = "error"`.
    #[error(
        "tensor {}: {count} of its values are NaN or infinite; use nonfinite = \"keep\" to store it unchanged",
        quoted(tensor)
    )]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// How many values.
        count: u64,
    },
    /// A restored tensor is further from its source than the recipe allows, or a metric is not finite.
    #[error("tensor {}: {metric} is {}", quoted(tensor), beyond(*got, *limit))]
    Verify {
        /// The tensor.
        tensor: String,
        /// Which metric.
        metric: &'static str,
        /// What was measured.
        got: f64,
        /// What was allowed.
        limit: f64,
    },
    /// No adapter was found, or it refused a device.
    #[error("no usable GPU: {0}")]
    NoGpu(String),
    /// A device did not do its work: nothing it produced is used, and the CPU can do the same work instead. What the caller got
    /// wrong is never this, but [`Error::Backend`] or [`Error::Shape`], which no other device would mend.
    #[error("{kernel}: {cause}{message}")]
    Gpu {
        /// The kernel that was being compiled, dispatched or read.
        kernel: &'static str,
        /// Why.
        cause: Cause,
        /// What was found, or what wgpu said.
        message: String,
    },
    /// Something was handed to a kernel that lives on another backend than it was told to run on: the caller's mistake.
    #[error("{kernel}: {found}, but the kernel runs elsewhere")]
    Backend {
        /// The kernel.
        kernel: &'static str,
        /// What lies where.
        found: &'static str,
    },
    /// Another run is writing the same output.
    #[error("{}: the output is locked by another run", shown(path))]
    Locked {
        /// The output.
        path: PathBuf,
    },
    /// SIGINT, SIGTERM or SIGHUP arrived; temporary files are gone.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
}

/// Why a device did not do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It asks for more than the device has: longer buffers, more workgroups, exact rounding, a feature.
    Beyond,
    /// wgpu or the driver refuses a shader, a pipeline or a command. That is a mistake in one of them or in this crate, not of the
    /// card.
    Refused,
    /// It was lost, did not answer in time, or had no memory left.
    Failed,
    /// It computes otherwise than the CPU.
    Wrong,
    /// It was given up, for one of the other causes, while this was under way.
    GivenUp,
}

/// What stands before the message of an error.
impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Beyond => "beyond the device: ",
            Self::Refused => "not accepted by wgpu or the driver, a mistake there or in tersor: ",
            Self::Failed => "the device failed: ",
            Self::Wrong => "the GPU computes otherwise than the CPU: ",
            Self::GivenUp => "the device was given up meanwhile",
        })
    }
}

fn beyond(got: f64, limit: f64) -> String {
    match got.is_finite() {
        true => format!("{got}, the limit is {limit}"),
        false => "not a number".into(),
    }
}

impl Error {
    /// Ties an I/O error to the path it happened at, for `map_err`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// An [`Error::Shape`] of `kernel`.
    pub fn shape(
        kernel: &'static str,
        what: &'static str,
        got: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Shape { kernel, what, got: got.to_string(), expected: expected.to_string() }
    }

    /// An [`Error::Malformed`] of `kernel`.
    pub fn malformed(kernel: &'static str, why: impl ToString) -> Self {
        Self::Malformed { kernel, why: why.to_string() }
    }

    /// An [`Error::Gpu`] of `kernel`: the device has not what it takes.
    pub fn beyond(kernel: &'static str, message: impl Into<String>) -> Self {
        Self::Gpu { kernel, cause: Cause::Beyond, message: message.into() }
    }

    /// An [`Error::Gpu`] of `kernel`: the device failed.
    pub fn failed(kernel: &'static str, message: impl Into<String>) -> Self {
        Self::Gpu { kernel, cause: Cause::Failed, message: message.into() }
    }

    /// A [`Error::Format`] at `path`.
    pub fn format(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Format { path: path.into(), why: why.into() }
    }
}
