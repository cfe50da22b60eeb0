//! Packing decoded symbols: worked example, agreement at every width, refusals.

use crate::support::{CPU, backends, cross_check, edges, tiny_gpu};
use tersor::{Backend, DType, Error, Result, Tensor, codec::bitpack, kernels::pack_codes, words};

fn symbols(on: &Backend, symbols: &[u8]) -> Result<Tensor> {
    let mut packed = vec![0; words(DType::U8, symbols.len())];
    bytemuck::cast_slice_mut(&mut packed)[..symbols.len()].copy_from_slice(symbols);
    Tensor::new(on, DType::U8, 1, symbols.len(), packed)
}

#[test]
fn worked_example() {
    for on in backends() {
        // Rows of three codes of 4 bits, the second part one row.
        let parts = [
            symbols(on, &[1, 2, 3, 4, 5, 6]).unwrap(),
            symbols(on, &[7, 8, 9]).unwrap(),
            symbols(on, &[]).unwrap(),
        ];
        let codes = pack_codes(on, &parts, 3, 4).unwrap();
        assert_eq!((codes.rows(), codes.cols(), codes.dtype()), (3, 1, DType::U32));
        assert_eq!(codes.read(on).unwrap(), [0x321, 0x654, 0x987], "{}", on.name());
        // A code of 3 bits that begins in one word and ends in the next: the eleventh of a row.
        let row = symbols(on, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0b101, 7]).unwrap();
        let codes = pack_codes(on, &[row], 12, 3).unwrap();
        assert_eq!(codes.read(on).unwrap(), [0b01 << 30, 0b1111], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for bits in 1..=8 {
        for cols in edges(64).into_iter().filter(|c| *c > 0) {
            let of = |part: usize, rows: usize| -> Vec<u8> {
                let symbol =
                    |i: usize| ((i * 37 + part * 11) ^ (i >> 3)) as u8 & ((1 << bits) - 1) as u8;
                (0..rows * cols).map(symbol).collect()
            };
            cross_check((bits, cols), |on| {
                let parts = [(0, 5), (1, 1), (2, 4)].map(|(p, rows)| symbols(on, &of(p, rows)));
                let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
                pack_codes(on, &parts, cols, bits)?.read(on)
            });
            // What the codec packs is what the kernel packs.
            let packed =
                pack_codes(&CPU, &[symbols(&CPU, &of(0, 5)).unwrap()], cols, bits).unwrap();
            let mut back = vec![0; cols];
            for (row, codes) in
                of(0, 5).chunks(cols).zip(packed.read(&CPU).unwrap().chunks(packed.cols()))
            {
                bitpack::unpack(codes, bits, &mut back);
                assert_eq!(back, row);
            }
        }
    }
}

#[test]
fn large_parts_are_folded() {
    let Some(tiny) = tiny_gpu() else { return };
    let all: Vec<u8> = (0..12_000).map(|i| (i % 13) as u8).collect();
    let run = |on: &Backend| {
        pack_codes(on, &[symbols(on, &all).unwrap()], 40, 4).unwrap().read(on).unwrap()
    };
    assert_eq!(run(&CPU), run(tiny));
}

#[test]
fn refusals() {
    for on in backends() {
        let five = [symbols(on, &[1; 5]).unwrap()];
        for (parts, cols, bits) in [(&five[..], 2, 4), (&five, 5, 0), (&five, 5, 9)] {
            assert!(matches!(pack_codes(on, parts, cols, bits), Err(Error::Shape { .. })));
        }
        let wrong = [Tensor::from_f32(on, &[1.0; 5], 5).unwrap()];
        assert!(matches!(pack_codes(on, &wrong, 5, 4), Err(Error::Shape { .. })));
    }
}
