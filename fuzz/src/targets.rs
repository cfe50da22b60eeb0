//! A function of bytes for every parser and codec. None may panic, whatever the bytes; what is read must be written the same.
//!
//! Inputs of codecs have a head that says how many symbols there are, and whether the rest is a stream, or symbols, which are
//! encoded, and edits of their stream, which get further than bytes alone.

use std::{fs, path::Path};
use tersor::{
    Backend, Cancel, DType, Silent,
    codec::{
        bitpack,
        block::{self, Coding, Element, Structure},
        bloomier, floats, gaps, huffman,
        pyramid::Pyramid,
        rans, ribbon, sparse,
        stream::{self, Coder},
        trellis::{self, Trellis},
    },
    format::{Archive, Checkpoint, Entry, Manifest, Preface, read_header, write_header},
    inspect,
    nn::{Embedding, Model, idx},
    pictures::{self, Colors, Needs},
    pipeline::{self, Options},
    recipe::{PRESETS, Recipe},
};

#[path = "reseal.rs"]
pub mod reseal;

/// A target: it is given bytes, and a folder for files of its own.
pub type Target = fn(&[u8], &Path);

/// All of them by name.
pub const ALL: [(&str, Target); 21] = [
    ("header", header),
    ("index", index),
    ("checkpoint", checkpoint),
    ("recipe", recipe),
    ("manifest", manifest),
    ("archive", archive),
    ("archive_edits", archive_edits),
    ("bitpack", bitpack),
    ("huffman", huffman),
    ("rans", rans),
    ("trellis", trellis),
    ("stream", stream),
    ("gaps", gaps),
    ("sparse", sparse),
    ("floats", floats),
    ("pyramid", pyramid),
    ("ribbon", ribbon),
    ("bloomier", bloomier),
    ("block", block),
    ("images", images),
    ("pictures", pictures),
];

/// Most bytes of tensors that an archive may claim here: honest ones take time in proportion.
const MOST: u64 = 1 << 22;

/// A header by itself, with the data section that it describes: it is written and read again.
fn header(data: &[u8], _: &Path) {
    let path = Path::new("fuzz");
    let Some(text) = data.get(8..) else { return };
    // A length is a lottery: here it is the whole, unless the first byte says that it stays as it is.
    let mut bytes = data.to_vec();
    if data[7] != 0xff {
        bytes[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
    }
    // Most headers describe no data: the file is as long as the last offset says.
    let last = |text: &[u8]| -> Option<u64> {
        let end = text.windows(2).rposition(|w| w[0].is_ascii_digit() && w[1] == b']')?;
        let start = text[..end].iter().rposition(|b| !b.is_ascii_digit())? + 1;
        std::str::from_utf8(&text[start..=end]).ok()?.parse().ok()
    };
    let len = (bytes.len() as u64).saturating_add(last(text).unwrap_or(0));
    let Ok(header) = read_header(path, &bytes[..], len, 0) else { return };
    let entries = |start: u64| {
        header.tensors.iter().map(move |t| Entry {
            name: t.name.as_str().into(),
            dtype: t.dtype,
            shape: (&t.shape[..]).into(),
            bytes: t.offset() - start..t.offset() - start + t.bytes,
        })
    };
    let mut again = vec![0; 8];
    let preface = Preface { manifest: None, metadata: &header.metadata };
    write_header(&mut again, preface, "", entries(header.data_start)).expect("memory");
    let size = again.len() as u64 - 8;
    again[..8].copy_from_slice(&size.to_le_bytes());
    let len = size + 8 + (len - header.data_start);
    let read = read_header(path, &again[..], len, 0).expect("what was written is read");
    assert_eq!(read.tensors.len(), header.tensors.len());
    for (a, b) in read.tensors.iter().zip(&header.tensors) {
        assert_eq!((&a.name, a.dtype, &a.shape, a.bytes), (&b.name, b.dtype, &b.shape, b.bytes));
    }
    // One of ours is passed over.
    let pairs = header.metadata.sorted().filter(|(key, _)| *key != "tersor");
    assert_eq!(read.metadata, pairs.collect());
}

/// An index beside the shards `one`, of tensors a and b, and `two`, of tensor c.
fn index(data: &[u8], folder: &Path) {
    let folder = folder.join("index");
    if !folder.exists() {
        fs::create_dir(&folder).expect("a folder");
        for (file, tensors) in [("one", &["a", "b"][..]), ("two", &["c"])] {
            let entry = |(i, name): (usize, &&str)| {
                format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1)
            };
            let text: Vec<_> = tensors.iter().enumerate().map(entry).collect();
            let text = format!("{{{}}}", text.join(","));
            let bytes =
                [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &vec![0; tensors.len()]];
            fs::write(folder.join(format!("{file}.safetensors")), bytes.concat()).expect("a shard");
        }
    }
    let path = folder.join("model.safetensors.index.json");
    fs::write(&path, data).expect("an index");
    if let Ok(read) = Checkpoint::open(&path) {
        // Only files of the folder, and all of their tensors.
        assert!(
            read.files.iter().all(|f| ["one.safetensors", "two.safetensors"].contains(&&*f.name))
        );
        assert_eq!(read.files.len(), 1 + usize::from(read.tensors.iter().any(|t| t.name == "c")));
    }
}

/// A whole file that is compressed by every preset where it is a checkpoint.
fn checkpoint(data: &[u8], folder: &Path) {
    let [input, output] = ["checkpoint.safetensors", "output"].map(|n| folder.join(n));
    fs::write(&input, data).expect("a file");
    let Ok(read) = Checkpoint::open(&input) else { return };
    _ = inspect::inspect(&read, &options());
    let (_, preset) = PRESETS[data.len() % PRESETS.len()];
    let recipe = Recipe::parse(preset).expect("a preset");
    if pipeline::compress(&input, &output, &recipe, &options()).is_ok() {
        // What was made is read.
        pipeline::verify(&output, Some(&input), &options()).expect("its own archive");
    }
}

fn recipe(data: &[u8], _: &Path) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Recipe::parse(text) {
        Ok(recipe) => {
            for rule in &recipe.rules {
                _ = rule.matches("model.layers.0.weight", DType::F32, &[3, 1 << 40, 1 << 40]);
            }
        }
        Err(e) => assert!(!e.to_string().lines().any(|l| l.chars().any(char::is_control))),
    }
}

fn manifest(data: &[u8], _: &Path) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok((read, header)) = Manifest::parse(text, 8) else { return };
    assert!(read.tensors.len() <= 8);
    for tensor in read.tensors.values() {
        // Arithmetic on shapes.
        _ = (tensor.matrix(), tensor.components(), tensor.table_starts(), tensor.element());
    }
    let mut again = Vec::new();
    read.write(&mut again, &reseal::text(&header)).expect("memory");
    assert_eq!(again, data);
}

/// A whole archive: opened, verified, which decodes all of it, and restored.
fn archive(data: &[u8], folder: &Path) {
    // Digests are not compared where this is built for a fuzzer; elsewhere they are made right.
    let sealed = if cfg!(fuzzing) { None } else { reseal::reseal(data) };
    open(sealed.as_deref().unwrap_or(data), folder);
}

fn open(data: &[u8], folder: &Path) {
    let [input, output] = ["archive.safetensors", "restored"].map(|n| folder.join(n));
    fs::write(&input, data).expect("a file");
    let Ok(archive) = Archive::open(&input) else { return };
    let bytes = archive.tensors.iter().map(|t| archive.original_bytes(t));
    if bytes.fold(0, u64::saturating_add) > MOST {
        return;
    }
    if let Ok(report) = pipeline::verify(&input, None, &options()) {
        assert!(report.ok && report.tensors.len() == archive.tensors.len());
    }
    _ = pipeline::decompress(&input, &output, &options());
    if let Ok(model) = Model::open(&input) {
        for tensor in &archive.tensors {
            let Some(name) = tensor.name.strip_suffix(".weight") else { continue };
            let columns = archive.original(tensor).1.iter().skip(1);
            let columns = columns.fold(1u64, |n, d| n.saturating_mul(*d)) as usize;
            _ = Embedding::load(&model, &Backend::Cpu, name, columns);
        }
    }
}

fn options() -> Options<'static> {
    static CANCEL: Cancel = Cancel::new();
    let (progress, cancel) = (&Silent, &CANCEL);
    Options {
        threads: 1,
        memory: 64 << 20,
        force: true,
        ..Options::new(&Backend::Cpu, progress, cancel)
    }
}

/// Archives of every kind.
const GOOD: &[&[u8]] = &[
    include_bytes!("../../tests/golden/1/affine-F32"),
    include_bytes!("../../tests/golden/1/palette-F32"),
    include_bytes!("../../tests/golden/1/two-of-four-F32"),
    include_bytes!("../../tests/golden/1/channels-F32"),
    include_bytes!("../../tests/golden/1/blocks-F32"),
    include_bytes!("../../tests/golden/1/huffman-F32"),
    include_bytes!("../../tests/golden/1/deep-rans-F32"),
    include_bytes!("../../tests/golden/1/ribbon-F32"),
    include_bytes!("../../tests/golden/1/bloomier-F32"),
    include_bytes!("../../tests/golden/1/lossless-F32"),
    include_bytes!("../../tests/golden/1/deep-trellis-F32"),
];

/// Edits of a good archive, each of five bytes, digests made right: a number of its header becomes another, or bytes of its data.
fn archive_edits(data: &[u8], folder: &Path) {
    let Some((which, mut edits)) = data.split_first() else { return };
    let mut bytes = GOOD[usize::from(*which) % GOOD.len()].to_vec();
    while let Some(([kind, a, b, c, d], rest)) = edits.split_first_chunk() {
        let at = usize::from(u16::from_le_bytes([*a, *b]));
        edit(&mut bytes, *kind, at, *c, *d);
        edits = rest;
    }
    let bytes = reseal::reseal(&bytes).unwrap_or(bytes);
    open(&bytes, folder);
}

fn edit(bytes: &mut Vec<u8>, kind: u8, at: usize, c: u8, d: u8) {
    let size = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let start = (8 + size).min(bytes.len());
    let before = bytes.len();
    match kind % 8 {
        // A number of the header.
        0..=3 => {
            let header = &bytes[8..start];
            let digit = |i: usize| header.get(i).is_some_and(u8::is_ascii_digit);
            // Numbers stand behind one of these.
            let numbers: Vec<usize> = (1..header.len())
                .filter(|i| digit(*i) && b"[,:".contains(&header[i - 1]))
                .collect();
            let Some(first) = numbers.get(at % numbers.len().max(1)) else { return };
            let len = (*first..).take_while(|i| digit(*i)).count();
            let old: u64 = std::str::from_utf8(&header[*first..first + len])
                .expect("digits")
                .parse()
                .unwrap_or(0);
            let (c, d) = (u64::from(c), u64::from(d));
            let new = match kind % 4 {
                0 => c << (d % 57),
                1 => old.wrapping_add(c),
                2 => old.wrapping_sub(c),
                _ => old ^ 1 << (c % 64),
            };
            bytes.splice(8 + first..8 + first + len, new.to_string().into_bytes());
        }
        // A word of the header becomes another.
        4 => {
            const WORDS: [&str; 12] = [
                "F32", "BF16", "F64", "F8_E4M3", "U8", "U32", "codes", "coded", "values", "mask",
                "pruned", "palette",
            ];
            let (from, to) = (WORDS[usize::from(c) % 12], WORDS[usize::from(d) % 12]);
            let header = &bytes[8..start];
            let found = header.windows(from.len()).position(|w| w == from.as_bytes());
            let Some(first) = found else { return };
            bytes.splice(8 + first..8 + first + from.len(), to.bytes());
        }
        5 if start < bytes.len() => {
            let at = start + at % (bytes.len() - start);
            bytes[at] = c;
        }
        6 if start < bytes.len() => {
            let at = start + at % (bytes.len() - start);
            bytes[at] ^= 1 << (c % 8);
        }
        7 if d.is_multiple_of(2) => {
            bytes.truncate(bytes.len() - usize::from(c).min(bytes.len() - start))
        }
        7 => bytes.extend(std::iter::repeat_n(d, c.into())),
        _ => {}
    }
    // A number or a word of another length.
    if kind % 8 < 5 {
        let size = (size + bytes.len() - before) as u64;
        bytes[..8].copy_from_slice(&size.to_le_bytes());
    }
}

// -------------------------------------------------------------------------------------------------------------- codecs

/// The head of an input, taken from its front.
struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn number(&mut self, most: usize) -> usize {
        (usize::from(self.byte()) | usize::from(self.byte()) << 8) % (most + 1)
    }

    /// The rest over and over, so many bytes of it.
    fn symbols(&self, count: usize, mask: u8) -> Vec<u8> {
        match self.0.is_empty() {
            true => vec![0; count],
            false => self.0.iter().cycle().take(count).map(|b| b & mask).collect(),
        }
    }

    /// Up to three edits of a good stream, or, every other time, the rest as a stream itself.
    fn stream(&mut self, encode: impl FnOnce(&Self, &mut Vec<u8>)) -> (Vec<u8>, bool) {
        let kind = self.byte();
        if kind.is_multiple_of(2) {
            return (self.0.to_vec(), false);
        }
        let edits: Vec<[u8; 4]> = (0..kind / 2 % 4)
            .map(|_| [self.byte(), self.byte(), self.byte(), self.byte()])
            .collect();
        let mut bytes = Vec::new();
        encode(self, &mut bytes);
        let good = bytes.clone();
        for [a, b, how, value] in edits {
            let at = usize::from(u16::from_le_bytes([a, b])) % (bytes.len() + 1);
            match how % 4 {
                0 if at < bytes.len() => bytes[at] = value,
                1 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
                2 => bytes.truncate(at),
                3 => bytes.insert(at, value),
                _ => {}
            }
        }
        let same = bytes == good;
        (bytes, same)
    }
}

/// Decodes; a good stream must give what it was made of, and what is decoded must be encoded the same.
fn both_ways<T: PartialEq + std::fmt::Debug>(
    (bytes, good): (Vec<u8>, bool),
    made_of: impl FnOnce() -> T,
    decode: impl FnOnce(&[u8]) -> Option<T>,
    encode: impl FnOnce(&T, &mut Vec<u8>),
) {
    let found = decode(&bytes);
    assert!(!good || found.as_ref() == Some(&made_of()), "a stream does not come back");
    if let Some(symbols) = found {
        let mut again = Vec::new();
        encode(&symbols, &mut again);
        assert!(again == bytes, "another stream of the same symbols");
    }
}

/// As many symbols as streams of several blocks have.
const SYMBOLS: usize = 40_000;

fn huffman(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let n = head.number(SYMBOLS);
    let mask = head.byte() & 127;
    let mut source = Vec::new();
    let made = head.stream(|head, out| {
        source = head.symbols(n, mask);
        assert!(huffman::encode(&source, out), "at most 128 kinds");
    });
    let decode = |bytes: &[u8]| {
        let mut out = vec![0; n];
        huffman::decode(bytes, &mut out).is_ok().then_some(out)
    };
    both_ways(made, || source, decode, |s, out| assert!(huffman::encode(s, out)));
}

fn rans(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let n = head.number(SYMBOLS);
    let mask = head.byte();
    let mut source = Vec::new();
    let made = head.stream(|head, out| {
        source = head.symbols(n, mask);
        rans::encode(&source, out);
    });
    let decode = |bytes: &[u8]| {
        let mut out = vec![0; n];
        rans::decode(bytes, &mut out).is_ok().then_some(out)
    };
    both_ways(made, || source, decode, |s, out| rans::encode(s, out));
}

/// Codes along paths through any trellis.
fn trellis(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let of = trellis_of(head.byte());
    let n = head.number(SYMBOLS);
    let mask = head.byte();
    let mut source = Vec::new();
    let made = head.stream(|head, out| {
        source = head.symbols(n, mask);
        of.lead(&mut source);
        trellis::encode(&source, out);
    });
    let decode = |bytes: &[u8]| {
        let mut out = vec![0; n];
        trellis::decode(of, bytes, &mut out).is_ok().then_some(out)
    };
    both_ways(made, || source, decode, |s, out| trellis::encode(s, out));
}

fn trellis_of(byte: u8) -> Trellis {
    Trellis::new(4 << (byte % 5)).expect("there is one")
}

const CODERS: [Coder; 3] = [Coder::Huffman, Coder::Rans, Coder::Auto];

fn stream(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let n = head.number(SYMBOLS);
    let bits = 1 + u32::from(head.byte() % 8);
    let coder = CODERS[usize::from(head.byte()) % 3];
    let mut source = Vec::new();
    let (bytes, good) = head.stream(|head, out| {
        source = head.symbols(n, ((1u32 << bits) - 1) as u8);
        stream::encode(&source, bits, coder, out);
    });
    let mut found = vec![0; n];
    let read = stream::decode(&bytes, bits, &mut found).is_ok();
    assert!(!good || read && found == source, "a stream does not come back");
    if read {
        assert!(found.iter().all(|s| u32::from(*s) >> bits == 0), "a symbol outside the alphabet");
    }
}

fn bitpack(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let (n, bits) = (head.number(2000), 1 + u32::from(head.byte() % 8));
    let codes = head.symbols(n, ((1u32 << bits) - 1) as u8);
    let (mut packed, mut back) = (vec![0; bitpack::words(n, bits)], vec![0; n]);
    bitpack::pack(&codes, bits, &mut packed);
    bitpack::unpack(&packed, bits, &mut back);
    assert!(back == codes && bitpack::padding_is_zero(&packed, bits, std::iter::once(n)));
    // Any words: padding that is zero is all that is lost.
    let bytes = head.symbols(4 * packed.len(), 255);
    let words: Vec<u32> =
        bytes.as_chunks().0.iter().map(|b: &[u8; 4]| u32::from_le_bytes(*b)).collect();
    bitpack::unpack(&words, bits, &mut back);
    bitpack::pack(&back, bits, &mut packed);
    assert_eq!(packed == words, bitpack::padding_is_zero(&words, bits, std::iter::once(n)));
}

/// Rows, columns and a mask of them, padding zero.
fn mask(head: &mut Head) -> (usize, usize, Vec<u32>) {
    let (rows, cols) = (1 + head.number(40), 1 + head.number(300));
    let (bytes, sparse) = (head.symbols(rows * cols, 255), head.byte());
    let mut mask = vec![0; rows * cols.div_ceil(32)];
    for (i, byte) in bytes.iter().enumerate().filter(|(_, b)| **b > sparse) {
        mask[i / cols * cols.div_ceil(32) + i % cols / 32] |=
            u32::from(*byte != 0) << (i % cols % 32);
    }
    (rows, cols, mask)
}

fn gaps(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let width = 2 + u32::from(head.byte() % 7);
    let (rows, cols, mask) = mask(&mut head);
    if let Ok(back) = gaps::decode(&gaps::encode(&mask, cols, width), width, rows, cols) {
        assert_eq!(back, mask);
    }
    let symbols = head.symbols(head.0.len(), ((1u32 << width) - 1) as u8);
    if let Ok(found) = gaps::decode(&symbols, width, rows, cols) {
        assert!(sparse::padding_is_zero(&found, cols));
        assert_eq!(gaps::encode(&found, cols, width), symbols);
    }
}

fn sparse(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let dtype = WEIGHTS[usize::from(head.byte()) % 6];
    let (rows, cols, mask) = mask(&mut head);
    assert!(sparse::padding_is_zero(&mask, cols));
    let mut elements = vec![0u32; tersor::words(dtype, rows * cols)];
    let bytes = head.symbols(4 * elements.len(), 255);
    for (word, bytes) in elements.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let kept = sparse::gather(dtype, &elements, cols, &mask);
    let spread = sparse::scatter(dtype, &kept, rows, cols, &mask);
    sparse::clear_pruned(dtype, &mut elements, rows, cols, &mask);
    // Behind the last element is nothing.
    if (rows * cols * dtype.bits()).is_multiple_of(32) {
        assert_eq!(spread, elements);
    }
    assert_eq!(sparse::gather(dtype, &spread, cols, &mask), kept);
}

const WEIGHTS: [DType; 6] =
    [DType::F64, DType::F32, DType::F16, DType::BF16, DType::F8E4M3, DType::F8E5M2];

/// Types that hold none, of every width.
const OTHERS: [DType; 4] = [DType::U8, DType::I16, DType::U32, DType::I64];

fn floats(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let dtype = WEIGHTS[usize::from(head.byte()) % 6];
    let n = dtype.bytes(head.number(4000));
    // Of patterns alone exponents are all different: here they are of a few kinds.
    let (mask, common) = (head.byte(), head.byte());
    let mut source = Vec::new();
    let made = head.stream(|head, out| {
        source = head.symbols(n, 255);
        for last in source.chunks_mut(dtype.bytes(1)).filter_map(|e| e.last_mut()) {
            *last = *last & mask | common & !mask;
        }
        floats::encode(dtype, &source, out);
    });
    let decode = |bytes: &[u8]| {
        let mut out = vec![0; n];
        floats::decode(dtype, bytes, &mut out).is_ok().then_some(out)
    };
    // There are two forms, and planes that may be coded: what is decoded must come back, perhaps from another stream.
    let (bytes, good) = made;
    let found = decode(&bytes);
    assert!(!good || found.as_ref() == Some(&source), "a stream does not come back");
    if let Some(found) = found {
        let mut again = Vec::new();
        floats::encode(dtype, &found, &mut again);
        assert!(decode(&again) == Some(found), "what was decoded does not come back");
    }
}

type Function = (
    fn(usize, &[u32], &[u8], (u32, u32), &mut Vec<u8>),
    fn(&[u8], &mut [u32], &mut [u8]) -> Result<(), tersor::codec::Malformed>,
);

/// A retrieval structure: survivors come back; other positions may, too.
fn retrieval(data: &[u8], (encode, decode): Function) {
    let mut head = Head(data);
    let n = 1 + head.number(6000);
    let r = 1 + u32::from(head.byte() % 8);
    let t = r + u32::from(head.byte()) % (16 - r);
    let density = head.byte();
    let (mut mask, mut values) = (vec![0u32; n.div_ceil(32)], Vec::new());
    let (bytes, good) = head.stream(|head, out| {
        let chosen = head.symbols(n, 255);
        for (i, byte) in chosen.iter().enumerate().filter(|(i, b)| (**b ^ *i as u8) < density) {
            mask[i / 32] |= 1 << (i % 32);
            values.push((u32::from(*byte) & ((1 << r) - 1)) as u8);
        }
        encode(n, &mask, &values, (r, t), out);
    });
    let (mut found, mut out) = (vec![0; n.div_ceil(32)], vec![0; n]);
    if decode(&bytes, &mut found, &mut out).is_err() {
        assert!(!good, "a structure is not read");
        return;
    }
    assert!(sparse::padding_is_zero(&found, n));
    let mut next = values.iter();
    for i in (0..n).filter(|i| good && mask[i / 32] >> (i % 32) & 1 == 1) {
        assert!(found[i / 32] >> (i % 32) & 1 == 1 && next.next() == Some(&out[i]), "position {i}");
    }
}

/// Numbers of vectors: N, K and a number, whose vector has it again, or which is none's.
fn pyramid(data: &[u8], _: &Path) {
    let Some(([n, k], rest)) = data.split_first_chunk() else { return };
    let Some(pyramid) = Pyramid::new((*n).into(), (*k).into()) else { return };
    let mut number = [0; 16];
    let len = rest.len().min(16);
    number[..len].copy_from_slice(&rest[..len]);
    let number = u128::from_le_bytes(number) & (u128::MAX >> (128 - pyramid.bits().max(1)));
    let mut vector = vec![0; pyramid.n];
    match pyramid.vector(number, &mut vector) {
        false => assert!(number >= pyramid.count(pyramid.n, pyramid.k)),
        true => {
            let sum: usize = vector.iter().map(|v| usize::from(v.unsigned_abs())).sum();
            assert_eq!((pyramid.number(&vector), sum), (number, pyramid.k));
        }
    }
}

fn ribbon(data: &[u8], _: &Path) {
    retrieval(data, (ribbon::encode, ribbon::decode));
}

fn bloomier(data: &[u8], _: &Path) {
    retrieval(data, (bloomier::encode, bloomier::decode));
}

fn block(data: &[u8], _: &Path) {
    let mut head = Head(data);
    let element = match head.byte() % 20 {
        kind @ 0..8 => Element::Code(1 + u32::from(kind)),
        kind @ 8..14 => Element::Value(WEIGHTS[usize::from(kind) - 8]),
        kind @ 14..18 => Element::Value(OTHERS[usize::from(kind) - 14]),
        kind => Element::Path(5 + 3 * u32::from(kind % 2), trellis_of(kind)),
    };
    let (pruned, coding) = (head.byte() % 2 == 1, head.byte() % 5);
    let coding = match element {
        Element::Code(bits) if pruned && coding > 2 => {
            let structure = if coding == 3 { Structure::Ribbon } else { Structure::Bloomier };
            Coding::Retrieval(structure, bits + u32::from(head.byte()) % (16 - bits))
        }
        _ => Coding::Streams(CODERS[usize::from(coding) % 3]),
    };
    let (rows, cols, mut mask) = mask(&mut head);
    if !pruned {
        mask.clear();
    }
    let counts: Vec<usize> = match pruned {
        true => sparse::row_counts(&mask, cols).collect(),
        false => vec![cols; rows],
    };
    let mut source = block::Block::default();
    let (bytes, good) = head.stream(|head, out| {
        let stored = match element {
            Element::Code(bits) => {
                let mut stored = Vec::new();
                for n in counts {
                    let mut row = vec![0; bitpack::words(n, bits)];
                    bitpack::pack(&head.symbols(n, ((1u32 << bits) - 1) as u8), bits, &mut row);
                    stored.extend(row);
                }
                stored
            }
            Element::Path(bits, of) => {
                let mut codes = head.symbols(counts.iter().sum(), ((1u32 << bits) - 1) as u8);
                of.lead(&mut codes);
                let (mut stored, mut left) = (Vec::new(), &codes[..]);
                for n in counts {
                    let (codes, after) = left.split_at(n);
                    let mut row = vec![0; bitpack::words(n, bits)];
                    bitpack::pack(codes, bits, &mut row);
                    stored.extend(row);
                    left = after;
                }
                stored
            }
            Element::Value(dtype) => {
                let len = dtype.bytes(counts.iter().sum::<usize>());
                let mut bytes = head.symbols(len, 255);
                bytes.resize(4 * tersor::words(dtype, counts.iter().sum()), 0);
                bytes.as_chunks().0.iter().map(|b: &[u8; 4]| u32::from_le_bytes(*b)).collect()
            }
        };
        source = block::Block { mask, stored };
        block::encode(&source, (rows, cols), element, coding, out);
    });
    let found = block::decode(&bytes, (rows, cols), pruned, element);
    let retrieved = matches!(coding, Coding::Retrieval(..));
    match found {
        Ok((found, sizes)) => {
            assert!(!good || retrieved || found == source, "a block does not come back");
            assert_eq!(sizes.index + sizes.stored, bytes.len() as u64);
        }
        Err(why) => assert!(!good, "its own block is refused: {why}"),
    }
}

fn images(data: &[u8], _: &Path) {
    if let Ok(read) = idx::read(Path::new("fuzz"), data, 1 << 20) {
        assert!(read.data.len() <= 1 << 20);
        assert_eq!(read.shape.iter().map(|d| *d as usize).product::<usize>(), read.data.len());
    }
}

/// Pictures: what is opened keeps to its memory, and is the same again as a PNG file.
fn pictures(data: &[u8], folder: &Path) {
    const MEMORY: u64 = 128 << 20;
    let path = folder.join("picture");
    fs::write(&path, with_sums(data)).expect("a file");
    let Ok(opened) = pictures::open(&path, MEMORY) else { return };
    let picture = &opened.picture;
    assert!(picture.pixels().len() as u64 * 4 <= MEMORY);
    assert!(opened.profile.is_none_or(|p| p.len() as u64 <= MEMORY));
    if Colors::within(picture, &Needs::default(), MEMORY).is_err() {
        return;
    }
    fs::write(&path, pictures::png(picture, None).expect("less than 2^31")).expect("a file");
    let again = pictures::open(&path, u64::MAX).expect("what was written is read");
    assert!(again.picture == *picture && again.notes.is_empty());
}

/// A PNG file whose chunks have the right sums, which are a lottery otherwise; unless its last byte says that they stay.
fn with_sums(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4).filter(|_| data.last() != Some(&0xff)) {
        let length = length.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let end = (at + 8).saturating_add(length);
        let Some(chunk) = bytes.get(at + 4..end) else { break };
        let sum = !chunk.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ (0xedb8_8320 * (sum & 1)))
        });
        let Some(place) = bytes.get_mut(end..end + 4) else { break };
        place.copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
    bytes
}
