//! The best recipe for a size: how many bits every tensor of a model gets, by what each of its forms takes and is off by.
//!
//! Every tensor is treated, for a look, in most of the ways that a recipe knows: along trellises and with entropy-coded palettes of many
//! numbers of bits, with and without transforms, by integers, palettes, vectors and pyramids, as every preset would, and without
//! loss. Of large tensors a sample of rows stands for the whole. Of each the lower convex hull of bytes and error remains, and
//! the budget goes where a byte takes away most error. What is chosen is then treated as a whole, so that bytes and
//! errors are those that the archive will have; where they are not what the samples said, the choice is made again.
//!
//! The error of a tensor is `‖W-Q‖² / ‖W‖²` times its elements: relative, as layers are mostly followed or preceded by norms, which
//! undo what is common to all weights of one; and by elements, so that no weight counts more than another. Their sum over the
//! elements of all is a mean, and its root, the `rel_error` of a model, what a single tensor with the same error would have.

mod allocate;
mod curve;
mod look;
mod parts;
mod run;
mod sample;
mod ways;
mod written;

pub use curve::{Curve, CurvePoint};

use crate::{
    Error, Result,
    format::Checkpoint,
    pipeline::Options,
    recipe::{Additions, Recipe},
};
use parts::Model;
use run::Search;
use std::path::Path;

/// What a model is to be made to fit.
///
/// # Example
///
/// ```
/// use tersor::search::Target;
///
/// assert_eq!(Target::Size(1 << 20).budget(1000), Some(1 << 20));
/// assert_eq!(Target::BitsPerWeight(3.0).budget(1000), Some(375));
/// assert_eq!(Target::Error(0.05).budget(1000), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// So many bytes of all files of the output.
    Size(u64),
    /// So many bits of all files of the output for each element of the checkpoint.
    BitsPerWeight(f64),
    /// The fewest bytes with which no tensor's `‖W-Q‖ / ‖W‖` is larger.
    Error(f64),
}

impl Target {
    /// The bytes that a checkpoint of so many elements may become; `None` where these do not matter.
    pub fn budget(self, elements: u64) -> Option<u64> {
        match self {
            Self::Size(bytes) => Some(bytes),
            Self::BitsPerWeight(bits) => Some((bits * elements as f64 / 8.0) as u64),
            Self::Error(_) => None,
        }
    }

    /// The flag of the command line that says so.
    pub fn flag(self) -> String {
        match self {
            Self::Size(bytes) => format!("--target-size {bytes}"),
            Self::BitsPerWeight(bits) => format!("--target-bpw {bits}"),
            Self::Error(error) => format!("--max-rel-error {error}"),
        }
    }

    fn check(self) -> Result<()> {
        let (value, fine) = match self {
            Self::Size(bytes) => (bytes as f64, bytes > 0),
            Self::BitsPerWeight(bits) => (bits, bits > 0.0 && bits <= 64.0),
            Self::Error(error) => (error, error > 0.0 && error < 1.0),
        };
        let expected = match self {
            Self::Size(_) => "at least a byte",
            Self::BitsPerWeight(_) => "above 0, up to 64",
            Self::Error(_) => "above 0, below 1",
        };
        match value.is_finite() && fine {
            true => Ok(()),
            false => Err(Error::Usage(format!("{}: expected a number {expected}", self.flag()))),
        }
    }
}

/// What is asked of a search.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// What is to be met.
    pub target: Target,
    /// What stands before the recipe: what these keep or treat is not searched, but its bytes count.
    pub additions: &'a Additions,
    /// Whether tensors that are used together are treated alike: queries, keys and values of a layer; gate and up projections.
    pub together: bool,
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The recipe as TOML: a rule for every tensor that is not kept, also for those that flags decide, so that it stands alone.
    pub text: String,
    /// The same, parsed.
    pub recipe: Recipe,
    /// What the output takes: every file of it.
    pub output_bytes: u64,
    /// The error of the searched tensors, as the root of a mean: see [the module](self).
    pub rel_error: f64,
    /// Their elements.
    pub searched: u64,
    /// What other sizes would have.
    pub curve: Curve,
    /// What is to be said of it.
    pub remarks: Vec<String>,
}

/// Presets whose choices are looked at as well, and that a curve shows: those that prune are for networks that were trained so.
const PRESETS_LOOKED_AT: [&str; 6] = ["int8", "int4", "palette8", "palette4", "coded4", "coded3"];

/// Finds the recipe with the least error for a size, or the least size for an error.
///
/// # Errors
///
/// [`Error::Usage`] if the target makes no sense, or nothing that is known of is as small; as
/// [`pipeline::compress`](crate::pipeline::compress), of what is read. Nothing is written.
///
/// # Source
///
/// Shoham and Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Trans. ASSP 36(9).
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes: Vec<u8> = (0..64 * 256).flat_map(|i: i32| ((i * 7919 % 1000 - 500) as f32).to_le_bytes()).collect();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 256], &bytes);
/// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, Cancel, Silent, pipeline::{self, Options}, recipe::Additions, search::{Ask, Target, search}};
///
/// // `path`: a checkpoint of one F32 matrix, 64 x 256.
/// let cancel = Cancel::new();
/// let options = Options::new(&Backend::Cpu, &Silent, &cancel);
/// let ask = Ask { target: Target::Size(8000), additions: &Additions::default(), together: false };
/// let found = search(&path, &ask, &options)?;
/// assert!(found.output_bytes <= 8000);
///
/// let output = path.with_extension("tersor.safetensors");
/// let report = pipeline::compress(&path, &output, &found.recipe, &options)?;
/// assert_eq!(report.output_bytes, found.output_bytes);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn search(input: &Path, ask: &Ask, options: &Options) -> Result<Found> {
    ask.target.check()?;
    if let (Target::Error(_), Some(limit)) = (ask.target, ask.additions.max_error) {
        return Err(Error::Usage(format!(
            "{} and --max-error {limit} each limit the error of every tensor; leave one out",
            ask.target.flag()
        )));
    }
    let checkpoint = Checkpoint::open_variant(input, options.variant)?;
    let engine = options.engine();
    options.run(|| {
        let model = Model::new(&engine, &checkpoint, ask, options)?;
        Search { engine: &engine, checkpoint: &checkpoint, ask, options, model }.run()
    })
}
