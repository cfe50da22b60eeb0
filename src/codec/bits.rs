//! Fields of a few bits in bytes: first field in the low bits, the last byte padded with zeros.

use crate::codec::Malformed;

/// Appends a number in groups of seven bits, low ones first: LEB128.
pub(super) fn put_number(mut number: usize, out: &mut Vec<u8>) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number of at most 35 bits from the head of `bytes`.
pub(super) fn take_number(bytes: &mut &[u8]) -> Result<usize, Malformed> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.split_off_first().ok_or(Malformed("ends in a number"))?;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            if byte == 0 && shift > 0 {
                break;
            }
            return usize::try_from(number).map_err(|_| Malformed("a number is too large"));
        }
    }
    Err(Malformed("a number is too long"))
}

/// Appends fields to bytes.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    buffer: u64,
    held: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, buffer: 0, held: 0 }
    }

    /// Appends the low `bits` bits of `value`, of which the others are zero.
    pub(super) fn put(&mut self, value: u32, bits: u32) {
        self.buffer |= u64::from(value) << self.held;
        self.held += bits;
        while self.held >= 8 {
            self.out.push(self.buffer as u8);
            self.buffer >>= 8;
            self.held -= 8;
        }
    }

    /// Appends a positive number in the gamma code of Elias (1975): as many zeros as it has bits after the highest, then it,
    /// highest bit first in meaning, but stored above the others.
    pub(super) fn put_gamma(&mut self, value: u32) {
        let low = value.ilog2();
        self.put(0, low);
        self.put(1, 1);
        self.put(value - (1 << low), low);
    }

    /// Pads the last byte.
    pub(super) fn finish(mut self) {
        if self.held > 0 {
            self.put(0, 8 - self.held);
        }
    }
}

/// Bits that [`Writer::put_gamma`] appends.
pub(super) fn gamma_bits(value: u32) -> u32 {
    2 * value.ilog2() + 1
}

/// Takes fields from bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    buffer: u64,
    held: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, buffer: 0, held: 0 }
    }

    /// The next `bits` bits, at most 32.
    pub(super) fn take(&mut self, bits: u32) -> Result<u32, Malformed> {
        while self.held < bits {
            let (first, rest) = self.bytes.split_first().ok_or(Malformed("ends in a field"))?;
            self.buffer |= u64::from(*first) << self.held;
            self.held += 8;
            self.bytes = rest;
        }
        let value = self.buffer & ((1 << bits) - 1);
        self.buffer >>= bits;
        self.held -= bits;
        Ok(value as u32)
    }

    /// A number in the gamma code, of at most `most` bits after the highest.
    pub(super) fn take_gamma(&mut self, most: u32) -> Result<u32, Malformed> {
        let mut low = 0;
        while self.take(1)? == 0 {
            low += 1;
            if low > most {
                return Err(Malformed("a number is too large"));
            }
        }
        Ok(1 << low | self.take(low)?)
    }

    /// What follows the padding.
    pub(super) fn finish(self) -> Result<&'a [u8], Malformed> {
        if self.buffer != 0 {
            return Err(Malformed("padding is not zero"));
        }
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, Writer, gamma_bits};

    #[test]
    fn fields_come_back() {
        let mut bytes = vec![9];
        let mut writer = Writer::new(&mut bytes);
        writer.put(5, 3);
        writer.put(u32::MAX, 32);
        writer.put_gamma(1);
        writer.put_gamma(13);
        writer.put(0, 0);
        writer.finish();
        assert_eq!(bytes.len(), 1 + (3 + 32 + 1 + gamma_bits(13) as usize).div_ceil(8));
        bytes.push(77);
        let mut reader = Reader::new(&bytes[1..]);
        assert_eq!(reader.take(3), Ok(5));
        assert_eq!(reader.take(32), Ok(u32::MAX));
        assert_eq!((reader.take_gamma(9), reader.take_gamma(3)), (Ok(1), Ok(13)));
        assert_eq!(reader.finish(), Ok(&[77][..]));
        assert!(Reader::new(&[0x80, 1]).take_gamma(6).is_err(), "seven bits after the highest");
        assert!(Reader::new(&[1]).take(9).is_err());
        let mut reader = Reader::new(&[3]);
        assert_eq!(reader.take(1), Ok(1));
        assert!(reader.finish().is_err(), "padding is a one");
    }
}
