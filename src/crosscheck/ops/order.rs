//! Order: histograms and sorting.

use crate::{
    DType,
    crosscheck::{
        case::{Data, Input},
        compare::Class,
        inputs::Admits,
        op::Op,
        options::Level,
    },
    decide::order_key,
    dtype, kernels,
};

/// The histogram of patterns.
pub const HISTOGRAM: Op = Op {
    name: "histogram",
    kernels: &[&kernels::order::histogram::KERNEL],
    class: Class::Exact,
    // A device of tiny limits takes hundreds of passes for a type of 32 bits: short ones are enough.
    expands: 64,
    make: |maker| {
        for w in maker.weights(Admits::All) {
            // Rounding F64 to f32 keeps no payload of a NaN; the other types keep theirs.
            if w.data.dtype != DType::F64 || dtype::all_finite(DType::F64, &w.data.words) {
                maker.emit(w.source, Input::new().with("weights", w.data));
            }
        }
    },
    run: |on, input| {
        let found = kernels::histogram(on, &input.tensor("weights")?.upload(on)?)?;
        let bins = found.counts.len();
        let mut outputs = vec![("counts", Data::u64((1, bins), &found.counts))];
        if !found.lows.is_empty() {
            outputs.push(("lows", Data::u64((1, bins), &found.lows)));
        }
        Ok(outputs)
    },
};

/// The values in some bins of a histogram.
pub const HISTOGRAM_TAILS: Op = Op {
    name: "histogram_tails",
    kernels: &[&kernels::order::histogram_tails::KERNEL],
    class: Class::Exact,
    expands: 1,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            // Bins of some weights, and their neighbours, which are mostly empty.
            let n = w.data.elements();
            let some = (0..6).map(|i| maker.rng.below(turn * 6 + i, n)).filter(|i| *i < n);
            let keys = some.map(|i| order_key::of_f32(w.data.value(i) as f32) >> 12);
            let mut bins: Vec<u32> = keys.flat_map(|b| [b, (b + 1) & 0xf_ffff]).collect();
            bins.sort_unstable();
            bins.dedup();
            let bins = Data::u32((1, bins.len()), bins).axes("", "bins");
            maker.emit(w.source, Input::new().with("weights", w.data).with("bins", bins));
        }
    },
    run: |on, input| {
        let (weights, bins) = (input.tensor("weights")?, input.tensor("bins")?);
        let found = kernels::histogram_tails(on, &weights.upload(on)?, &bins.words)?;
        let words: Vec<u32> = found.iter().flat_map(|(key, n)| [*key, *n]).collect();
        Ok(vec![("found", Data::u32((found.len(), 2), words))])
    },
};

/// Sorted rows; those of more than 4,096 weights are merged.
pub const SORT_ROWS: Op = Op {
    name: "sort_rows",
    kernels: &[&kernels::order::sort_rows::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: |maker| {
        for w in maker.weights(Admits::Finite) {
            maker.emit(w.source, Input::new().with("weights", w.data));
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?;
        let keys = kernels::sort_rows(on, &weights.upload(on)?)?;
        Ok(vec![("keys", Data::read(on, &keys)?)])
    },
};

/// Merged runs, with ties and the largest key.
pub const MERGE_RUNS: Op = Op {
    name: "merge_runs",
    kernels: &[&kernels::order::merge_runs::KERNEL],
    class: Class::Exact,
    expands: 1,
    make: |maker| {
        let full = maker.level == Level::Full;
        let runs: &[usize] = if full { &[16, 32, 48, 256, 1024, 4096] } else { &[16, 48, 256] };
        for (r, run) in runs.iter().enumerate() {
            let around = [
                1,
                15,
                16,
                17,
                run - 1,
                *run,
                run + 1,
                2 * run - 1,
                2 * run,
                2 * run + 1,
                5 * run + 3,
            ];
            for (c, cols) in around.into_iter().enumerate() {
                for rows in if full { 1..6 } else { 3..4 } {
                    let key = |i: usize| match maker.rng.at(r << 40 | c << 32 | i) {
                        k if k % 10 == 0 => u32::MAX,
                        k if c % 2 == 0 => (k >> 32) as u32 % 100,
                        k => (k >> 32) as u32,
                    };
                    let mut keys: Vec<u32> = (0..rows * cols).map(key).collect();
                    for row in keys.chunks_mut(cols) {
                        row.chunks_mut(*run).for_each(<[u32]>::sort_unstable);
                    }
                    let keys = Data::u32((rows, cols), keys).axes("rows", "");
                    maker.emit("shape", Input::new().with("keys", keys).set("run", *run as i64));
                }
            }
        }
    },
    run: |on, input| {
        let keys = input.tensor("keys")?.upload(on)?;
        Ok(vec![("keys", Data::read(on, &kernels::merge_runs(on, &keys, input.number("run")?)?)?)])
    },
};
