//! A strict, streaming reader of safetensors headers.
//!
//! The `safetensors` crate accepts duplicate names, and takes 1.5 GB for a 100 MB header. This reader keeps neither the
//! text nor a tree of it, refuses everything the format forbids, and says what was found and what was expected.

use crate::{
    DType, Error, Result, Storage, TensorInfo,
    form::described_bytes,
    format::{
        foreign::{Foreign, START},
        safetensors::{json::Json, metadata::Metadata},
    },
    quote::quoted,
};
use std::{io::Read, path::Path};

/// Longest header, as in the reference implementation.
pub const MAX_HEADER: u64 = 100_000_000;
/// Most tensors in one file.
pub const MAX_TENSORS: usize = 1 << 20;
/// Longest name of a tensor that a manifest describes, in bytes; one that is carried may be as long as the header.
pub const MAX_NAME: usize = 1024;
/// Most dimensions of all tensors together: a dimension takes two bytes of a header and eight of memory.
const MAX_DIMENSIONS: usize = 16 << 20;
/// Longest name of a type.
const MAX_TYPE: usize = 1024;

/// A parsed header.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// By position in the file.
    pub tensors: Vec<TensorInfo>,
    /// `__metadata__`, in the order of the file.
    pub metadata: Metadata,
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
    let mut start = length.to_vec();
    reader.by_ref().take(START - 8).read_to_end(&mut start).map_err(Error::io(path))?;
    let length = u64::from_le_bytes(length);
    let header = matches!(start.get(8), Some(b'{' | b' ' | b'\t' | b'\r' | b'\n'));
    if (length > MAX_HEADER || !header)
        && let Some(foreign) = Foreign::of(&start, path)
    {
        let (what, way) = (foreign.what, foreign.way(path));
        return Err(refuse(format!("this is {what}, expected a safetensors file; {way}")));
    }
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
        json: Json::new(path, start[8..].chain(reader).take(length)),
        header: Header { data_start: 8 + length, ..Default::default() },
        dimensions: 0,
        file,
    };
    parser.object()?;
    let mut header = parser.header;
    check_names(path, &header.tensors)?;
    check_layout(path, &mut header.tensors, header.data_start, file_len)?;
    Ok(header)
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
pub(in crate::format) fn repeated(tensors: &[TensorInfo]) -> Option<[&TensorInfo; 2]> {
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
    tensors.sort_by_key(|t| (t.offset(), t.bytes));
    let mut expected = 0;
    for t in tensors.iter() {
        if t.offset() != expected {
            let what = if t.offset() < expected {
                "overlaps what is before it"
            } else {
                "leaves a hole before it"
            };
            let why = format!(
                "tensor {} {what}: it starts at {}, expected {expected}",
                quoted(&t.name),
                t.offset()
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
    for t in tensors {
        t.storage = Storage::Plain { offset: t.offset() + data_start };
    }
    Ok(())
}

struct Parser<'a, R> {
    json: Json<'a, R>,
    header: Header,
    /// Dimensions of the tensors so far.
    dimensions: usize,
    /// The number of the file, which its tensors carry.
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
    /// The whole header: one object, then nothing but spaces.
    fn object(&mut self) -> Result<()> {
        let mut seen_metadata = false;
        self.json.expect(b'{')?;
        let mut first = true;
        while self.json.another(b'}', &mut first)? {
            let name = self.json.key()?;
            if name == "__metadata__" {
                if std::mem::replace(&mut seen_metadata, true) {
                    return self.json.refuse("__metadata__ appears twice, expected once");
                }
                self.metadata()?;
            } else {
                self.tensor(name)?;
            }
        }
        match self.json.after_spaces()? {
            Some(byte) => {
                self.json.refuse(format!("{:?} after the end, expected spaces", byte as char))
            }
            None => Ok(()),
        }
    }

    fn metadata(&mut self) -> Result<()> {
        // There may be none, said so.
        if !self.json.object_or_null()? {
            return Ok(());
        }
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        let mut first = true;
        while self.json.another(b'}', &mut first)? {
            let end = |text: &Vec<u8>| text.len() as u32; // A header is shorter than 2^32 bytes.
            self.json.expect(b'"')?;
            self.json.string_onto(&mut text)?;
            let key = end(&text);
            self.json.expect(b':')?;
            self.json.expect(b'"')?;
            self.json.string_onto(&mut text)?;
            ends.push([key, end(&text)]);
        }
        text.shrink_to_fit();
        let text = String::from_utf8(text).expect("every string of it is text");
        let metadata = Metadata::new(text, ends);
        if let Some(key) = metadata.repeated() {
            let key = quoted(key);
            return self.json.refuse(format!("metadata key {key} appears twice, expected once"));
        }
        self.header.metadata = metadata;
        Ok(())
    }

    fn tensor(&mut self, name: String) -> Result<()> {
        if name.contains('\0') {
            let name = quoted(&name);
            return self.json.refuse(format!("tensor name {name}: expected no NUL"));
        }
        if self.header.tensors.len() == MAX_TENSORS {
            return self.json.refuse(format!("more than {MAX_TENSORS} tensors"));
        }
        let mut entry = Entry::default();
        self.json.expect(b'{')?;
        let mut first = true;
        while self.json.another(b'}', &mut first)? {
            let key = self.json.key()?;
            let again = match key.as_str() {
                "dtype" => {
                    self.json.expect(b'"')?;
                    let dtype = self.json.string(MAX_TYPE)?;
                    let Some(known) = DType::parse(&dtype) else {
                        let (name, dtype) = (quoted(&name), quoted(&dtype));
                        return self
                            .json
                            .refuse(format!("tensor {name}: dtype {dtype} is not known"));
                    };
                    entry.dtype.replace(known).is_some()
                }
                "shape" => {
                    let shape = self.json.numbers(MAX_DIMENSIONS - self.dimensions, &name)?;
                    self.dimensions += shape.len();
                    entry.shape.replace(shape).is_some()
                }
                "data_offsets" => {
                    let offsets = self.json.numbers(2, &name)?;
                    let Ok(offsets) = offsets.try_into() else {
                        return self.json.refuse(format!(
                            "tensor {}: data_offsets, expected two numbers",
                            quoted(&name)
                        ));
                    };
                    entry.offsets.replace(offsets).is_some()
                }
                other => {
                    let other = quoted(other);
                    return self
                        .json
                        .refuse(format!("tensor {}: key {other} is not known", quoted(&name)));
                }
            };
            if again {
                return self.json.refuse(format!(
                    "tensor {}: key {} appears twice",
                    quoted(&name),
                    quoted(&key)
                ));
            }
        }
        let Entry { dtype: Some(dtype), shape: Some(shape), offsets: Some([start, end]) } = entry
        else {
            return self.json.refuse(format!(
                "tensor {}: expected dtype, shape and data_offsets",
                quoted(&name)
            ));
        };
        let described = described_bytes(dtype, &shape);
        if start > end || Some(end - start) != described {
            let expected = match described {
                Some(bytes) => format!("{bytes} for {} {shape:?}", dtype.name()),
                None => format!(
                    "a whole number of bytes below 2^61, which {} {shape:?} is not",
                    dtype.name()
                ),
            };
            let found = i128::from(end) - i128::from(start);
            let why = format!(
                "tensor {}: data_offsets [{start}, {end}] hold {found} bytes, expected {expected}",
                quoted(&name)
            );
            return self.json.refuse(why);
        }
        self.header.tensors.push(TensorInfo {
            name,
            prefix: 0,
            dtype,
            shape,
            file: self.file,
            storage: Storage::Plain { offset: start },
            bytes: end - start,
        });
        Ok(())
    }
}
