//! What a job did, for machines: the JSON that `compress`, `decompress` and `verify` print with `--json`.

mod accounts;
mod form;

// For the program.
#[doc(hidden)]
pub mod figures;
#[doc(hidden)]
pub mod sums;

pub(crate) use accounts::{Decoded, account, overhead};

pub use form::Form;

use crate::digest::{Digest, Fingerprint};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use std::{fmt, sync::Arc};

/// What a job did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Every tensor passed.
    pub ok: bool,
    /// Where the kernels ran.
    pub backend: String,
    /// Runs of kernels on tiles on the GPU. A tile is the part of a tensor that is given to a kernel at a time; kernels have
    /// their own needs, so a tile counts once for each kernel, or chain of kernels, that it is cut for. Work that no kernel
    /// does is not counted: copies, digests, metrics, and the verification of what `compress` has written.
    pub gpu_tiles: u64,
    /// The same on the CPU, where a tile is about a mebibyte.
    pub cpu_tiles: u64,
    /// Those on the GPU that were done on the CPU as well and compared.
    pub checked_tiles: u64,
    /// Tiles that failed on the GPU, or were found to be wrong, and were done again on the CPU; they are among `cpu_tiles`.
    pub repaired_tiles: u64,
    /// Why tiles ran on the CPU although a GPU was opened, each reason once.
    pub cpu_reasons: Vec<String>,
    /// Size of the checkpoint's files: those that are compressed, the index, and what is carried along.
    pub input_bytes: u64,
    /// Size of the archive's files: headers, the index and what is carried along included.
    pub output_bytes: u64,
    /// `input_bytes / output_bytes`.
    pub ratio: f64,
    /// Wall time.
    pub seconds: f64,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Files of a folder that an interrupted run had finished, and that were not made again.
    pub resumed_files: u64,
    /// Bytes of the archive that belong to no tensor alone: `header` (chunk digests, other metadata), `padding`, `index`, and the
    /// `carried` files of a folder.
    /// With the `bytes` of all tensors they add up to the size of the archive: `output_bytes`, or `input_bytes` where it is
    /// restored.
    pub overhead: Vec<ComponentReport>,
    /// Every tensor, in the order of the checkpoint.
    pub tensors: Vec<TensorReport>,
}

/// What became of one tensor. Fields that need the source are null without it; so are those that would divide by zero.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type in the checkpoint.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<u64>,
    /// How it is stored, in words: `int8 per channel`, `2:4, values`, `kept`, `tied to NAME`; and as `tied_to` the tensor before it that
    /// it is equal to and stored with, so that it takes no bytes but in the header. That is null for every other.
    #[serde(flatten)]
    pub method: StoredAs,
    /// How it is stored, for programs: of a tied tensor, that of the other.
    pub form: Arc<Form>,
    /// Bits of a code before it is coded; null where there are no codes.
    pub code_bits: Option<u8>,
    /// Whether it is entropy-coded: its components are then what its blocks hold, `index`, `codes` or `values`, and `tables`,
    /// where they were decoded, and `coded` where they were not.
    pub coded: bool,
    /// Why it is kept bit for bit; null where it is treated, or where only the recipe knew.
    pub reason: Option<Arc<str>>,
    /// Bytes of all its components, its part of the header and manifest included.
    pub bytes: u64,
    /// Those bytes over its elements.
    pub bits_per_weight: f64,
    /// Shannon bound of its codes, and of its mask where it has one, in bits per weight, each code and each bit by itself:
    /// what an ideal coder without a model of their order would need. Null where there are no codes.
    pub entropy_bits: Option<f64>,
    /// Share of restored elements that are not zero; null where the elements are no weights.
    pub density: Option<f64>,
    /// What the retrieval structure that holds it has made of it; null in other forms, and where it was not made just now.
    pub retrieval: Option<RetrievalReport>,
    /// Non-zero weights lost with their group: its magnitude is below 2^-110, or its gain nearer to zero than to the smallest one.
    pub flushed: u64,
    /// Error against the source.
    #[serde(flatten)]
    pub error: ErrorReport,
    /// Where the bytes go.
    pub components: Vec<ComponentReport>,
}

/// How a tensor is stored. As text one that is kept is `kept`; in a report it is two fields, `method` and `tied_to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// Bit for bit.
    Kept,
    /// With another tensor, in words.
    Tied(String),
    /// Otherwise, in words.
    Treated(String),
}

/// What is said of a tied tensor before the name of the other.
const TIED_TO: &str = "tied to ";

impl StoredAs {
    /// With the tensor of this name.
    pub(crate) fn tied(to: &str) -> Self {
        Self::Tied(format!("{TIED_TO}{to}"))
    }

    /// The tensor that it is stored with, if it is tied to one.
    pub fn tied_to(&self) -> Option<&str> {
        match self {
            Self::Tied(words) => words.strip_prefix(TIED_TO),
            Self::Kept | Self::Treated(_) => None,
        }
    }

    /// Whether it is bit for bit.
    pub fn is_kept(&self) -> bool {
        *self == Self::Kept
    }

    /// Whether it has a treated form of its own.
    pub fn is_treated(&self) -> bool {
        matches!(self, Self::Treated(_))
    }

    /// In words.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kept => "kept",
            Self::Tied(words) | Self::Treated(words) => words,
        }
    }
}

impl fmt::Display for StoredAs {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for StoredAs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("StoredAs", 2)?;
        fields.serialize_field("method", self.as_str())?;
        fields.serialize_field("tied_to", &self.tied_to())?;
        fields.end()
    }
}

/// What those who have made a tensor know of it, and an archive does not say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Made {
    /// How it is stored, in words that say more than the archive.
    pub method: Option<String>,
    /// Why it is kept bit for bit.
    pub reason: Option<Arc<str>>,
    /// Non-zero weights of groups too small to scale.
    pub flushed: u64,
    /// What a retrieval structure has made of it.
    pub retrieval: Option<RetrievalReport>,
    /// What this run has seen of its weights, where it has made it.
    #[serde(skip)]
    pub known: Option<Arc<Known>>,
}

/// What a run knows of weights as they will come back from what it writes.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The twofold digests of their blocks.
    pub blocks: Vec<Digest>,
    /// How far they are from their source, where that was measured while it was there.
    pub measured: Option<Compared>,
}

/// Weights beside their source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compared {
    /// Of the source.
    pub source: Fingerprint,
    /// As in the report.
    pub density: Option<f64>,
    /// As in the report.
    pub error: ErrorReport,
}

/// What a retrieval structure has made of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retrieved {
    /// Bits of a result.
    pub result_bits: u32,
    /// Pruned weights that come back as one of the survivors' values.
    pub false_positives: u64,
    /// Bytes of the same tensor as streams, without false positives.
    pub as_streams: u64,
}

impl Retrieved {
    /// Of a structure that holds nothing yet.
    pub fn new(result_bits: u32) -> Self {
        Self { result_bits, false_positives: 0, as_streams: 0 }
    }
}

/// A tensor in a retrieval structure, beside what it would be without one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RetrievalReport {
    /// Bits of a result.
    pub result_bits: u32,
    /// Pruned weights that come back as one of the survivors' values.
    pub false_positives: u64,
    /// Bytes of its component.
    pub coded_bytes: u64,
    /// What that would take as streams, index and codes, without false positives.
    pub stream_bytes: u64,
}

impl RetrievalReport {
    /// What was made of a tensor whose component takes so many bytes.
    pub(crate) fn new(made: Retrieved, coded_bytes: u64) -> Self {
        let Retrieved { result_bits, false_positives, as_streams: stream_bytes } = made;
        Self { result_bits, false_positives, coded_bytes, stream_bytes }
    }
}

/// Bytes of one component.
#[derive(Clone, Debug, Serialize)]
pub struct ComponentReport {
    /// `codes`, `scales`, ..., the tensor itself as `kept`; or `header`, `padding`, `index`, `carried`.
    pub name: &'static str,
    /// Stored bytes.
    pub bytes: u64,
}

/// How far the restored tensor Q is from the source W. All null without the source.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ErrorReport {
    /// mean (W-Q)²
    pub mse: Option<f64>,
    /// mean |W-Q|
    pub mean_abs_error: Option<f64>,
    /// max |W-Q|
    pub max_abs_error: Option<f64>,
    /// 10 log₁₀(ΣW² / Σ(W-Q)²); null where exact
    pub sqnr_db: Option<f64>,
    /// ΣWQ / √(ΣW² ΣQ²)
    pub cosine: Option<f64>,
    /// ‖W-Q‖₁ / ‖W‖₁, induced norms: largest absolute column sum of the matrix of rows
    pub rel_op_norm_1: Option<f64>,
    /// ‖W-Q‖_F / ‖W‖_F
    pub rel_error: Option<f64>,
}
