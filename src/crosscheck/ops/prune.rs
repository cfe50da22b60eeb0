//! Pruning: masks, thresholds, norms.

use crate::{
    Backend, DType, Result,
    crosscheck::{
        case::{Data, Input},
        compare::Class,
        inputs::Admits,
        op::Op,
        ops::grouping::Grouping,
        options::Level,
    },
    decide::{affine::SMALLEST, threshold::Limit},
    kernels::{self, BlockGrid},
    recipe::Norm,
};

/// A mask from a threshold, ties above all.
pub const MAGNITUDE_MASK: Op = Op {
    name: "magnitude_mask",
    kernels: &[&kernels::prune::magnitude_mask::KERNEL],
    class: Class::Exact,
    expands: 2,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let (grouping, n) = (Grouping::of(turn, &w.data), w.data.elements());
            let (groups, rng) = (grouping.groups(w.data.cols), maker.rng);
            let mut limits = Vec::new();
            for g in 0..groups.count(n) {
                let (span, r) = (groups.span(g, n), rng.at(turn << 20 | g));
                let at = span.start + (r >> 8) as usize % span.len().max(1);
                let threshold = (w.data.value(at) as f32).to_bits() & 0x7fff_ffff;
                limits.extend(match r % 8 {
                    0 => [0, u32::MAX],
                    1 => [u32::MAX - 1, 0],
                    2 => [threshold, u32::MAX],
                    3 => [threshold, 0],
                    _ => [threshold, (r >> 32) as u32 % (n as u32 + 1)],
                });
            }
            let limits = Data::u32((limits.len() / 2, 2), limits);
            let input = grouping.set(Input::new().with("weights", w.data));
            maker.emit(w.source, input.with("limits", grouping.axes(limits)));
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?;
        let groups = Grouping::read(input, weights.cols)?;
        let limit = |pair: &[u32]| Limit {
            threshold: pair[0],
            ties_before: if pair[1] == u32::MAX { u64::MAX } else { pair[1].into() },
        };
        let limits: Vec<Limit> = input.tensor("limits")?.words.chunks_exact(2).map(limit).collect();
        let mask = kernels::magnitude_mask(on, &weights.upload(on)?, groups, &limits)?;
        Ok(vec![bits(on, &mask, weights.cols)?, ("mask", Data::read(on, &mask)?)])
    },
};

/// Norms of blocks, as sums of integers.
pub const MAGNITUDE_SUMS: Op = Op {
    name: "magnitude_sums",
    kernels: &[&kernels::prune::magnitude_sums::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let (rows, cols) = (w.data.rows, w.data.cols.max(1));
            // Rows, and rows of a wider matrix; blocks that do not divide it; all of it; the second part of larger ones.
            let grid = match turn % 5 {
                0 => [1, cols, 0, 0],
                1 => [1, 2 * cols, 0, cols],
                2 => [2, 3, 0, 0],
                3 => [rows.max(1), cols, 0, 0],
                _ => [4, 8, 3, 5],
            };
            let down = (grid[2] + rows).div_ceil(grid[0]);
            let each = turn % 3 > 0;
            let inverses: Vec<f32> = (0..if each { down } else { 1 })
                .map(|b| {
                    let first = if each { (b * grid[0]).saturating_sub(grid[2]) } else { 0 };
                    let end = if each { (b + 1) * grid[0] - grid[2] } else { rows };
                    inverse(&w.data, first..end.min(rows))
                })
                .collect();
            let axis = if each && grid[0] == 1 { "rows" } else { "" };
            let inverses = Data::f32((inverses.len(), 1), &inverses).axes(axis, "");
            let mut input = Input::new().with("weights", w.data).with("inverses", inverses);
            for (name, n) in ["block_rows", "block_cols", "row0", "col0"].into_iter().zip(grid) {
                input = input.set(name, n as i64);
            }
            maker.emit(w.source, input.set("squared", turn % 2 == 1));
        }
    },
    run: |on, input| {
        let (weights, inverses) = (input.tensor("weights")?, input.tensor("inverses")?);
        let grid = BlockGrid {
            rows: input.number("block_rows")?,
            cols: input.number("block_cols")?,
            row0: input.number("row0")?,
            col0: input.number("col0")?,
        };
        let norm = if input.number::<u8>("squared")? == 0 { Norm::L1 } else { Norm::L2 };
        let sums =
            kernels::magnitude_sums(on, &weights.upload(on)?, grid, norm, inverses.as_f32())?;
        let (down, across) = grid.count(weights.rows, weights.cols);
        Ok(vec![("sums", Data::u64((down, across), &sums))])
    },
};

/// The low bits of magnitudes that share the high ones.
pub const MAGNITUDE_TAIL: Op = Op {
    name: "magnitude_tail",
    kernels: &[&kernels::prune::magnitude_tail::KERNEL],
    class: Class::Exact,
    expands: 1,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::All).enumerate() {
            // That of some weight; but payloads of NaN are no part of the contract.
            let values = (0..8).map(|i| maker.rng.below(turn * 8 + i, w.data.elements().max(1)));
            let mut values =
                values.filter(|i| *i < w.data.elements()).map(|i| w.data.value(i) as f32);
            let value = values.find(|v| v.is_finite()).unwrap_or(1.0);
            let prefix = (value.to_bits() & 0x7fff_ffff) >> 12;
            maker.emit(w.source, Input::new().with("weights", w.data).set("prefix", prefix));
        }
        // Patterns of a prefix and of those on either side of it.
        for prefix in [0u32, 1, 0x3f7ff, 0x3f800, 0x7f7fe] {
            let patterns = (prefix.saturating_sub(1) << 12..(prefix + 2) << 12).step_by(5);
            let words: Vec<u32> = patterns.map(|p| p | (p % 2) << 31).collect();
            let weights = Data::new(DType::F32, (1, words.len()), words).axes("rows", "cols");
            maker.emit("edge", Input::new().with("weights", weights).set("prefix", prefix));
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?.upload(on)?;
        let counts = kernels::magnitude_tail(on, &weights, input.number("prefix")?)?;
        Ok(vec![("counts", Data::u64((1, counts.len()), &counts))])
    },
};

/// The n largest of every m.
pub const NM_MASK: Op = Op {
    name: "nm_mask",
    kernels: &[&kernels::prune::nm_mask::KERNEL],
    class: Class::Exact,
    expands: 1,
    make: |maker| {
        let full: &[(u32, u32)] =
            &[(2, 4), (1, 2), (4, 8), (1, 16), (15, 16), (3, 5), (1, 4), (2, 3), (7, 11)];
        let pairs = if maker.level == Level::Full { full } else { &full[..2] };
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let (n, m) = pairs[turn % pairs.len()];
            maker.emit(w.source, Input::new().with("weights", w.data).set("n", n).set("m", m));
        }
    },
    run: |on, input| {
        let (weights, n, m) = (input.tensor("weights")?, input.number("n")?, input.number("m")?);
        let mask = kernels::nm_mask(on, &weights.upload(on)?, n, m)?;
        Ok(vec![bits(on, &mask, weights.cols)?, ("mask", Data::read(on, &mask)?)])
    },
};

/// What keeps so many of every row.
pub const ROW_THRESHOLD: Op = Op {
    name: "row_threshold",
    kernels: &[&kernels::prune::row_threshold::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            if w.data.cols > 0 {
                let keep = match turn % 4 {
                    0 => 1,
                    1 => w.data.cols,
                    _ => 1 + maker.rng.below(turn, w.data.cols),
                };
                maker.emit(w.source, Input::new().with("weights", w.data).set("keep", keep as i64));
            }
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?;
        let limits = kernels::row_threshold(on, &weights.upload(on)?, input.number("keep")?)?;
        let numbers: Vec<u64> =
            limits.iter().flat_map(|l| [l.threshold.into(), l.ties_before]).collect();
        Ok(vec![("limits", Data::u64((limits.len(), 2), &numbers))])
    },
};

/// Signs, and the mean magnitude of a row.
pub const BINARIZE: Op = Op {
    name: "binarize",
    kernels: &[
        &kernels::palette::binarize::KERNEL,
        &kernels::affine::range::KERNEL,
        &kernels::prune::magnitude_sums::KERNEL,
    ],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for w in maker.weights(Admits::Finite) {
            maker.emit(w.source, Input::new().with("weights", w.data));
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?;
        let binary = kernels::binarize(on, &weights.upload(on)?)?;
        let signs = bits(on, &binary.bits, weights.cols)?;
        Ok(vec![
            signs,
            ("scales", Data::read(on, &binary.scales)?),
            ("bits", Data::read(on, &binary.bits)?),
        ])
    },
};

/// Units per weight of rows: 32767 for the largest magnitude.
fn inverse(weights: &Data, rows: std::ops::Range<usize>) -> f32 {
    let span = rows.start * weights.cols..rows.end * weights.cols;
    let absmax = span.map(|i| (weights.value(i) as f32).abs()).fold(0.0, f32::max);
    if absmax < SMALLEST { 0.0 } else { (32767.0 / f64::from(absmax)) as f32 }
}

/// A packed mask, bit by bit.
fn bits(on: &Backend, mask: &crate::Tensor, cols: usize) -> Result<(&'static str, Data)> {
    let (rows, width, words) = (mask.rows(), mask.cols(), mask.read(on)?);
    let bit = |i: usize| (words[i / cols * width + i % cols / 32] >> (i % cols % 32) & 1) as u8;
    let bits: Vec<u8> = (0..rows * cols).map(bit).collect();
    debug_assert_eq!(mask.dtype(), DType::U32);
    Ok(("kept", Data::u8((rows, cols), &bits)))
}
