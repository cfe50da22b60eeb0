//! Asking a Bloomier filter for all positions: worked example, agreement on even and uneven sets, refusals.

use crate::{
    retrieval::{cases, expect},
    support::{CPU, backends, cross_check, gpu},
};
use tersor::{Backend, Error, Result, codec::bloomier, kernels::bloomier_query};

/// Mask and values, one after the other.
fn query(on: &Backend, bytes: &[u8], positions: usize) -> Result<Vec<u32>> {
    let (mask, values) = bloomier_query(on, bytes, positions)?;
    Ok([mask.read(on)?, values.read(on)?].concat())
}

#[test]
fn worked_example() {
    // Survivors 3 and 33 of 40 positions have values 2 and 1; 15 bits make false positives rare: there is none.
    let mut bytes = vec![];
    bloomier::encode(40, &[8, 2], &[2, 1], (2, 15), &mut bytes);
    for on in backends() {
        let got = query(on, &bytes, 40).unwrap();
        assert_eq!(got, [8, 2, 2 << 24, 0, 0, 0, 0, 0, 0, 0, 1 << 8, 0], "{}", on.name());
        assert_eq!(query(on, &[], 5).unwrap(), [0; 3], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for (name, positions, mask, values) in cases() {
        for bits in [(4, 4), (4, 7), (4, 8), (6, 9), (8, 15)] {
            let mut bytes = vec![];
            bloomier::encode(positions, &mask, &values, bits, &mut bytes);
            expect(&query(&CPU, &bytes, positions).unwrap(), positions, &mask, &values);
            cross_check((name, positions, bits), |on| query(on, &bytes, positions));
        }
    }
}

#[test]
fn damage_is_refused_or_answered_alike() {
    let Some(gpu) = gpu() else { return };
    let (_, positions, mask, values) = cases().swap_remove(4);
    let mut bytes = vec![];
    bloomier::encode(positions, &mask, &values, (4, 8), &mut bytes);
    for bit in (0..64).chain((64..8 * bytes.len()).step_by(8 * bytes.len() / 40)) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (cpu, gpu) = (query(&CPU, &bytes, positions), query(gpu, &bytes, positions));
        assert_eq!(cpu.ok(), gpu.ok(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for on in backends() {
        let error = query(on, &bytes[1..], positions).unwrap_err();
        assert!(matches!(error, Error::Shape { what: "bytes", .. }), "{}", on.name());
    }
}
