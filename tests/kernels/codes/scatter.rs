//! Survivors to their places: worked example, agreement over kinds of index and types, refusals.

use crate::support::{WEIGHTS, backends, cross_check, tiny_gpu};
use tersor::{
    Backend, DType, Error, Result, Tensor,
    codec::{block::IndexKind, gaps},
    kernels::{Order, Survivors, count_survivors, scatter},
};

/// Bytes as a tensor.
fn bytes(on: &Backend, bytes: &[u8]) -> Tensor {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    Tensor::new(on, DType::U8, 1, bytes.len(), bytemuck::pod_collect_to_vec(&padded)).unwrap()
}

/// Several blocks of weights, of which `keep` survive.
struct Blocks {
    index: Vec<u8>,
    codes: Vec<u8>,
    blocks: Vec<Survivors>,
    order: Order,
}

impl Blocks {
    fn new(
        lengths: &[usize],
        kinds: &[IndexKind],
        order: Order,
        keep: impl Fn(usize) -> bool,
    ) -> Self {
        let mut all = Self { index: vec![], codes: vec![], blocks: vec![], order };
        let mut first = 0;
        for (i, n) in lengths.iter().copied().enumerate() {
            let kind = kinds[i % kinds.len()];
            let mut mask = vec![0; n.div_ceil(32)];
            let kept: Vec<usize> = (0..n).filter(|at| keep(first + at)).collect();
            kept.iter().for_each(|at| mask[at / 32] |= 1 << (at % 32));
            let symbols = match kind {
                IndexKind::Gaps(width) => gaps::encode(&mask, n, width),
                IndexKind::Bitmap => bytemuck::cast_slice(&mask)[..n.div_ceil(8)].to_vec(),
            };
            let count = if order == Order::Weights { n } else { kept.len() };
            let (s, c) = (all.index.len(), all.codes.len());
            all.index.extend(&symbols);
            all.codes.extend((0..count).map(|j| ((first + j) * 7 % 16) as u8));
            all.blocks.push(Survivors {
                kind,
                symbols: s..all.index.len(),
                weights: first..first + n,
                codes: c..all.codes.len(),
            });
            first += n;
        }
        all
    }

    fn run(&self, on: &Backend, dtype: DType) -> Result<Vec<u32>> {
        let codes = (&bytes(on, &self.codes), self.order);
        let table: Vec<f32> = (0..15).map(|i| i as f32 / 4.0 - 1.75).collect();
        scatter(on, &bytes(on, &self.index), &self.blocks, codes, &table, dtype)?.read(on)
    }

    fn count(&self, on: &Backend) -> Result<Vec<usize>> {
        count_survivors(on, &bytes(on, &self.index), &self.blocks)
    }
}

#[test]
fn worked_example() {
    // Survivors 0, 1 and 9 of ten, as gaps of 3 bits; 2 and 3 of four, as a bitmap.
    let index = [0, 0, 7, 0, 0b1100];
    let blocks = [
        Survivors { kind: IndexKind::Gaps(3), symbols: 0..4, weights: 0..10, codes: 0..3 },
        Survivors { kind: IndexKind::Bitmap, symbols: 4..5, weights: 10..14, codes: 3..5 },
    ];
    let expected = [0.5, -1.0, 0., 0., 0., 0., 0., 0., 0., 2.0, 0., 0., -1.0, 2.0];
    for on in backends() {
        let index = bytes(on, &index);
        assert_eq!(count_survivors(on, &index, &blocks).unwrap(), [3, 2], "{}", on.name());
        // A code beyond the table takes its last entry.
        let codes = (&bytes(on, &[1, 0, 2, 0, 9]), Order::Survivors);
        let out = scatter(on, &index, &blocks, codes, &[-1.0, 0.5, 2.0], DType::F32).unwrap();
        assert_eq!(out.read_f32(on).unwrap(), expected, "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    let lengths = [1, 7, 8, 9, 33, 255, 256, 257, 2047, 2049, 70_001];
    let kinds = [IndexKind::Bitmap, IndexKind::Gaps(2), IndexKind::Gaps(5), IndexKind::Gaps(8)];
    let densities: [fn(usize) -> bool; 4] = [
        |_| true,
        |_| false,
        |i| i.wrapping_mul(2_654_435_761) >> 7 & 15 == 0,
        |i| i % 600 == 599 || i % 1000 < 3,
    ];
    for (d, keep) in densities.into_iter().enumerate() {
        for shift in 0..kinds.len() {
            let kinds = [&kinds[shift..], &kinds[..shift]].concat();
            for order in [Order::Survivors, Order::Weights] {
                let blocks = Blocks::new(&lengths, &kinds, order, keep);
                let counts = |on: &Backend| blocks.count(on);
                let expected: Vec<usize> = blocks
                    .blocks
                    .iter()
                    .map(|b| b.weights.clone().filter(|i| keep(*i)).count())
                    .collect();
                for on in backends() {
                    assert_eq!(counts(on).unwrap(), expected, "{}", on.name());
                }
                for dtype in WEIGHTS {
                    cross_check((d, shift, order, dtype), |on| blocks.run(on, dtype));
                }
            }
        }
    }
}

#[test]
fn dispatches_may_be_folded() {
    let blocks = Blocks::new(&[9; 40], &[IndexKind::Gaps(3)], Order::Survivors, |i| i % 3 == 0);
    if let Some(tiny) = tiny_gpu() {
        let [cpu, gpu] = [&Backend::Cpu, tiny].map(|on| blocks.run(on, DType::BF16).unwrap());
        assert_eq!(cpu, gpu);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let good =
        Blocks::new(&[20, 30], &[IndexKind::Gaps(3), IndexKind::Bitmap], Order::Survivors, |i| {
            i % 9 == 3
        });
    let refused = |blocks: &Blocks, data: bool, what: &str| {
        for on in backends() {
            let error = blocks.count(on).and_then(|_| blocks.run(on, DType::F16)).unwrap_err();
            let fits = match error {
                Error::Malformed { .. } => data,
                Error::Shape { .. } => !data,
                _ => false,
            };
            assert!(fits, "{what}, {}: {error}", on.name());
        }
    };
    let change = |data, what: &str, change: &dyn Fn(&mut Blocks)| {
        let mut blocks = Blocks {
            index: good.index.clone(),
            codes: good.codes.clone(),
            blocks: good.blocks.clone(),
            order: good.order,
        };
        change(&mut blocks);
        refused(&blocks, data, what);
    };
    let gaps = good.blocks[0].symbols.len();
    change(true, "a survivor beyond the end", &|b| (b.index[0], b.index[gaps - 1]) = (6, 6));
    change(true, "a filler at the end", &|b| b.index[gaps - 1] = 7);
    change(true, "a bit beyond the end", &|b| *b.index.last_mut().unwrap() |= 0x40);
    change(true, "a survivor without a code", &|b| b.index[gaps] |= 0x80);
    change(true, "a code without a survivor", &|b| *b.index.last_mut().unwrap() = 0);
    // These are mistakes of the caller, which no archive has.
    change(false, "a bitmap of another length", &|b| b.blocks[1].symbols.end -= 1);
    change(false, "an index beyond the end", &|b| b.blocks[0].symbols.end += 99);
    change(false, "codes beyond the end", &|b| b.blocks[1].codes.end += 99);
    change(false, "a code for every weight", &|b| b.order = Order::Weights);
}
