//! Decoding paths through trellises: worked example, agreement at every kind of length, refusals.

use super::damage::{is_refused, random, refusals_that_agree};
use crate::support::{backends, cross_check, gpu};
use tersor::{
    Backend,
    codec::trellis::{Trellis, encode},
    kernels::trellis_decode,
};

fn trellis(states: u8) -> Trellis {
    Trellis::new(states).unwrap()
}

/// Codes along paths of one source after the other: from one of each parity to all of them.
fn codes(states: u8, source: usize, len: usize) -> Vec<u8> {
    let mut random = random((source * 1_000_003 + len) as u64);
    let code = |r: u64| match source {
        0 => 200,
        1 => (r >> 62) as u8,
        2 => u8::from(r.is_multiple_of(1000)) * 9,
        3 => (((r >> 40 & 255) * (r >> 48 & 255)) >> 10) as u8,
        _ => (r >> 32) as u8,
    };
    let mut codes: Vec<u8> = (0..len).map(|_| code(random())).collect();
    trellis(states).lead(&mut codes);
    codes
}

fn encoded(codes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    encode(codes, &mut bytes);
    bytes
}

#[test]
fn worked_example() {
    // The second stream stays at state 0; the last has no codes.
    let (a, b) = ([2, 0, 1, 5, 7, 3, 1, 0], [4; 40]);
    let mut led = a;
    trellis(8).lead(&mut led);
    let streams = [encoded(&led), encoded(&b), vec![]];
    let lens = [8, 40, 0];
    let streams: Vec<(&[u8], usize)> = streams.iter().map(Vec::as_slice).zip(lens).collect();
    assert_eq!(led[..4], [2, 0, 1, 5]);
    for on in backends() {
        let got = trellis_decode(on, trellis(8), &streams).unwrap();
        assert_eq!((got.rows(), got.cols()), (1, 48));
        let words = got.read(on).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(bytes, [&led[..], &b].concat(), "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for (turn, states) in [4, 8, 16, 32, 64].into_iter().enumerate() {
        let lens =
            [1, 2, 3, 5, 100, 2047, 2048, 2049, 4099, 16_383, 16_384, 65_535, 65_537, 200_003];
        for (i, len) in lens.into_iter().enumerate() {
            let codes = codes(states, (turn + i) % 5, len);
            let bytes = encoded(&codes);
            cross_check((states, len), |on| {
                trellis_decode(on, trellis(states), &[(&bytes, len)])?.read(on)
            });
        }
        // Several streams, whose bytes begin anywhere in a word.
        let parts = [4, 2048, 65_536 + 4, 40_000, 16_385].map(|len| codes(states, turn, len));
        let streams: Vec<_> = parts.iter().map(|part| encoded(part)).collect();
        let streams: Vec<(&[u8], usize)> =
            streams.iter().map(Vec::as_slice).zip(parts.iter().map(Vec::len)).collect();
        cross_check(states, |on| trellis_decode(on, trellis(states), &streams)?.read(on));
    }
}

#[test]
fn damage_is_refused_everywhere() {
    let decode =
        |on: &Backend, bytes: &[u8], len: usize| trellis_decode(on, trellis(8), &[(bytes, len)]);
    for on in backends() {
        assert!(is_refused(&decode, on, &[0, 2], 3), "{}: one table alone", on.name());
        assert!(is_refused(&decode, on, &[0, 2, 0, 128], 3), "{}: a code of 257", on.name());
    }
    let Some(gpu) = gpu() else { return };
    let mut agree = 0;
    for (source, len) in [(3, 20), (3, 3000), (4, 20_000), (2, 2048), (1, 4096)] {
        let bytes = encoded(&codes(8, source, len));
        agree += refusals_that_agree(gpu, &decode, (source as u64, &bytes, len), 100);
    }
    assert!(agree > 250, "{agree} of 300");
}
