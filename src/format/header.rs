//! A strict, streaming reader of safetensors headers.
//!
//! The `safetensors` crate accepts duplicate names, and takes 1.5 GB for a 100 MB header. This reader keeps neither the
//! text nor a tree of it, refuses everything the format forbids, and says what was found and what was expected.

use super::quoted;
use crate::{DType, Error, Result, TensorInfo};
use std::{
    io::{Read, Take},
    path::Path,
};

/// Longest header, as in the reference implementation.
pub const MAX_HEADER: u64 = 100_000_000;
/// Most tensors in one file.
pub const MAX_TENSORS: usize = 1 << 20;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 1024;
/// Most dimensions.
const MAX_RANK: usize = 32;
/// Most pairs of metadata.
const MAX_PAIRS: usize = 1 << 16;
/// Most bytes of metadata, a manifest of ours aside: nobody describes a file in more, and it is held in memory.
const MAX_METADATA: usize = 16 << 20;
/// Bytes of the header that are read at a time.
const BUFFER: usize = 1 << 16;

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
pub fn read(path: &Path, mut reader: impl Read, file_len: u64, file: usize) -> Result<Header> {
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
        buffer: Vec::new(),
        next: 0,
        passed: 0,
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
    match repeated(tensors) {
        None => Ok(()),
        Some([t, _]) => {
            let why = format!("tensor {} appears twice, expected once", quoted(&t.name));
            Err(Error::format(path, why))
        }
    }
}

/// Two tensors of the same name, if there are any.
pub(super) fn repeated(tensors: &[TensorInfo]) -> Option<[&TensorInfo; 2]> {
    let mut order: Vec<u32> = (0..tensors.len() as u32).collect();
    let tensor = |i: u32| &tensors[i as usize];
    order.sort_unstable_by(|a, b| (&tensor(*a).name, a).cmp(&(&tensor(*b).name, b)));
    let pair = order.windows(2).find(|w| tensor(w[0]).name == tensor(w[1]).name);
    pair.map(|w| [tensor(w[0]), tensor(w[1])])
}

/// Sorts the tensors by position and demands that they cover the data section once. Offsets become file positions.
fn check_layout(
    path: &Path,
    tensors: &mut [TensorInfo],
    data_start: u64,
    file_len: u64,
) -> Result<()> {
    tensors.sort_by_key(|t| (t.offset, t.bytes));
    let mut expected = 0;
    for t in tensors.iter() {
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
        // Where it ends by its own account, which is a number of 64 bits.
        expected += t.bytes;
    }
    let found = file_len - data_start;
    if expected != found {
        let why = format!(
            "the data section has {found} bytes, expected the {expected} that the header describes"
        );
        return Err(Error::format(path, why));
    }
    // Only now is known that positions in the file are numbers of 64 bits too.
    tensors.iter_mut().for_each(|t| t.offset += data_start);
    Ok(())
}

struct Parser<'a, R> {
    path: &'a Path,
    input: Take<R>,
    /// What has been read of the header, and how much of it has been looked at.
    buffer: Vec<u8>,
    next: usize,
    /// Bytes of the header before the buffer.
    passed: u64,
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
        Err(Error::format(self.path, format!("header, byte {}: {}", self.at(), why.into())))
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
        match self.after_spaces()? {
            Some(byte) => self.refuse(format!("{:?} after the end, expected spaces", byte as char)),
            None => Ok(()),
        }
    }

    fn metadata(&mut self) -> Result<()> {
        self.expect(b'{')?;
        let (mut first, mut room) = (true, MAX_METADATA);
        while self.another(b'}', &mut first)? {
            if self.header.metadata.len() == MAX_PAIRS {
                return self.refuse(format!("more than {MAX_PAIRS} pairs of metadata"));
            }
            let key = self.key()?;
            self.expect(b'"')?;
            // A manifest grows with the tensors it describes; the archive's reader holds it against their number.
            let value = match key.as_str() {
                "tersor" => self.string(usize::MAX)?,
                _ => {
                    let value = self.string(room.saturating_sub(key.len()))?;
                    room -= key.len() + value.len();
                    value
                }
            };
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
            self.next += 1;
        }
        let text = String::from_utf8_lossy(&self.text);
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
            self.fill()?;
            let rest = &self.buffer[self.next..];
            let special = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f);
            let plain = rest.iter().position(special).unwrap_or(rest.len());
            if self.text.len() + plain > self.text.capacity() && self.text.len() >= BUFFER {
                // Growing by doubling would copy a long text again and again, and hold it twice.
                let rest = self.input.limit() as usize + rest.len();
                self.text.reserve_exact(rest.min(most - self.text.len().min(most)).max(plain));
            }
            self.text.extend_from_slice(&rest[..plain]);
            self.next += plain;
            match self.peek()? {
                _ if self.text.len() > most => {
                    return self.refuse(format!("a string of more than {most} bytes"));
                }
                None => return self.refuse("the header ends inside a string"),
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => {
                    return self.refuse("a control character in a string, expected an escape");
                }
                Some(_) => {}
            }
        }
        self.next += 1;
        // A short text leaves its buffer behind for the next one; one that fills it takes it along rather than be copied.
        let text = match self.text.len() {
            len if len < BUFFER.max(self.text.capacity() / 2) => self.text.clone(),
            _ => std::mem::take(&mut self.text),
        };
        String::from_utf8(text).or_else(|_| self.refuse("a string that is not UTF-8"))
    }

    /// An escape, from its backslash on.
    fn escape(&mut self) -> Result<()> {
        self.next += 1;
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

    /// Whether a list goes on, and if so, reads up to its next item; else its end.
    fn another(&mut self, end: u8, first: &mut bool) -> Result<bool> {
        let byte = self.after_spaces()?;
        if byte == Some(end) {
            return Ok(false);
        }
        if std::mem::replace(first, false) {
            // What was read is the first item's own, or nothing.
            self.next -= usize::from(byte.is_some());
            return Ok(true);
        }
        match byte {
            Some(b',') => {}
            found => {
                return self.refuse(format!("{}, expected ',' or {:?}", shown(found), end as char));
            }
        }
        let item = self.after_spaces()?;
        self.next -= usize::from(item.is_some());
        Ok(true)
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

    fn next(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?;
        self.next += usize::from(byte.is_some());
        Ok(byte)
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        self.fill()?;
        Ok(self.buffer.get(self.next).copied())
    }

    /// How many bytes of the header have been looked at.
    fn at(&self) -> u64 {
        self.passed + self.next as u64
    }

    /// Reads on when the whole buffer has been looked at. A byte just read is still in it and can be given back.
    #[inline]
    fn fill(&mut self) -> Result<()> {
        if self.next < self.buffer.len() { Ok(()) } else { self.read_on() }
    }

    #[cold]
    fn read_on(&mut self) -> Result<()> {
        self.passed += self.next as u64;
        self.next = 0;
        self.buffer.clear();
        let read = self.input.by_ref().take(BUFFER as u64).read_to_end(&mut self.buffer);
        read.map_err(Error::io(self.path))?;
        Ok(())
    }
}

fn shown(byte: Option<u8>) -> String {
    byte.map_or("the end of the header".into(), |b| format!("{:?}", b as char))
}

/// Bytes of a tensor, or `None` where they are no whole number below 2^64, or the product of its dimensions leaves that range
/// on the way, as the reference implementation has it.
pub fn described_bytes(dtype: DType, shape: &[u64]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
    let bits = elements.checked_mul(dtype.bits() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
