//! Archives taken apart and put together again with right digests, by their text alone: none of the crate's own writers.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use std::ops::Range;

/// Where the header's own digest stands while it is computed.
const NO_DIGEST: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const START: &str = r#"{"__metadata__":{"tersor":"#;
const SOURCES: &str = r#","tersor.sources":""#;

/// A file of an archive in parts.
#[derive(Clone)]
pub struct Parts {
    /// The manifest from behind its header digest on.
    pub manifest: String,
    /// The fingerprints of sources, with what stands around them; nothing where there are none.
    pub sources: String,
    /// The header from behind these on.
    pub rest: String,
    /// The data section.
    pub data: Vec<u8>,
}

impl Parts {
    /// Takes a file apart.
    pub fn of(file: &[u8]) -> Self {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header = std::str::from_utf8(&file[8..8 + length]).unwrap();
        let quoted = header.strip_prefix(START).expect("the manifest comes first");
        let mut texts = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
        let manifest = texts.next().unwrap().unwrap();
        let rest = &quoted[texts.byte_offset()..];
        let sources =
            rest.strip_prefix(SOURCES).and_then(|r| Some(SOURCES.len() + r.find('"')? + 1));
        let (sources, rest) = rest.split_at(sources.unwrap_or(0));
        let (sources, rest) = (sources.to_owned(), rest.to_owned());
        let digest = manifest.find(r#""header":""#).unwrap() + r#""header":""#.len();
        let manifest = manifest[digest + NO_DIGEST.len()..].to_owned();
        Self { manifest, sources, rest, data: file[8 + length..].to_vec() }
    }

    /// The digests of the chunks, as text.
    pub fn chunks(&self) -> String {
        let chunks = self.data.chunks(tersor::format::CHUNK as usize);
        BASE64.encode(chunks.flat_map(tersor::format::digest).collect::<Vec<u8>>())
    }

    /// The file, with every digest right but those of the tensors.
    pub fn seal(&self) -> Vec<u8> {
        self.seal_with(&self.chunks())
    }

    /// The same with these digests of chunks.
    pub fn seal_with(&self, chunks: &str) -> Vec<u8> {
        let digest = tersor::format::digest(self.header(chunks, NO_DIGEST).as_bytes());
        self.file(&self.header(chunks, &BASE64.encode(digest)))
    }

    /// A file with another header.
    pub fn file(&self, header: &str) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &self.data].concat()
    }

    /// The header with these digests.
    pub fn header(&self, chunks: &str, digest: &str) -> String {
        let manifest = format!(r#"{{"chunks":"{chunks}","header":"{digest}{}"#, self.manifest);
        format!("{START}{}{}{}", serde_json::Value::from(manifest), self.sources, self.rest)
    }

    /// Replaces a text of the manifest, which must be there.
    #[track_caller]
    pub fn describe(&mut self, from: &str, to: &str) {
        assert!(self.manifest.contains(from), "{from} is not in {}", self.manifest);
        self.manifest = self.manifest.replacen(from, to, 1);
    }

    /// Replaces a text of the header behind the manifest, which must be there.
    #[track_caller]
    pub fn enter(&mut self, from: &str, to: &str) {
        assert!(self.rest.contains(from), "{from} is not in {}", self.rest);
        self.rest = self.rest.replacen(from, to, 1);
    }

    /// Where a stored tensor's bytes are.
    #[track_caller]
    pub fn place(&self, name: &str) -> Range<usize> {
        let entry = &self.rest[self.rest.find(&format!("\"{name}\":")).expect("a stored tensor")..];
        let numbers = &entry[entry.find("offsets\":[").unwrap() + 10..];
        let (start, end) = numbers[..numbers.find(']').unwrap()].split_once(',').unwrap();
        start.parse().unwrap()..end.parse().unwrap()
    }

    /// A stored tensor's bytes.
    #[track_caller]
    pub fn bytes(&mut self, name: &str) -> &mut [u8] {
        let place = self.place(name);
        &mut self.data[place]
    }

    /// Gives a stored tensor of bytes, the last one of the file, other bytes.
    #[track_caller]
    pub fn replace(&mut self, name: &str, bytes: &[u8]) {
        let Range { start, end } = self.place(name);
        assert_eq!(end, self.data.len(), "{name} is the last one");
        self.data.truncate(start);
        self.data.extend(bytes);
        let now = start + bytes.len();
        self.enter(
            &format!("\"shape\":[{}],\"data_offsets\":[{start},{end}]", end - start),
            &format!("\"shape\":[{}],\"data_offsets\":[{start},{now}]", bytes.len()),
        );
    }
}
