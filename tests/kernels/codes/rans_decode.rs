//! Decoding rANS: worked example, agreement on hard distributions at every kind of length, refusals.

use super::damage::{is_refused, random, refusals_that_agree};
use crate::support::{CPU, backends, cross_check, gpu};
use tersor::{Backend, codec::rans, kernels::rans_decode};

fn encoded(symbols: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    rans::encode(symbols, &mut bytes);
    bytes
}

/// Symbols of one source after the other, from equal to all alike.
fn symbols(source: usize, len: usize) -> Vec<u8> {
    let mut random = random((source * 1_000_003 + len) as u64);
    let symbol = |r: u64| match source {
        0 => 200,
        1 => (r >> 63) as u8,
        2 => u8::from(r.is_multiple_of(1000)) * 9,
        3 => (((r >> 40 & 255) * (r >> 48 & 255)) >> 12) as u8,
        4 => (r >> 32) as u8,
        5 => 3 - u8::from(r.is_multiple_of(65_536)),
        _ => r.trailing_zeros() as u8,
    };
    (0..len).map(|_| symbol(random())).collect()
}

#[test]
fn worked_example() {
    // The second stream's 40 symbols are one; the last has no symbols.
    let (a, b) = ([1, 2, 3, 1, 1, 1, 1, 1], [7; 40]);
    let streams = [encoded(&a), encoded(&b), vec![]];
    let lens = [8, 40, 0];
    let streams: Vec<(&[u8], usize)> = streams.iter().map(Vec::as_slice).zip(lens).collect();
    for on in backends() {
        let got = rans_decode(on, &streams).unwrap();
        assert_eq!((got.rows(), got.cols()), (1, 48));
        let words = got.read(on).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(bytes, [&a[..], &b].concat(), "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for source in 0..7 {
        let lens = [
            1, 2, 3, 5, 100, 2047, 2048, 2049, 4099, 8200, 16_383, 16_384, 65_535, 65_536, 65_537,
            200_003,
        ];
        for len in lens {
            let symbols = symbols(source, len);
            let bytes = encoded(&symbols);
            cross_check((source, len), |on| rans_decode(on, &[(&bytes, len)])?.read(on));
        }
        // Several streams, whose bytes begin anywhere in a word.
        let parts = [4, 2048, 65_536 + 4, 40_000, 16_385].map(|len| symbols(source, len));
        let streams: Vec<_> = parts.iter().map(|part| encoded(part)).collect();
        let streams: Vec<(&[u8], usize)> =
            streams.iter().map(Vec::as_slice).zip(parts.iter().map(Vec::len)).collect();
        cross_check(source, |on| rans_decode(on, &streams)?.read(on));
    }
}

#[test]
fn damage_is_refused_everywhere() {
    let decode = |on: &Backend, bytes: &[u8], len: usize| rans_decode(on, &[(bytes, len)]);
    let Some(gpu) = gpu() else { return };
    let mut agree = 0;
    for (source, len) in [(3, 20), (3, 3000), (6, 20_000), (2, 2048), (4, 5)] {
        let bytes = encoded(&symbols(source, len));
        agree += refusals_that_agree(gpu, &decode, (source as u64, &bytes, len), 60);
        for other in [len - 1, len + 1] {
            // One lane gives the symbol that starts at 0 as often as it is asked.
            let [cpu, gpu] = [&CPU, gpu].map(|on| is_refused(&decode, on, &bytes, other));
            assert!(cpu && (gpu || len < 2048), "{source}, {len} symbols: not {other}");
        }
    }
    assert!(agree > 270, "{agree} of 300");
}

#[test]
fn streams_start_words() {
    let (a, b) = (encoded(&[1, 2, 3]), encoded(&[4, 5, 4, 5, 4]));
    let streams = [(&a[..], 3), (&b[..], 5), (&[][..], 0), (&a[..], 3)];
    for on in backends() {
        let out = rans_decode(on, &streams).unwrap().read(on).unwrap();
        assert_eq!(out, [0x0003_0201, 0x0504_0504, 4, 0x0003_0201], "{}", on.name());
    }
}
