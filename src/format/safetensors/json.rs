//! The JSON of a header, read as a stream: neither the text nor a tree of it is kept.

use crate::{Error, Result, quote::quoted};
use std::{
    io::{Read, Take},
    path::Path,
};

/// Bytes of the header that are read at a time.
const BUFFER: usize = 1 << 16;

/// A reader of JSON, token by token. Errors name the file and the byte of its header.
pub(in crate::format) struct Json<'a, R> {
    path: &'a Path,
    input: Take<R>,
    /// What has been read of the header, and how much of it has been looked at.
    buffer: Vec<u8>,
    next: usize,
    /// Bytes of the header before the buffer.
    passed: u64,
    /// The string or number being read.
    text: Vec<u8>,
}

impl<'a, R: Read> Json<'a, R> {
    /// Reads what `input` gives; `path` is for messages.
    pub fn new(path: &'a Path, input: Take<R>) -> Self {
        Self { path, input, buffer: Vec::new(), next: 0, passed: 0, text: Vec::new() }
    }

    /// The error that something is wrong here.
    pub fn refuse<T>(&self, why: impl Into<String>) -> Result<T> {
        Err(Error::format(self.path, format!("header, byte {}: {}", self.at(), why.into())))
    }

    /// A list of at most `most` whole numbers, of the tensor `name`.
    pub fn numbers(&mut self, most: usize, name: &str) -> Result<Vec<u64>> {
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
    pub fn key(&mut self) -> Result<String> {
        self.expect(b'"')?;
        let key = self.string(usize::MAX)?;
        self.expect(b':')?;
        Ok(key)
    }

    /// The rest of a string of at most `most` bytes whose opening quote has been read.
    pub fn string(&mut self, most: usize) -> Result<String> {
        self.text.clear();
        self.rest_of_string(most)?;
        // A short text leaves its buffer behind for the next one; one that fills it takes it along rather than be copied.
        let text = match self.text.len() {
            len if len < BUFFER.max(self.text.capacity() / 2) => self.text.clone(),
            _ => std::mem::take(&mut self.text),
        };
        String::from_utf8(text).or_else(|_| self.not_text())
    }

    /// Puts such a rest at the end of what is there.
    pub fn string_onto(&mut self, text: &mut Vec<u8>) -> Result<()> {
        let start = text.len();
        std::mem::swap(&mut self.text, text);
        let read = self.rest_of_string(usize::MAX);
        std::mem::swap(&mut self.text, text);
        read?;
        str::from_utf8(&text[start..]).map(|_| ()).or_else(|_| self.not_text())
    }

    fn not_text<T>(&self) -> Result<T> {
        self.refuse("a string that is not UTF-8")
    }

    fn rest_of_string(&mut self, most: usize) -> Result<()> {
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
        Ok(())
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
    pub fn another(&mut self, end: u8, first: &mut bool) -> Result<bool> {
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

    pub fn expect(&mut self, wanted: u8) -> Result<()> {
        match self.after_spaces()? {
            Some(byte) if byte == wanted => Ok(()),
            found => self.refuse(format!("{}, expected {:?}", shown(found), wanted as char)),
        }
    }

    /// The start of an object, or null: whether it is the former.
    pub fn object_or_null(&mut self) -> Result<bool> {
        match self.after_spaces()? {
            Some(b'{') => Ok(true),
            Some(b'n') => match [self.next()?, self.next()?, self.next()?] {
                [Some(b'u'), Some(b'l'), Some(b'l')] => Ok(false),
                _ => self.refuse("'n', expected '{' or null"),
            },
            found => self.refuse(format!("{}, expected '{{'", shown(found))),
        }
    }

    pub fn after_spaces(&mut self) -> Result<Option<u8>> {
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
