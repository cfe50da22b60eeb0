//! What an archive says of its tensors, without decoding any.

use crate::{
    format::{Archive, ArchivedTensor},
    report::{Decoded, Form, Made, StoredAs, account},
};
use serde::Serialize;
use std::sync::Arc;

/// A tensor of an archive.
#[derive(Clone, Debug, Serialize)]
pub struct ArchivedSummary {
    /// Its name.
    pub name: String,
    /// Its type once it is restored.
    pub dtype: &'static str,
    /// Its shape once it is restored.
    pub shape: Vec<u64>,
    /// How many elements it has.
    pub elements: u64,
    /// Its bytes once it is restored.
    pub original_bytes: u64,
    /// How it is stored, in words; and as `tied_to` the tensor that it is equal to and stored with.
    #[serde(flatten)]
    pub method: StoredAs,
    /// How it is stored, for programs.
    pub form: Arc<Form>,
    /// Bytes of all its components, its part of the header and manifest included.
    pub bytes: u64,
    /// `original_bytes / bytes`.
    pub ratio: f64,
    /// Its bytes over its elements.
    pub bits_per_weight: f64,
}

/// All tensors of an archive, from its headers alone.
///
/// # Example
///
/// ```
/// use tersor::{format::Archive, inspect::archived};
///
/// let archive = Archive::open("tests/golden/1/int4".as_ref())?;
/// let w = archived(&archive).into_iter().find(|t| !t.method.is_kept()).unwrap();
/// assert_eq!((w.form.kind, w.form.bits), ("affine", Some(4)));
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn archived(archive: &Archive) -> Vec<ArchivedSummary> {
    let summary = |t: &ArchivedTensor| {
        let report = account(archive, t, Made::default(), Decoded::default());
        let original_bytes = archive.original_bytes(t);
        ArchivedSummary {
            elements: crate::tensor::elements(&report.shape),
            original_bytes,
            ratio: original_bytes as f64 / report.bytes as f64,
            name: report.name,
            dtype: report.dtype,
            shape: report.shape,
            method: report.method,
            form: report.form,
            bytes: report.bytes,
            bits_per_weight: report.bits_per_weight,
        }
    };
    archive.tensors.iter().map(summary).collect()
}
