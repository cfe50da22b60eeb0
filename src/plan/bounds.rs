//! How much memory a job takes, from the headers alone: an upper bound.

use crate::{
    DType,
    decide::kmeans::SLOTS,
    format::Method,
    plan::{Action, Step, Treat},
    recipe::{Objective, Prune, Quantize, Scope},
    restore::groups,
    stage::{Blocks, STRIP_BYTES},
    treat::TableRows,
};

/// Chunks of the output that are digested or read at once, whatever the number of threads.
const DIGESTS: u64 = 64 << 20;

/// What all threads take at once: the buffers of their units, plus the tables of the step that needs most.
pub(super) fn memory(steps: &[Step], unit_bytes: u64, threads: usize) -> u64 {
    let of_step = |s: &Step| match &s.action {
        Action::Keep(_) => 0,
        Action::Treat(treat) => of_treatment(treat, unit_bytes, threads as u64),
    };
    steps.iter().map(of_step).max().unwrap_or(0).max(5 * unit_bytes * threads as u64) + DIGESTS
}

fn of_treatment(treat: &Treat, unit_bytes: u64, threads: u64) -> u64 {
    let manifest = &treat.manifest;
    let blocks = Blocks::new(manifest.dtype, manifest.matrix());
    let (n, size) = (blocks.elements(), blocks.dtype.bytes(1) as u64);
    let group = groups(manifest).size as u64;
    let unit = blocks.unit_elements(unit_bytes);
    let wide = matches!(blocks.dtype, DType::F32 | DType::F64);
    // Of a thread: the unit as it is read, copied for the device, restored and stored, with its codes and its mask.
    let mut thread = unit * 5 * size;
    // Of a thread that goes through the tensor before: the unit as it is read and copied, with its mask.
    let (look, mut survey) = (unit * 3 * size, 0);
    // Of all threads together.
    let mut shared = 0;
    // Counts and sums of 2^20 bins, and both in one, waiting to be added.
    let histogram = if wide { 24 << 20 } else { 2 << 20 };
    match treat.prune {
        Some(Prune::Channel { .. }) => shared += blocks.rows * 9,
        Some(Prune::Block { block: [r, c], .. }) => {
            // A norm of 8 bytes and a bit of each.
            let (r, c) = (u64::from(r).min(blocks.rows), u64::from(c).min(blocks.cols));
            shared += blocks.rows.div_ceil(r) * blocks.cols.div_ceil(c) * 9;
        }
        Some(Prune::Magnitude { scope, .. }) if scope != Scope::Row || blocks.cuts_rows() => {
            survey = look + histogram.max(unit * 8);
        }
        _ => {}
    }
    if manifest.coded {
        // Codes one by one, what is coded cut into blocks, and the coded units of a window.
        thread += unit + 3 * unit * size;
    }
    match manifest.method {
        Method::Values => {}
        Method::Affine { .. } => {
            let tables = n.div_ceil(group);
            let clips = if treat.objective == Objective::Mse { 33 * 16 + 16 } else { 0 };
            match unit.is_multiple_of(group) && !blocks.cuts_rows() {
                true => thread += unit / group * (40 + clips),
                false => shared += tables * (40 + clips),
            }
        }
        Method::Palette { k, .. } => {
            let selected = manifest.pruned || treat.importance.is_some();
            // A value as key, float, and bin of the solver, which only so many distinct values reach.
            let solved = |values: u64| values.min(if wide { u64::MAX } else { 1 << 16 }) * 60;
            let tables = n / group;
            // Its entries, thresholds and, for many weights, the table by which they are assigned.
            let table = u64::from(k) * 12 + if group > 1 << 17 { 68 << 10 } else { 0 };
            match TableRows::of(&blocks, group) {
                TableRows::Many => {
                    let counts = if selected { (32 << 20) + unit * 40 } else { histogram };
                    survey = survey.max(look + counts);
                    let count = if selected { 16 } else { 8 };
                    let exact = if wide { SLOTS as u64 * 4096 * count } else { 0 };
                    // Error and bits of every union of cells.
                    let unions = match treat.treatment.quantize {
                        Some(Quantize::Entropy { .. }) => 1 << 20,
                        _ => 0,
                    };
                    shared += exact + solved(n.min(3 << 19)) + tables * table + unions;
                }
                of_units => {
                    let across = of_units == TableRows::AcrossBlocks;
                    shared += if across { tables * table } else { 0 };
                    thread += unit * if selected { 40 } else { 8 } + solved(group);
                    thread += unit.div_ceil(group) * table;
                }
            }
        }
    }
    let strips = (threads + 1) * STRIP_BYTES.max(unit * size) + threads * (1 << 20);
    shared += match manifest.axis {
        0 => 0,
        _ if treat.importance.is_some() => 2 * strips,
        _ => strips,
    };
    thread.max(survey) * threads + shared
}
