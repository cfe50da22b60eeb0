//! The manifest of an archive: what was done to each tensor, and the digests. It is canonical JSON under the metadata key
//! `tersor`: sorted keys, no spaces, no times, no paths.

use crate::{
    DType,
    codec::block::Element,
    digest::Digest,
    format::safetensors::header::{MAX_NAME, MAX_RANK, described_bytes},
    quote::{json_error, quoted},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
};

/// The version this crate writes and reads.
const VERSION: u64 = 1;
/// Longest description of one tensor: 32 dimensions of 20 digits, and the rest.
const MAX_ENTRY: usize = 1024;
/// The endings of component names; a tensor of the checkpoint may not end so where the stem is a tensor too.
pub const COMPONENTS: [&str; 7] =
    ["codes", "scales", "zero_points", "codebook", "mask", "values", "coded"];

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
    /// Whether blocks of the weights are entropy-coded, all in one component: first the tables (see
    /// [`Self::tables`]), then the length of every block as a u32, then the blocks (see [`crate::codec::block`]).
    pub coded: bool,
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
        if self.coded {
            return vec![Component { name: "coded", dtype: DType::U8, shape: None }];
        }
        let (rows, cols) = self.matrix();
        let mut list = Vec::new();
        let mut add = |name, dtype, shape| list.push(Component { name, dtype, shape });
        if self.pruned {
            add("mask", DType::U32, Some(vec![rows, cols.div_ceil(32)]));
        }
        match self.method.code_bits() {
            None => add("values", self.dtype, None),
            Some(bits) => {
                let shape = (!self.pruned).then(|| vec![rows, words_per_row(cols, bits)]);
                add("codes", DType::U32, shape);
            }
        }
        list.extend(self.tables());
        list
    }

    /// What the codes stand for. Where the tensor is coded, these lie in front of its blocks, one after the other.
    pub fn tables(&self) -> Vec<Component> {
        let (rows, cols) = self.matrix();
        let table = |name, dtype, shape| Component { name, dtype, shape: Some(shape) };
        match self.method {
            Method::Values => Vec::new(),
            Method::Affine { symmetric, group, .. } => {
                let scales = cols.checked_div(group).map_or(vec![1], |groups| vec![rows, groups]);
                let mut list = vec![table("scales", DType::F32, scales.clone())];
                if !symmetric {
                    list.push(table("zero_points", DType::U8, scales));
                }
                list
            }
            Method::Palette { k, rows: per_table } => {
                let tables = rows.checked_div(per_table).unwrap_or(1);
                vec![table("codebook", self.dtype, vec![tables, k.into()])]
            }
        }
    }

    /// Bytes of all tables, and where in a coded tensor each begins.
    pub fn table_starts(&self) -> (u64, Vec<(&'static str, u64)>) {
        let mut at = 0;
        let start = |table: Component| {
            let start = at;
            at += table.bytes().unwrap_or(0);
            (table.name, start)
        };
        let starts = self.tables().into_iter().map(start).collect();
        (at, starts)
    }

    /// What the stored weights are.
    pub fn element(&self) -> Element {
        self.method
            .code_bits()
            .map_or(Element::Value(self.dtype), |bits| Element::Code(bits.into()))
    }

    /// Whether the tensor comes back bit for bit, whatever its values are.
    pub fn lossless(&self) -> bool {
        self.method == Method::Values && !self.pruned
    }

    /// Everything that arithmetic on the shape later relies on.
    fn check(&self) -> Result<(), String> {
        if !self.dtype.is_weight() || self.shape.len() > MAX_RANK {
            let (dtype, rank) = (self.dtype.name(), self.shape.len());
            return Err(format!(
                "{dtype} of {rank} dimensions, expected weights of at most {MAX_RANK}"
            ));
        }
        if described_bytes(self.dtype, &self.shape).is_none_or(|b| b == 0) {
            return Err(format!("shape {:?}, expected between 1 and 2^61 bytes", self.shape));
        }
        let (rows, cols) = self.matrix();
        match self.method {
            Method::Affine { bits, .. } if !(2..=8).contains(&bits) => {
                Err(format!("codes of {bits} bits, expected 2 to 8"))
            }
            Method::Palette { k, .. } if !(1..=256).contains(&k) => {
                Err(format!("tables of {k} entries, expected 1 to 256"))
            }
            Method::Affine { group, .. } if group != 0 && !cols.is_multiple_of(group) => {
                Err(format!("groups of {group} do not divide rows of {cols}"))
            }
            Method::Palette { rows: per_table, .. }
                if per_table != 0 && !rows.is_multiple_of(per_table) =>
            {
                Err(format!("tables for {per_table} rows do not divide {rows} rows"))
            }
            Method::Values if !self.pruned && !self.coded => {
                Err("neither pruned, quantized nor coded".into())
            }
            _ if self.table_bytes().is_none() => Err("tables of 2^61 bytes or more".into()),
            _ => Ok(()),
        }
    }

    /// Bytes of all tables, where they are fewer than 2^61.
    fn table_bytes(&self) -> Option<u64> {
        self.tables().iter().try_fold(0u64, |all, table| all.checked_add(table.bytes()?))
    }
}

/// Rows and columns of the matrix view of a shape, its sides swapped for axis 1.
pub fn matrix(shape: &[u64], axis: u8) -> (u64, u64) {
    let rows = if shape.len() < 2 { 1 } else { shape[0] };
    let cols = crate::tensor::elements(shape).checked_div(rows).unwrap_or(0);
    if axis == 0 { (rows, cols) } else { (cols, rows) }
}

/// 32-bit words that a row of codes takes.
pub fn words_per_row(cols: u64, bits: u8) -> u64 {
    (cols * u64::from(bits)).div_ceil(32)
}

/// A tensor's description as it is written: its fields in the order of the alphabet, what is usual left out.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// Bits, 1 where symmetric, group.
    #[serde(skip_serializing_if = "Option::is_none")]
    affine: Option<(u8, u8, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    axis: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coded: Option<bool>,
    digest: String,
    dtype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rel_error: Option<f64>,
    /// Entries of a table, rows that share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    palette: Option<(u32, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pruned: Option<bool>,
    shape: Vec<u64>,
}

impl Description {
    fn of(t: &TensorManifest) -> Self {
        Self {
            affine: match t.method {
                Method::Affine { bits, symmetric, group } => Some((bits, symmetric.into(), group)),
                _ => None,
            },
            axis: (t.axis != 0).then_some(t.axis),
            coded: t.coded.then_some(true),
            digest: encode_digest(t.digest),
            dtype: t.dtype.name().into(),
            max_rel_error: t.max_rel_error,
            palette: match t.method {
                Method::Palette { k, rows } => Some((k, rows)),
                _ => None,
            },
            pruned: t.pruned.then_some(true),
            shape: t.shape.clone(),
        }
    }

    /// What it describes. Whatever would be written differently is found when the texts are compared.
    fn read(self) -> Result<TensorManifest, String> {
        let of = TensorManifest {
            dtype: DType::parse(&self.dtype)
                .ok_or_else(|| format!("dtype {} is not known", quoted(&self.dtype)))?,
            shape: self.shape,
            axis: self.axis.map_or(0, |_| 1),
            pruned: self.pruned.is_some(),
            coded: self.coded.is_some(),
            method: match (self.affine, self.palette) {
                (Some((bits, symmetric, group)), _) => {
                    Method::Affine { bits, symmetric: symmetric == 1, group }
                }
                (None, Some((k, rows))) => Method::Palette { k, rows },
                (None, None) => Method::Values,
            },
            digest: decode_digest(&self.digest).ok_or("its digest is none")?,
            max_rel_error: self.max_rel_error,
        };
        of.check()?;
        Ok(of)
    }
}

impl Manifest {
    /// Writes the canonical text, with `header` as the header's own digest.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, header: &str) -> io::Result<()> {
        let tensors = self.tensors.iter().map(|(n, t)| (n.as_str(), t));
        write_text(out, &self.chunks, header, tensors)
    }

    /// Parses and checks a manifest of at most `most` tensors; returns it with the header digest that it holds. Memory and
    /// time follow from `most`, whatever the text holds.
    ///
    /// # Errors
    ///
    /// What is wrong, in words: also where the text is not exactly the one that [`Manifest::write`] would write, so that no
    /// two archives hold the same.
    pub fn parse(text: &str, most: usize) -> Result<(Self, Digest), String> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Text<'a> {
            chunks: &'a str,
            header: &'a str,
            #[serde(borrow)]
            tensors: &'a RawValue,
            #[serde(rename = "version")]
            _version: u64,
        }
        let wrong = |e: serde_json::Error| format!("manifest: {}", json_error(&e));
        // Before all else, since another version may hold anything.
        let Version { version } = serde_json::from_str(text).map_err(wrong)?;
        if version != VERSION {
            let hint = if version > VERSION { "; a newer tersor may read it" } else { "" };
            return Err(format!("manifest: version is {version}, expected {VERSION}{hint}"));
        }
        let parts: Text = serde_json::from_str(text).map_err(wrong)?;
        let chunks = BASE64.decode(parts.chunks).map_err(|e| format!("manifest: chunks: {e}"))?;
        let (chunks, []) = chunks.as_chunks::<16>() else {
            let found = chunks.len();
            return Err(format!("manifest: chunks have {found} bytes, expected a multiple of 16"));
        };
        let header = decode_digest(parts.header).ok_or("manifest: header is no digest")?;
        let mut tensors = serde_json::Deserializer::from_str(parts.tensors.get());
        let tensors = Tensors { most }.deserialize(&mut tensors).map_err(wrong)?;
        let manifest = Self { tensors, chunks: chunks.to_vec() };
        let mut same = Same { text: text.as_bytes(), at: 0 };
        if manifest.write(&mut same, parts.header).is_err() || same.at < text.len() {
            let at = same.at;
            return Err(format!("manifest, byte {at}: not in the canonical form"));
        }
        Ok((manifest, header))
    }
}

/// Writes the text of a manifest whose tensors come one by one, in the order of their names.
pub(in crate::format) fn write_text<'a>(
    out: &mut impl Write,
    chunks: &[Digest],
    header: &str,
    tensors: impl Iterator<Item = (&'a str, &'a TensorManifest)>,
) -> io::Result<()> {
    write_start(out, chunks)?;
    write!(out, "{header}\",\"tensors\":{{")?;
    let mut comma = "";
    for (name, tensor) in tensors {
        out.write_all(comma.as_bytes())?;
        write_tensor(out, name, tensor)?;
        comma = ",";
    }
    write!(out, "}},\"version\":{VERSION}}}")
}

/// The text up to the header's own digest.
pub(in crate::format) fn write_start(out: &mut impl Write, chunks: &[Digest]) -> io::Result<()> {
    let chunks = BASE64.encode(chunks.as_flattened());
    write!(out, "{{\"chunks\":\"{chunks}\",\"header\":\"")
}

/// One tensor's name and description.
pub(in crate::format) fn write_tensor(
    out: &mut impl Write,
    name: &str,
    tensor: &TensorManifest,
) -> io::Result<()> {
    serde_json::to_writer(&mut *out, name)?;
    out.write_all(b":")?;
    Ok(serde_json::to_writer(out, &Description::of(tensor))?)
}

/// Reads the tensors of a manifest, and no more of them than there can be.
struct Tensors {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Tensors {
    type Value = BTreeMap<String, TensorManifest>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensors {
    type Value = BTreeMap<String, TensorManifest>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let description: &RawValue = map.next_value()?;
            let refuse = |why: &str| A::Error::custom(format!("tensor {}: {why}", quoted(&name)));
            if tensors.len() == self.most {
                return Err(refuse("more tensors than the file holds"));
            }
            if name.len() > MAX_NAME || description.get().len() > MAX_ENTRY {
                return Err(refuse("a name or a description too long for one tensor"));
            }
            let tensor = serde_json::from_str::<Description>(description.get())
                .map_err(|e| refuse(&e.to_string()))?
                .read()
                .map_err(|why| refuse(&why))?;
            tensors.insert(name, tensor);
        }
        Ok(tensors)
    }
}

/// Takes the bytes of a text that is known, and fails at the first that differs.
struct Same<'a> {
    text: &'a [u8],
    at: usize,
}

impl Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = &self.text[self.at..];
        let same = rest.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        self.at += same;
        if same == bytes.len() { Ok(same) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A digest as text.
pub fn encode_digest(digest: Digest) -> String {
    BASE64.encode(digest)
}

fn decode_digest(text: &str) -> Option<Digest> {
    BASE64.decode(text).ok()?.try_into().ok()
}
