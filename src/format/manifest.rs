//! The manifest of an archive: what was done to each tensor, and the digests. It is canonical JSON under the metadata key
//! `tersor`: sorted keys, no spaces, no times, no paths.

use super::{Digest, header::described_bytes, quoted};
use crate::DType;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The version this crate writes and reads.
const VERSION: u64 = 1;
/// The endings of component names; a tensor of the checkpoint may not end so where the stem is a tensor too.
pub const COMPONENTS: [&str; 6] = ["codes", "scales", "zero_points", "codebook", "mask", "values"];

/// What one safetensors file of an archive holds beyond its header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The treated tensors by name; every other tensor of the file is kept bit for bit.
    pub tensors: BTreeMap<String, TensorManifest>,
    /// Digests of the data section, one for each 4 MiB.
    pub chunks: Vec<Digest>,
}

/// What was done to one tensor, and what it must become again.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorManifest {
    /// Original type.
    pub dtype: DType,
    /// Original shape.
    pub shape: Vec<u64>,
    /// 1 where the rows of the matrix view are the columns of storage.
    pub axis: u8,
    /// Whether only the weights that `mask` marks are stored; the rest are +0.
    pub pruned: bool,
    /// How the stored weights are written.
    pub method: Method,
    /// Digest of the restored tensor, taken over its blocks.
    pub digest: Digest,
    /// Largest Frobenius ratio that verification accepts.
    pub max_rel_error: Option<f64>,
}

/// How the stored weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they were, in the original type.
    Values,
    /// Codes, scales and perhaps zero points.
    Affine {
        /// Bits per code.
        bits: u8,
        /// Without zero points.
        symmetric: bool,
        /// Elements that share a scale; 0 for all of the tensor.
        group: u64,
    },
    /// Codes and tables.
    Palette {
        /// Entries of a table; shorter tables repeat their last entry.
        k: u32,
        /// Rows that share a table; 0 for all of the tensor.
        rows: u64,
    },
}

/// One stored tensor of a treated tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// One of [`COMPONENTS`].
    pub name: &'static str,
    /// Its type.
    pub dtype: DType,
    /// Its shape; `None` where it depends on how many weights survive.
    pub shape: Option<Vec<u64>>,
}

impl Component {
    /// Its bytes, where they are known.
    pub fn bytes(&self) -> Option<u64> {
        self.shape.as_ref().and_then(|s| described_bytes(self.dtype, s))
    }
}

impl Method {
    /// Bits per code; none where the values are stored.
    pub fn code_bits(self) -> Option<u8> {
        match self {
            Self::Values => None,
            Self::Affine { bits, .. } => Some(bits),
            Self::Palette { k, .. } => Some(code_bits(k)),
        }
    }
}

/// Bits of a code that tells `k` entries apart.
pub fn code_bits(k: u32) -> u8 {
    (k.max(2) - 1).ilog2() as u8 + 1
}

impl TensorManifest {
    /// Rows and columns of the matrix view.
    pub fn matrix(&self) -> (u64, u64) {
        matrix(&self.shape, self.axis)
    }

    /// The components that store the tensor, in the order they are written. The one place that knows.
    pub fn components(&self) -> Vec<Component> {
        let (rows, cols) = self.matrix();
        let mut list = Vec::new();
        let mut add = |name, dtype, shape| list.push(Component { name, dtype, shape });
        if self.pruned {
            add("mask", DType::U32, Some(vec![rows, cols.div_ceil(32)]));
        }
        let codes = |bits: u8| match self.pruned {
            true => None,
            false => Some(vec![rows, words_per_row(cols, bits)]),
        };
        match self.method {
            Method::Values => add("values", self.dtype, None),
            Method::Affine { bits, symmetric, group } => {
                let scales = cols.checked_div(group).map_or(vec![1], |groups| vec![rows, groups]);
                add("codes", DType::U32, codes(bits));
                add("scales", DType::F32, Some(scales.clone()));
                if !symmetric {
                    add("zero_points", DType::U8, Some(scales));
                }
            }
            Method::Palette { k, rows: per_table } => {
                let tables = rows.checked_div(per_table).unwrap_or(1);
                add("codes", DType::U32, codes(code_bits(k)));
                add("codebook", self.dtype, Some(vec![tables, k.into()]));
            }
        }
        list
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        if let Method::Affine { bits, symmetric, group } = self.method {
            map.insert("affine".into(), json!([bits, u8::from(symmetric), group]));
        }
        if self.axis != 0 {
            map.insert("axis".into(), self.axis.into());
        }
        map.insert("digest".into(), BASE64.encode(self.digest).into());
        map.insert("dtype".into(), self.dtype.name().into());
        if let Some(limit) = self.max_rel_error {
            map.insert("max_rel_error".into(), limit.into());
        }
        if let Method::Palette { k, rows } = self.method {
            map.insert("palette".into(), json!([k, rows]));
        }
        if self.pruned {
            map.insert("pruned".into(), true.into());
        }
        map.insert("shape".into(), json!(self.shape));
        Value::Object(map)
    }

    fn from_json(name: &str, value: &Value) -> Result<Self, String> {
        let at = |what: &str| format!("manifest, tensor {}: {what}", quoted(name));
        let map = value.as_object().ok_or_else(|| at("expected an object"))?;
        let mut of = Self {
            dtype: DType::F32,
            shape: Vec::new(),
            axis: 0,
            pruned: false,
            method: Method::Values,
            digest: [0; 16],
            max_rel_error: None,
        };
        let (mut seen_dtype, mut seen_shape, mut seen_digest) = (false, false, false);
        for (key, value) in map {
            let wrong = || at(&format!("{key} is {}", cut(&value.to_string())));
            let numbers = |len: usize| -> Option<Vec<u64>> {
                let list = value.as_array().filter(|l| l.len() == len)?;
                list.iter().map(Value::as_u64).collect()
            };
            match key.as_str() {
                "affine" => {
                    let n = numbers(3)
                        .filter(|n| (2..=8).contains(&n[0]) && n[1] <= 1)
                        .ok_or_else(wrong)?;
                    of.method =
                        Method::Affine { bits: n[0] as u8, symmetric: n[1] == 1, group: n[2] };
                }
                "palette" => {
                    let n = numbers(2).filter(|n| (1..=256).contains(&n[0])).ok_or_else(wrong)?;
                    of.method = Method::Palette { k: n[0] as u32, rows: n[1] };
                }
                "axis" => of.axis = value.as_u64().filter(|a| *a == 1).ok_or_else(wrong)? as u8,
                "pruned" => of.pruned = value.as_bool().filter(|p| *p).ok_or_else(wrong)?,
                "digest" => {
                    of.digest = value.as_str().and_then(decode_digest).ok_or_else(wrong)?;
                    seen_digest = true;
                }
                "dtype" => {
                    let dtype = value.as_str().and_then(DType::parse).filter(|d| d.is_weight());
                    of.dtype = dtype.ok_or_else(wrong)?;
                    seen_dtype = true;
                }
                "shape" => {
                    let list = value.as_array().filter(|l| l.len() <= 32).ok_or_else(wrong)?;
                    of.shape =
                        list.iter().map(Value::as_u64).collect::<Option<_>>().ok_or_else(wrong)?;
                    seen_shape = true;
                }
                "max_rel_error" => of.max_rel_error = Some(value.as_f64().ok_or_else(wrong)?),
                _ => return Err(at(&format!("key {} is not known", quoted(key)))),
            }
        }
        if !(seen_dtype && seen_shape && seen_digest) {
            return Err(at("expected dtype, shape and digest"));
        }
        of.check().map_err(|why| at(&why))?;
        Ok(of)
    }

    /// Everything that arithmetic on the shape later relies on.
    fn check(&self) -> Result<(), String> {
        if described_bytes(self.dtype, &self.shape).is_none_or(|b| b == 0) {
            return Err(format!("shape {:?}, expected between 1 and 2^64 bytes", self.shape));
        }
        let (rows, cols) = self.matrix();
        match self.method {
            Method::Affine { group, .. } if group != 0 && !cols.is_multiple_of(group) => {
                Err(format!("groups of {group} do not divide rows of {cols}"))
            }
            Method::Palette { rows: per_table, .. }
                if per_table != 0 && !rows.is_multiple_of(per_table) =>
            {
                Err(format!("tables for {per_table} rows do not divide {rows} rows"))
            }
            Method::Values if !self.pruned => Err("neither pruned nor quantized".into()),
            _ => Ok(()),
        }
    }
}

/// Rows and columns of the matrix view of a shape, its sides swapped for axis 1.
pub fn matrix(shape: &[u64], axis: u8) -> (u64, u64) {
    let (rows, cols) = match shape {
        [] => (1, 1),
        [n] => (1, *n),
        [n, rest @ ..] => (*n, rest.iter().product()),
    };
    if axis == 0 { (rows, cols) } else { (cols, rows) }
}

/// 32-bit words that a row of codes takes.
pub fn words_per_row(cols: u64, bits: u8) -> u64 {
    (cols * u64::from(bits)).div_ceil(32)
}

impl Manifest {
    /// The canonical text, with the header's own digest standing as 22 times `A`.
    pub fn to_text(&self) -> String {
        let chunks: Vec<u8> = self.chunks.concat();
        let tensors: Map<String, Value> =
            self.tensors.iter().map(|(n, t)| (n.clone(), t.to_json())).collect();
        // serde_json keeps the order of insertion; these keys are in order.
        let mut map = Map::new();
        map.insert("chunks".into(), BASE64.encode(chunks).into());
        map.insert("header".into(), "A".repeat(22).into());
        map.insert("tensors".into(), tensors.into());
        map.insert("version".into(), VERSION.into());
        Value::Object(map).to_string()
    }

    /// Parses and checks a manifest; returns it with the header digest that it holds.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<(Self, Digest), String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("manifest: {e}"))?;
        let map = value.as_object().ok_or("manifest: expected an object")?;
        let version = map.get("version").and_then(Value::as_u64);
        if version != Some(VERSION) {
            let found = map.get("version").map_or("missing".into(), |v| cut(&v.to_string()));
            return Err(format!(
                "manifest: version is {found}, expected {VERSION}; a newer tersor may read it"
            ));
        }
        if let Some(key) =
            map.keys().find(|k| !["chunks", "header", "tensors", "version"].contains(&k.as_str()))
        {
            return Err(format!("manifest: key {} is not known", quoted(key)));
        }
        let text_of = |key: &str| {
            map.get(key).and_then(Value::as_str).ok_or(format!("manifest: expected {key}"))
        };
        let chunks =
            BASE64.decode(text_of("chunks")?).map_err(|e| format!("manifest: chunks: {e}"))?;
        if !chunks.len().is_multiple_of(16) {
            return Err(format!(
                "manifest: chunks have {} bytes, expected a multiple of 16",
                chunks.len()
            ));
        }
        let header = decode_digest(text_of("header")?).ok_or("manifest: header is no digest")?;
        let tensors =
            map.get("tensors").and_then(Value::as_object).ok_or("manifest: expected tensors")?;
        let tensors =
            tensors.iter().map(|(n, t)| Ok((n.clone(), TensorManifest::from_json(n, t)?)));
        Ok((
            Self {
                tensors: tensors.collect::<Result<_, String>>()?,
                chunks: chunks.chunks_exact(16).map(|c| c.try_into().expect("16 bytes")).collect(),
            },
            header,
        ))
    }
}

/// A digest as text.
pub fn encode_digest(digest: Digest) -> String {
    BASE64.encode(digest)
}

fn decode_digest(text: &str) -> Option<Digest> {
    BASE64.decode(text).ok()?.try_into().ok()
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}
