//! The manifest of an archive: what was done to each tensor, and the digests. It is canonical JSON under the metadata key
//! `tersor`: sorted keys, no spaces, no times, no paths.

use crate::{
    digest::{Digest, Fingerprint, decode_digest},
    form::TensorManifest,
    format::safetensors::header::MAX_NAME,
    quote::{json_error, quoted},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{
    Deserialize,
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
/// What one safetensors file of an archive holds beyond its header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The treated tensors by name; every other tensor of the file is kept bit for bit.
    pub tensors: BTreeMap<String, TensorManifest>,
    /// By the name of a tensor that is equal to one before it, the name of that one, which stands for both.
    pub tied: BTreeMap<String, String>,
    /// Digests of the data section, one for each 4 MiB.
    pub chunks: Vec<Digest>,
    /// What those of the treated tensors that do not come back bit for bit were made from, by name. It is no part of the text, but
    /// stands beside it under `tersor.sources`, which readers that do not know it pass over.
    pub sources: BTreeMap<String, Fingerprint>,
}

/// The metadata key of the fingerprints of sources.
pub(in crate::format) const SOURCES: &str = "tersor.sources";

/// The metadata keys that are ours, and no part of what a checkpoint says of itself.
pub(in crate::format) fn is_ours(key: &str) -> bool {
    key == "tersor" || key == SOURCES
}

/// Fingerprints as text, in the order of their tensors' names.
pub(in crate::format) fn sources_text(sources: &[Fingerprint]) -> String {
    BASE64.encode(sources.as_flattened())
}

/// The fingerprints that such a text holds: `expected` of them.
///
/// # Errors
///
/// What is wrong, in words.
pub(in crate::format) fn parse_sources(
    text: &str,
    expected: usize,
) -> Result<Vec<Fingerprint>, String> {
    let bytes = BASE64.decode(text).map_err(|e| format!("{SOURCES}: {e}"))?;
    match bytes.as_chunks::<8>() {
        (sources, []) if sources.len() == expected => Ok(sources.to_vec()),
        _ => {
            let found = bytes.len();
            Err(format!("{SOURCES}: {found} bytes, expected 8 for each of {expected} tensors"))
        }
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
        write_text(out, &self.chunks, header, tensors, &self.tied)
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
            #[serde(borrow)]
            tied: Option<&'a RawValue>,
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
        let tensors = named(parts.tensors, most, &TensorManifest::parse).map_err(wrong)?;
        let name = |text: &str| serde_json::from_str(text).map_err(|e| json_error(&e).to_string());
        let tied = parts.tied.map(|tied| named(tied, most, &name)).transpose().map_err(wrong)?;
        let (tied, chunks) = (tied.unwrap_or_default(), chunks.to_vec());
        let manifest = Self { tensors, tied, chunks, sources: BTreeMap::new() };
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
    tied: &BTreeMap<String, String>,
) -> io::Result<()> {
    write_start(out, chunks)?;
    write!(out, "{header}\",\"tensors\":{{")?;
    let mut comma = "";
    for (name, tensor) in tensors {
        out.write_all(comma.as_bytes())?;
        write_tensor(out, name, tensor)?;
        comma = ",";
    }
    out.write_all(b"}")?;
    let mut before = ",\"tied\":{";
    for (name, to) in tied {
        out.write_all(before.as_bytes())?;
        write_tie(out, name, to)?;
        before = ",";
    }
    let end = if tied.is_empty() { "" } else { "}" };
    write!(out, "{end},\"version\":{VERSION}}}")
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
    tensor.write(out)
}

/// The name of a tensor and that of the one it is equal to.
pub(in crate::format) fn write_tie(out: &mut impl Write, name: &str, to: &str) -> io::Result<()> {
    serde_json::to_writer(&mut *out, name)?;
    out.write_all(b":")?;
    serde_json::to_writer(out, to).map_err(Into::into)
}

/// What stands in a manifest for at most `most` tensors, each by its name.
fn named<T>(
    text: &RawValue,
    most: usize,
    parse: &dyn Fn(&str) -> Result<T, String>,
) -> serde_json::Result<BTreeMap<String, T>> {
    Tensors { most, parse }.deserialize(&mut serde_json::Deserializer::from_str(text.get()))
}

/// Reads what a manifest has for tensors, and for no more of them than there can be.
struct Tensors<'a, T> {
    most: usize,
    parse: &'a dyn Fn(&str) -> Result<T, String>,
}

impl<'de, T> DeserializeSeed<'de> for Tensors<'_, T> {
    type Value = BTreeMap<String, T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, T> Visitor<'de> for Tensors<'_, T> {
    type Value = BTreeMap<String, T>;

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
            let tensor = (self.parse)(description.get()).map_err(|why| refuse(&why))?;
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
