//! The text of a treated tensor in the manifest of an archive: canonical JSON, its fields in the order of the alphabet, what is
//! usual left out.

use crate::{
    DType,
    decide::affine::ScaleType,
    digest::{decode_digest, encode_digest},
    form::{
        Affine, BlockTransform, Method, Palette, Pyramid, TensorManifest, Vector, View, affine,
        palette, pyramid, transform, vector,
    },
    quote::quoted,
};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    #[serde(skip_serializing_if = "Option::is_none")]
    affine: Option<affine::Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    axis: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coded: Option<bool>,
    digest: String,
    dtype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rel_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    palette: Option<palette::Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pruned: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pyramid: Option<pyramid::Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scales: Option<String>,
    shape: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<u8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transform: Option<transform::Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trellis: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<vector::Text>,
}

impl TensorManifest {
    /// Writes the text.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (mut affine, mut palette, mut pyramid, mut vector) = (None, None, None, None);
        let (mut scales, mut trellis) = (ScaleType::F32, None);
        match self.method {
            Method::Values => {}
            Method::Affine(m) => (affine, scales) = (Some(m.text()), m.scales),
            Method::Palette(m) => {
                (palette, trellis) = (Some(m.text()), m.trellis.map(|t| t.states()));
            }
            Method::Pyramid(m) => pyramid = Some(m.text()),
            Method::Vector(m) => (vector, scales) = (Some(m.text()), m.scales),
        }
        let description = Description {
            affine,
            axis: (self.view.axis != 0).then_some(self.view.axis),
            coded: self.coded.then_some(true),
            digest: encode_digest(self.digest),
            dtype: self.dtype.name().into(),
            max_rel_error: self.max_rel_error,
            palette,
            pruned: self.pruned.then_some(true),
            pyramid,
            scales: (scales != ScaleType::F32).then(|| scales.dtype().name().into()),
            shape: self.shape.clone(),
            stack: self.view.stack.then_some(true),
            steps: self.transform.as_ref().map(|t| t.steps.clone()).filter(|s| !s.is_empty()),
            transform: self.transform.as_ref().map(BlockTransform::text),
            trellis,
            vector,
        };
        Ok(serde_json::to_writer(out, &description)?)
    }

    /// Reads the text, and checks everything that arithmetic on the shape later relies on. Whatever would be written
    /// differently is found by whoever compares the texts.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text: Description = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let scales = match &text.scales {
            None => ScaleType::F32,
            Some(name) => DType::parse(name)
                .and_then(ScaleType::of_dtype)
                .ok_or_else(|| format!("scales of type {}, expected BF16", quoted(name)))?,
        };
        if text.trellis.is_some() && (text.palette.is_none() || text.affine.is_some()) {
            return Err("a trellis of no palette".into());
        }
        let transform = match (text.transform, text.steps) {
            (Some(text), steps) => Some(BlockTransform::of_text(text, steps.unwrap_or_default())?),
            (None, Some(_)) => return Err("steps of no transform".into()),
            (None, None) => None,
        };
        let of = Self {
            dtype: DType::parse(&text.dtype)
                .ok_or_else(|| format!("dtype {} is not known", quoted(&text.dtype)))?,
            shape: text.shape,
            view: View { axis: text.axis.map_or(0, |_| 1), stack: text.stack.is_some() },
            pruned: text.pruned.is_some(),
            coded: text.coded.is_some(),
            transform,
            method: match (text.affine, text.palette, text.pyramid, text.vector) {
                (Some(text), ..) => Method::Affine(Affine::of_text(text, scales)),
                (None, Some(palette), ..) => {
                    Method::Palette(Palette::of_text(palette, text.trellis)?)
                }
                (None, None, Some(text), _) => Method::Pyramid(Pyramid::of_text(text)),
                (None, None, None, Some(text)) => Method::Vector(Vector::of_text(text, scales)),
                (None, None, None, None) => Method::Values,
            },
            digest: decode_digest(&text.digest).ok_or("its digest is none")?,
            max_rel_error: text.max_rel_error,
        };
        of.check()?;
        Ok(of)
    }
}
