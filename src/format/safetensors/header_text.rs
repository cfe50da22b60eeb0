//! The text of a header, written to anything that takes bytes: a file, a hash, or a counter that only wants its length.

use crate::{
    DType,
    digest::{Digest, Fingerprint},
    form::TensorManifest,
    format::{
        archive::manifest::{self, Manifest, SOURCES, is_ours, sources_text},
        safetensors::metadata::Metadata,
    },
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
    ops::Range,
};

/// A tensor of a file to be written.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Cow<'a, [u64]>,
    /// Its bytes in the data section.
    pub bytes: Range<u64>,
}

impl Entry<'_> {
    /// The same, of what is held elsewhere.
    pub fn borrowed(&self) -> Entry<'_> {
        Entry {
            name: Cow::Borrowed(&self.name),
            dtype: self.dtype,
            shape: Cow::Borrowed(&self.shape),
            bytes: self.bytes.clone(),
        }
    }
}

/// What a header says before its tensors.
#[derive(Clone, Copy, Debug)]
pub struct Preface<'a> {
    /// The manifest of an archive.
    pub manifest: Option<&'a Manifest>,
    /// Every other pair of metadata; one of ours is passed over.
    pub metadata: &'a Metadata,
}

impl Default for Preface<'_> {
    fn default() -> Self {
        Self { manifest: None, metadata: Metadata::NONE }
    }
}

/// Where the header's own digest stands while it is computed.
pub(in crate::format) const NO_DIGEST: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Writes a header: the manifest first of all, with `digest` as the header's own, then the other metadata by key, then the
/// tensors in their order.
///
/// # Errors
///
/// Those of `out`.
pub fn write_header<'a>(
    out: &mut impl Write,
    preface: Preface,
    digest: &str,
    tensors: impl IntoIterator<Item = Entry<'a>>,
) -> io::Result<()> {
    let manifest = preface.manifest.map(|m| {
        move |out: &mut Escaped<'_>| {
            m.write(out, digest)?;
            Ok(m.sources.values().copied().collect())
        }
    });
    write_parts(out, manifest, preface.metadata, tensors)
}

/// The tensors that a manifest describes, one by one.
pub(crate) type Described<'a> = &'a mut dyn Iterator<Item = (&'a str, &'a TensorManifest)>;

/// The length of such a header, given the digests, tensors and ties of its manifest, so that a plan need not build one to know
/// how long it will be.
pub(crate) fn header_length<'a, 'm>(
    manifest: Option<(&[Digest], Described<'m>, &BTreeMap<String, String>)>,
    metadata: &Metadata,
    tensors: impl IntoIterator<Item = Entry<'a>>,
) -> u64 {
    let mut count = Count(0);
    let manifest = manifest.map(|(chunks, described, tied)| {
        move |out: &mut Escaped<'_>| {
            let mut lossy = 0;
            let count = |(_, t): &(_, &TensorManifest)| lossy += usize::from(!t.lossless());
            manifest::write_text(out, chunks, NO_DIGEST, described.inspect(count), tied)?;
            Ok(vec![[0; 8]; lossy])
        }
    });
    write_parts(&mut count, manifest, metadata, tensors).expect("counting cannot fail");
    count.0
}

/// What one tensor takes in a header, a comma included.
pub(crate) fn entry_length(entry: Entry) -> u64 {
    let mut count = Count(1);
    write_entry(&mut count, &entry).expect("counting cannot fail");
    count.0
}

/// What one treated tensor takes in the manifest as it stands in a header, a comma included.
pub(crate) fn described_length(name: &str, tensor: &TensorManifest) -> u64 {
    let mut count = Count(1);
    manifest::write_tensor(&mut Escaped(&mut count), name, tensor).expect("counting cannot fail");
    count.0
}

/// What a tied tensor takes there.
pub(crate) fn tied_length(name: &str, to: &str) -> u64 {
    let mut count = Count(1);
    manifest::write_tie(&mut Escaped(&mut count), name, to).expect("counting cannot fail");
    count.0
}

/// What stands in a header before the digest of its own that an archive's manifest holds.
pub(in crate::format) fn before_digest(chunks: &[Digest]) -> Vec<u8> {
    let mut text = br#"{"__metadata__":{"tersor":""#.to_vec();
    manifest::write_start(&mut Escaped(&mut text), chunks).expect("memory takes every byte");
    text
}

fn write_parts<'a>(
    out: &mut impl Write,
    // Writes it, and returns the fingerprints of sources that are to stand beside it.
    manifest: Option<impl FnOnce(&mut Escaped<'_>) -> io::Result<Vec<Fingerprint>>>,
    metadata: &Metadata,
    tensors: impl IntoIterator<Item = Entry<'a>>,
) -> io::Result<()> {
    let mut metadata = metadata.sorted().filter(|(key, _)| !is_ours(key)).peekable();
    let any = manifest.is_some() || metadata.peek().is_some();
    out.write_all(b"{")?;
    if any {
        out.write_all(b"\"__metadata__\":{")?;
        let mut comma = "";
        if let Some(write) = manifest {
            out.write_all(b"\"tersor\":\"")?;
            let sources = write(&mut Escaped(out))?;
            out.write_all(b"\"")?;
            if !sources.is_empty() {
                write!(out, ",\"{SOURCES}\":\"{}\"", sources_text(&sources))?;
            }
            comma = ",";
        }
        for (key, value) in metadata {
            out.write_all(comma.as_bytes())?;
            serde_json::to_writer(&mut *out, key)?;
            out.write_all(b":")?;
            serde_json::to_writer(&mut *out, value)?;
            comma = ",";
        }
        out.write_all(b"}")?;
    }
    let mut comma = if any { "," } else { "" };
    for entry in tensors {
        out.write_all(comma.as_bytes())?;
        write_entry(out, &entry)?;
        comma = ",";
    }
    out.write_all(b"}")
}

fn write_entry(
    out: &mut impl Write,
    Entry { name, dtype, shape, bytes }: &Entry,
) -> io::Result<()> {
    serde_json::to_writer(&mut *out, name)?;
    write!(out, ":{{\"dtype\":\"{}\",\"shape\":", dtype.name())?;
    serde_json::to_writer(&mut *out, shape)?;
    write!(out, ",\"data_offsets\":[{},{}]}}", bytes.start, bytes.end)
}

/// JSON within a JSON string. The text that goes through it has no control characters: it is JSON without spaces.
struct Escaped<'a>(&'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        for part in text.split_inclusive(|b| matches!(b, b'"' | b'\\')) {
            match part {
                [plain @ .., special @ (b'"' | b'\\')] => {
                    self.0.write_all(plain)?;
                    self.0.write_all(&[b'\\', *special])?;
                }
                plain => self.0.write_all(plain)?,
            }
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Counts what is written.
pub(in crate::format) struct Count(pub u64);

impl Write for Count {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0 += text.len() as u64;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::affine::ScaleType;
    use crate::form::{Affine, Method, View};

    #[test]
    fn what_is_counted_is_what_is_written_and_every_reader_reads_it() {
        let described = TensorManifest {
            dtype: DType::F16,
            shape: vec![2, 8, 3],
            view: View { axis: 1, stack: true },
            coded: true,
            pruned: true,
            transform: None,
            method: Method::Affine(Affine {
                bits: 3,
                symmetric: false,
                group: 2,
                scales: ScaleType::Bf16,
            }),
            digest: [7; 16],
            max_rel_error: Some(0.1),
        };
        let name = "a\"\\\n\u{1b}é😀";
        let manifest = Manifest {
            tensors: [(name.to_owned(), described.clone())].into(),
            tied: [("t\"".to_owned(), name.to_owned())].into(),
            chunks: vec![[1; 16], [2; 16]],
            sources: [(name.to_owned(), [3; 8])].into(),
        };
        let ours = [("tersor", "another's"), ("tersor.sources", "another's")];
        let metadata = [ours[0], ("z", "\u{0}"), ours[1], ("b\"", "\\")];
        let metadata: Metadata = metadata.into_iter().collect();
        let entries = || {
            let entry = |name: &'static str, bytes: Range<u64>| Entry {
                name: name.into(),
                dtype: DType::U8,
                shape: vec![bytes.end - bytes.start, 1].into(),
                bytes,
            };
            [entry("x", 0..3), entry("y\t", 3..9)]
        };
        let mut text = Vec::new();
        let preface = Preface { manifest: Some(&manifest), metadata: &metadata };
        write_header(&mut text, preface, NO_DIGEST, entries()).unwrap();
        let mut tensors = manifest.tensors.iter().map(|(n, t)| (n.as_str(), t));
        let parts = (&manifest.chunks[..], &mut tensors as Described, &manifest.tied);
        let length = header_length(Some(parts), &metadata, entries());
        assert_eq!(length, text.len() as u64);
        assert!(text.starts_with(&before_digest(&manifest.chunks)));
        assert!(text[before_digest(&manifest.chunks).len()..].starts_with(NO_DIGEST.as_bytes()));

        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let meta = &json["__metadata__"];
        assert_eq!(
            meta.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["tersor", "tersor.sources", "b\"", "z"]
        );
        assert_eq!(meta["tersor.sources"], "AwMDAwMDAwM");
        assert_eq!(meta["z"], "\u{0}");
        assert_eq!(json["y\t"]["data_offsets"], serde_json::json!([3, 9]));
        let (read, _) = Manifest::parse(meta["tersor"].as_str().unwrap(), 1).unwrap();
        assert_eq!(read, Manifest { sources: Default::default(), ..manifest.clone() });

        let alone = Manifest { tensors: Default::default(), ..manifest.clone() };
        let mut without = Vec::new();
        let preface = Preface { manifest: Some(&alone), metadata: &metadata };
        write_header(&mut without, preface, NO_DIGEST, entries()).unwrap();
        assert_eq!(
            (text.len() - without.len()) as u64 + 1,
            described_length(name, &described),
            "a comma is counted"
        );

        let apart = Manifest { tied: Default::default(), ..manifest.clone() };
        let mut without = Vec::new();
        let preface = Preface { manifest: Some(&apart), metadata: &metadata };
        write_header(&mut without, preface, NO_DIGEST, entries()).unwrap();
        let key = r#",\"tied\":{}"#.len() as u64;
        assert_eq!((text.len() - without.len()) as u64 + 1 - key, tied_length("t\"", name));
    }
}
