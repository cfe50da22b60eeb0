//! How a tensor is stored, for programs.

use crate::form::{Method, TensorManifest};
use serde::Serialize;
use std::sync::{Arc, LazyLock};

/// How a tensor is stored: what `method` says in words, field by field. What does not apply is null or false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Form {
    /// `kept` bit for bit; `values` as they are, pruned or coded; `affine` codes times a scale; `palette`, numbers of entries of a
    /// table; `vector`, numbers of entries of codebooks, times a scale;
    /// `pyramid`, numbers of integer vectors, times a gain; `trellis`, numbers of levels along paths.
    pub kind: &'static str,
    /// Bits of a code before it is coded.
    pub bits: Option<u8>,
    /// Affine: whether there are no zero points.
    pub symmetric: Option<bool>,
    /// Affine and vector: the type of the scales.
    pub scales: Option<&'static str>,
    /// Palette: entries of a table. Vector: of a codebook. Trellis: levels.
    pub entries: Option<u32>,
    /// Trellis: its states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<u8>,
    /// Vector and pyramid: weights of a vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<u8>,
    /// Pyramid: what the magnitudes of a vector's integers add up to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulses: Option<u8>,
    /// Vector: sub-spaces, each with codebooks of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spaces: Option<u32>,
    /// Vector: entries that are added up for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<u8>,
    /// Weights that share a scale or a table, neighbours in a row; more than a row has where rows share it.
    pub group: Option<u64>,
    /// What was done to blocks of its rows before: `hadamard` or `dct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<&'static str>,
    /// Weights of a block that is transformed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// Whether only some weights are stored, the others being zero.
    pub pruned: bool,
    /// Whether it is entropy-coded.
    pub coded: bool,
    /// Whether rows of the matrix are the columns of storage.
    pub transposed: bool,
}

impl Form {
    /// That of a tensor, as one of perhaps a million has it: what is kept shares one.
    pub(crate) fn shared(manifest: Option<&TensorManifest>) -> Arc<Self> {
        static KEPT: LazyLock<Arc<Form>> = LazyLock::new(|| Form::of(None).into());
        match manifest {
            None => Arc::clone(&KEPT),
            Some(_) => Self::of(manifest).into(),
        }
    }

    /// That of a tensor; of one without a manifest, `kept`.
    pub(crate) fn of(manifest: Option<&TensorManifest>) -> Self {
        let Some(manifest) = manifest else { return Self { kind: "kept", ..Self::default() } };
        let all = Self {
            bits: manifest.method.reported_bits(),
            transform: manifest.transform.as_ref().map(|of| of.kind.name()),
            block: manifest.transform.as_ref().map(|of| of.block),
            pruned: manifest.pruned,
            coded: manifest.coded,
            transposed: manifest.view.axis != 0,
            ..Self::default()
        };
        let group = Some(manifest.groups().size as u64);
        match manifest.method {
            Method::Values => Self { kind: "values", ..all },
            Method::Affine(m) => Self {
                kind: "affine",
                symmetric: Some(m.symmetric),
                scales: Some(m.scales.dtype().name()),
                group,
                ..all
            },
            Method::Pyramid(m) => {
                Self { kind: "pyramid", dim: Some(m.n), pulses: Some(m.k), group, ..all }
            }
            Method::Vector(m) => Self {
                kind: "vector",
                scales: Some(m.scales.dtype().name()),
                entries: Some(m.k),
                dim: Some(m.dim),
                spaces: Some(m.spaces),
                stages: Some(m.stages),
                group,
                ..all
            },
            Method::Palette(m) => Self {
                kind: if m.trellis.is_some() { "trellis" } else { "palette" },
                entries: Some(m.k),
                states: m.trellis.map(|trellis| trellis.states()),
                group,
                ..all
            },
        }
    }
}
