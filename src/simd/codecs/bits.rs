//! Codes of `bits` bits side by side, eight of which take as many bytes: see [`crate::codec::bitpack`], whose plain loops do the rest.

/// Packs the first codes, a multiple of eight of them, each in the low bits of a byte, and returns how many: none where the machine
/// has no instructions for it.
pub(crate) fn pack_eights(codes: &[u8], bits: u32, out: &mut [u8]) -> usize {
    assert!((1..=8).contains(&bits) && 8 * out.len() >= codes.len() * bits as usize);
    #[cfg(target_arch = "x86_64")]
    {
        if vbmi::detect() {
            // SAFETY: the machine was asked.
            return unsafe { vbmi::pack(codes, bits, out) };
        }
        if detected!("bmi2") {
            // SAFETY: as above.
            return unsafe { bmi2::pack(codes, bits, out) };
        }
    }
    0
}

/// The same back: fills the first of `out`.
pub(crate) fn unpack_eights(packed: &[u8], bits: u32, out: &mut [u8]) -> usize {
    assert!((1..=8).contains(&bits) && 8 * packed.len() >= out.len() * bits as usize);
    #[cfg(target_arch = "x86_64")]
    {
        if vbmi::detect() {
            // SAFETY: the machine was asked.
            return unsafe { vbmi::unpack(packed, bits, out) };
        }
        if detected!("bmi2") {
            // SAFETY: as above.
            return unsafe { bmi2::unpack(packed, bits, out) };
        }
    }
    0
}

/// Eight codes at a time, which one instruction pulls together.
#[cfg(target_arch = "x86_64")]
mod bmi2 {
    use std::arch::x86_64::{_pdep_u64, _pext_u64};

    fn mask(bits: u32) -> u64 {
        0x0101_0101_0101_0101 * ((1 << bits) - 1)
    }

    #[target_feature(enable = "bmi2")]
    pub(super) fn pack(codes: &[u8], bits: u32, out: &mut [u8]) -> usize {
        let (mask, bits) = (mask(bits), bits as usize);
        let mut done = 0;
        for eight in codes.as_chunks::<8>().0 {
            // What is written beyond their own bytes is the next ones'.
            let Some(to) = out[done / 8 * bits..].first_chunk_mut() else { break };
            *to = _pext_u64(u64::from_le_bytes(*eight), mask).to_le_bytes();
            done += 8;
        }
        done
    }

    #[target_feature(enable = "bmi2")]
    pub(super) fn unpack(packed: &[u8], bits: u32, out: &mut [u8]) -> usize {
        let (mask, bits) = (mask(bits), bits as usize);
        let mut done = 0;
        for eight in out.as_chunks_mut::<8>().0 {
            let Some(from) = packed[done / 8 * bits..].first_chunk() else { break };
            *eight = _pdep_u64(u64::from_le_bytes(*from), mask).to_le_bytes();
            done += 8;
        }
        done
    }
}

/// Sixty-four codes at a time: AVX-512 with VBMI.
#[cfg(target_arch = "x86_64")]
mod vbmi {
    use std::arch::x86_64::*;

    pub(super) fn detect() -> bool {
        detected!("avx512bw") && detected!("avx512vbmi")
    }

    /// As many of the lowest bytes of a vector as 64 codes take.
    fn bytes(bits: u32) -> u64 {
        u64::MAX >> (64 - 8 * bits)
    }

    /// Of every byte of a vector which it is taken from.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn from(place: impl Fn(usize) -> usize) -> __m512i {
        let places: [u8; 64] = std::array::from_fn(|i| place(i) as u8);
        // SAFETY: it is a vector long.
        unsafe { _mm512_loadu_si512(places.as_ptr().cast()) }
    }

    /// Neighbours are pushed together, then pairs, then fours: what lies above `low` moves right.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn pack(codes: &[u8], bits: u32, out: &mut [u8]) -> usize {
        let b = bits as usize;
        let mask = _mm512_set1_epi8(((1u16 << bits) - 1) as i8);
        let twos = (_mm512_set1_epi16((1 << bits) - 1), _mm512_set1_epi16(8 - bits as i16));
        let fours =
            (_mm512_set1_epi32((1 << (2 * b)) - 1), _mm512_set1_epi32(16 - 2 * bits as i32));
        let eights =
            (_mm512_set1_epi64((1 << (4 * b)) - 1), _mm512_set1_epi64(32 - 4 * i64::from(bits)));
        let places = from(|i| if i < 8 * b { i / b * 8 + i % b } else { 0 });
        let whole = codes.as_chunks::<64>().0;
        for (chunk, to) in whole.iter().zip(out.chunks_exact_mut(8 * b)) {
            // Where `low` is set the first, elsewhere the second.
            const SELECT: i32 = 0xca;
            // SAFETY: a chunk is a vector long.
            let x = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            let x = _mm512_and_si512(x, mask);
            let x = _mm512_ternarylogic_epi64::<SELECT>(twos.0, x, _mm512_srlv_epi16(x, twos.1));
            let x = _mm512_ternarylogic_epi64::<SELECT>(fours.0, x, _mm512_srlv_epi32(x, fours.1));
            let x =
                _mm512_ternarylogic_epi64::<SELECT>(eights.0, x, _mm512_srlv_epi64(x, eights.1));
            let x = _mm512_permutexvar_epi8(places, x);
            // SAFETY: no more than there is room for.
            unsafe { _mm512_mask_storeu_epi8(to.as_mut_ptr().cast(), bytes(bits), x) };
        }
        64 * whole.len()
    }

    /// Every eight bytes are given those of eight codes, and every byte eight bits of them.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn unpack(packed: &[u8], bits: u32, out: &mut [u8]) -> usize {
        let b = bits as usize;
        let mask = _mm512_set1_epi8(((1u16 << bits) - 1) as i8);
        let (places, shifts) = (from(|i| i / 8 * b + i % 8), from(|i| i % 8 * b));
        let whole = out.as_chunks_mut::<64>().0;
        let count = whole.len();
        for (chunk, packed) in whole.iter_mut().zip(packed.chunks_exact(8 * b)) {
            // SAFETY: no more than there are.
            let x = unsafe { _mm512_maskz_loadu_epi8(bytes(bits), packed.as_ptr().cast()) };
            let x = _mm512_permutexvar_epi8(places, x);
            let x = _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, x), mask);
            // SAFETY: a chunk is a vector long.
            unsafe { _mm512_storeu_si512(chunk.as_mut_ptr().cast(), x) };
        }
        64 * count
    }
}
