//! A strict, streaming reader of safetensors headers.
//!
//! The `safetensors` crate accepts duplicate names, and takes 1.5 GB for a 100 MB header. This reader keeps neither the
//! text nor a tree of it, refuses everything the format forbids, and says what was found and what was expected.

use crate::{DType, Error, Result, TensorInfo};
use std::{
    io::{BufReader, Read},
    path::Path,
};

/// Longest header, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;
/// Most tensors in one file.
const MAX_TENSORS: usize = 1 << 20;
/// Most dimensions.
const MAX_RANK: usize = 32;
/// Longest name, in bytes.
const MAX_NAME: usize = 1024;

/// A parsed header.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// By position in the file.
    pub tensors: Vec<TensorInfo>,
    /// `__metadata__`, in the order of the file.
    pub metadata: Vec<(String, String)>,
    /// Where the data section starts: 8 bytes of length and the header itself.
    pub data_start: u64,
}

/// Reads and checks the header of a file of `file_len` bytes. Tensor offsets are positions in the file; `file` is the index
/// they carry.
///
/// # Errors
///
/// [`Error::Format`] for everything the format forbids; [`Error::Io`].
pub fn read(path: &Path, reader: impl Read, file_len: u64, file: usize) -> Result<Header> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let refuse = |why: String| Error::format(path, why);
    let mut length = [0; 8];
    if file_len < 8 {
        return Err(refuse(format!(
            "{file_len} bytes are too few for a safetensors file, expected at least 8"
        )));
    }
    reader.read_exact(&mut length).map_err(Error::io(path))?;
    if let Some(kind) = foreign(&length) {
        return Err(refuse(format!("this is {kind}, expected a safetensors file")));
    }
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(refuse(format!(
            "the header claims {length} bytes, expected at most {MAX_HEADER}"
        )));
    }
    if length < 2 || length > file_len - 8 {
        let rest = file_len - 8;
        return Err(refuse(format!(
            "the header claims {length} bytes, expected 2 to the {rest} that follow"
        )));
    }
    let mut parser = Parser {
        path,
        input: reader.take(length),
        peeked: None,
        at: 0,
        text: Vec::new(),
        header: Header { data_start: 8 + length, ..Default::default() },
        file,
    };
    parser.object()?;
    let mut header = parser.header;
    check_names(path, &header.tensors)?;
    check_layout(path, &mut header.tensors, header.data_start, file_len)?;
    Ok(header)
}

/// Formats that people rename, by their first bytes.
fn foreign(start: &[u8; 8]) -> Option<&'static str> {
    match start {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Some("a zip archive, perhaps a PyTorch checkpoint"),
        [0x80, 2..=5, b'}' | b']' | b'c' | b'(' | b'q' | 0x8a | 0x95, ..] => {
            Some("a Python pickle")
        }
        [b'G', b'G', b'U', b'F', ..] => Some("a GGUF file"),
        [0x89, b'H', b'D', b'F', ..] => Some("an HDF5 file"),
        [0x1f, 0x8b, ..] => Some("a gzip file"),
        _ => None,
    }
}

fn check_names(path: &Path, tensors: &[TensorInfo]) -> Result<()> {
    let mut order: Vec<u32> = (0..tensors.len() as u32).collect();
    let name = |i: u32| tensors[i as usize].name.as_str();
    order.sort_unstable_by(|a, b| name(*a).cmp(name(*b)));
    match order.windows(2).find(|w| name(w[0]) == name(w[1])) {
        None => Ok(()),
        Some(w) => {
            let why = format!("tensor {} appears twice, expected once", quoted(name(w[0])));
            Err(Error::format(path, why))
        }
    }
}

/// Sorts the tensors by position and demands that they cover the data section once. Offsets become file positions.
fn check_layout(
    path: &Path,
    tensors: &mut [TensorInfo],
    data_start: u64,
    file_len: u64,
) -> Result<()> {
    tensors.sort_by_key(|t| (t.offset, t.offset + t.bytes));
    let mut expected = 0;
    for t in tensors.iter_mut() {
        if t.offset != expected {
            let what = if t.offset < expected {
                "overlaps what is before it"
            } else {
                "leaves a hole before it"
            };
            let why = format!(
                "tensor {} {what}: it starts at {}, expected {expected}",
                quoted(&t.name),
                t.offset
            );
            return Err(Error::format(path, why));
        }
        expected += t.bytes;
        t.offset += data_start;
    }
    let found = file_len - data_start;
    if expected != found {
        let why = format!(
            "the data section has {found} bytes, expected the {expected} that the header describes"
        );
        return Err(Error::format(path, why));
    }
    Ok(())
}

/// A name from a file, for a message: escaped and cut.
pub fn quoted(name: &str) -> String {
    let mut text: String = name.chars().take(100).flat_map(char::escape_debug).collect();
    if name.chars().nth(100).is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
}

struct Parser<'a, R> {
    path: &'a Path,
    input: std::io::Take<BufReader<R>>,
    peeked: Option<u8>,
    at: u64,
    /// The string or number being read.
    text: Vec<u8>,
    header: Header,
    file: usize,
}

/// The parts of one tensor's entry as they arrive.
#[derive(Default)]
struct Entry {
    dtype: Option<DType>,
    shape: Option<Vec<u64>>,
    offsets: Option<[u64; 2]>,
}

impl<R: Read> Parser<'_, R> {
    fn refuse<T>(&self, why: impl Into<String>) -> Result<T> {
        Err(Error::format(self.path, format!("header, byte {}: {}", self.at, why.into())))
    }

    /// The whole header: one object, then nothing but spaces.
    fn object(&mut self) -> Result<()> {
        let mut seen_metadata = false;
        self.expect(b'{')?;
        let mut first = true;
        while self.another(b'}', &mut first)? {
            let name = self.key()?;
            if name == "__metadata__" {
                if std::mem::replace(&mut seen_metadata, true) {
                    return self.refuse("__metadata__ appears twice, expected once");
                }
                self.metadata()?;
            } else {
                self.tensor(name)?;
            }
        }
        while let Some(byte) = self.next()? {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return self.refuse(format!("{:?} after the end, expected spaces", byte as char));
            }
        }
        Ok(())
    }

    fn metadata(&mut self) -> Result<()> {
        self.expect(b'{')?;
        let mut first = true;
        while self.another(b'}', &mut first)? {
            let key = self.key()?;
            self.expect(b'"')?;
            let value = self.string(usize::MAX)?;
            self.header.metadata.push((key, value));
        }
        let mut keys: Vec<_> = self.header.metadata.iter().map(|(k, _)| k.as_str()).collect();
        keys.sort_unstable();
        if let Some(w) = keys.windows(2).find(|w| w[0] == w[1]) {
            let key = quoted(w[0]);
            return self.refuse(format!("metadata key {key} appears twice, expected once"));
        }
        Ok(())
    }

    fn tensor(&mut self, name: String) -> Result<()> {
        if name.len() > MAX_NAME || name.contains('\0') {
            let name = quoted(&name);
            return self.refuse(format!(
                "tensor name {name}: expected at most {MAX_NAME} bytes and no NUL"
            ));
        }
        if self.header.tensors.len() == MAX_TENSORS {
            return self.refuse(format!("more than {MAX_TENSORS} tensors"));
        }
        let mut entry = Entry::default();
        self.expect(b'{')?;
        let mut first = true;
        while self.another(b'}', &mut first)? {
            let key = self.key()?;
            let again = match key.as_str() {
                "dtype" => {
                    self.expect(b'"')?;
                    let dtype = self.string(MAX_NAME)?;
                    let Some(known) = DType::parse(&dtype) else {
                        let (name, dtype) = (quoted(&name), quoted(&dtype));
                        return self.refuse(format!("tensor {name}: dtype {dtype} is not known"));
                    };
                    entry.dtype.replace(known).is_some()
                }
                "shape" => {
                    let shape = self.numbers(MAX_RANK, &name)?;
                    entry.shape.replace(shape).is_some()
                }
                "data_offsets" => {
                    let offsets = self.numbers(2, &name)?;
                    let Ok(offsets) = offsets.try_into() else {
                        return self.refuse(format!(
                            "tensor {}: data_offsets, expected two numbers",
                            quoted(&name)
                        ));
                    };
                    entry.offsets.replace(offsets).is_some()
                }
                other => {
                    let other = quoted(other);
                    return self
                        .refuse(format!("tensor {}: key {other} is not known", quoted(&name)));
                }
            };
            if again {
                return self.refuse(format!(
                    "tensor {}: key {} appears twice",
                    quoted(&name),
                    quoted(&key)
                ));
            }
        }
        let Entry { dtype: Some(dtype), shape: Some(shape), offsets: Some([start, end]) } = entry
        else {
            return self.refuse(format!(
                "tensor {}: expected dtype, shape and data_offsets",
                quoted(&name)
            ));
        };
        let described = described_bytes(dtype, &shape);
        if start > end || Some(end - start) != described {
            let expected = match described {
                Some(bytes) => format!("{bytes} for {} {shape:?}", dtype.name()),
                None => format!(
                    "a whole number of bytes below 2^64, which {} {shape:?} is not",
                    dtype.name()
                ),
            };
            let found = i128::from(end) - i128::from(start);
            let why = format!(
                "tensor {}: data_offsets [{start}, {end}] hold {found} bytes, expected {expected}",
                quoted(&name)
            );
            return self.refuse(why);
        }
        self.header.tensors.push(TensorInfo {
            name,
            dtype,
            shape,
            file: self.file,
            offset: start,
            bytes: end - start,
        });
        Ok(())
    }

    fn numbers(&mut self, most: usize, name: &str) -> Result<Vec<u64>> {
        self.expect(b'[')?;
        let mut numbers = Vec::new();
        let mut first = true;
        while self.another(b']', &mut first)? {
            if numbers.len() == most {
                return self.refuse(format!("tensor {}: more than {most} numbers", quoted(name)));
            }
            numbers.push(self.number(name)?);
        }
        numbers.shrink_to_fit();
        Ok(numbers)
    }

    fn number(&mut self, name: &str) -> Result<u64> {
        self.text.clear();
        while let Some(byte) = self.peek()? {
            if !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
                || self.text.len() > 24
            {
                break;
            }
            self.text.push(byte);
            self.next()?;
        }
        let text = String::from_utf8_lossy(&self.text).into_owned();
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if plain && (text.len() == 1 || !text.starts_with('0')) => Ok(number),
            _ => {
                let name = quoted(name);
                self.refuse(format!("tensor {name}: {text:?}, expected a whole number below 2^64"))
            }
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<String> {
        self.expect(b'"')?;
        let key = self.string(1 << 20)?;
        self.expect(b':')?;
        Ok(key)
    }

    /// The rest of a string whose opening quote has been read.
    fn string(&mut self, most: usize) -> Result<String> {
        self.text.clear();
        loop {
            let Some(byte) = self.next()? else {
                return self.refuse("the header ends inside a string");
            };
            match byte {
                b'"' => break,
                b'\\' => self.escape()?,
                0..=0x1f => {
                    return self.refuse("a control character in a string, expected an escape");
                }
                _ => self.text.push(byte),
            }
            if self.text.len() > most {
                return self.refuse(format!("a string of more than {most} bytes"));
            }
        }
        match std::str::from_utf8(&self.text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => self.refuse("a string that is not UTF-8"),
        }
    }

    fn escape(&mut self) -> Result<()> {
        let plain = match self.next()? {
            Some(c @ (b'"' | b'\\' | b'/')) => c,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let mut code = self.hex4()?;
                if (0xd800..0xdc00).contains(&code) {
                    if [self.next()?, self.next()?] != [Some(b'\\'), Some(b'u')] {
                        return self.refuse("half a surrogate pair");
                    }
                    let low = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return self.refuse("half a surrogate pair");
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                let Some(c) = char::from_u32(code) else {
                    return self.refuse("half a surrogate pair");
                };
                self.text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.refuse("an unknown escape in a string"),
        };
        self.text.push(plain);
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.next()?.and_then(|b| (b as char).to_digit(16)) else {
                return self.refuse("\\u, expected four hexadecimal digits");
            };
            code = code << 4 | digit;
        }
        Ok(code)
    }

    /// Whether a list goes on; reads the comma between its items, or its end.
    fn another(&mut self, end: u8, first: &mut bool) -> Result<bool> {
        let byte = self.after_spaces()?;
        if byte == Some(end) {
            return Ok(false);
        }
        if std::mem::replace(first, false) {
            self.peeked = byte;
            self.at -= u64::from(byte.is_some());
            return Ok(true);
        }
        match byte {
            Some(b',') => Ok(true),
            found => self.refuse(format!("{}, expected ',' or {:?}", shown(found), end as char)),
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        match self.after_spaces()? {
            Some(byte) if byte == wanted => Ok(()),
            found => self.refuse(format!("{}, expected {:?}", shown(found), wanted as char)),
        }
    }

    fn after_spaces(&mut self) -> Result<Option<u8>> {
        loop {
            match self.next()? {
                Some(b' ' | b'\n' | b'\r' | b'\t') => {}
                other => return Ok(other),
            }
        }
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        if self.peeked.is_none() {
            self.peeked = self.next()?;
            self.at -= u64::from(self.peeked.is_some());
        }
        Ok(self.peeked)
    }

    fn next(&mut self) -> Result<Option<u8>> {
        if let Some(byte) = self.peeked.take() {
            self.at += 1;
            return Ok(Some(byte));
        }
        let mut byte = [0];
        match self.input.read(&mut byte) {
            Ok(0) => Ok(None),
            Ok(_) => {
                self.at += 1;
                Ok(Some(byte[0]))
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => self.next(),
            Err(source) => Err(Error::Io { path: self.path.into(), source }),
        }
    }
}

fn shown(byte: Option<u8>) -> String {
    byte.map_or("the end of the header".into(), |b| format!("{:?}", b as char))
}

/// Bytes of a tensor, or `None` where they are no whole number below 2^64. A dimension of 0 makes it empty, whatever the
/// others say.
pub fn described_bytes(dtype: DType, shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
    let bits = elements.checked_mul(dtype.bits() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
