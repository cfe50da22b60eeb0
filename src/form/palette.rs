//! Codes that number the entries of a table: of the tensor, or of a number of rows.

use crate::{
    DType,
    codec::trellis::Trellis,
    decide::kmeans::SLOTS,
    form::{Component, Matrix, Memory, Passes},
};

/// How weights are written as codes that number the entries of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// Entries of a table, 1 to 256; shorter tables repeat their last entry.
    pub k: u32,
    /// Rows that share a table; 0 for all of the tensor.
    pub rows: u64,
    /// Of codes along paths, which trellis: of the whole tensor, and always coded.
    pub trellis: Option<Trellis>,
}

/// In the manifest: entries of a table, rows that share it.
pub(super) type Text = (u32, u64);

/// Bits of a code that tells `k` entries apart.
///
/// # Example
///
/// ```
/// use tersor::form::code_bits;
///
/// assert_eq!([1, 2, 3, 16, 17, 256].map(code_bits), [1, 1, 2, 4, 5, 8]);
/// ```
pub fn code_bits(k: u32) -> u8 {
    (k.max(2) - 1).ilog2() as u8 + 1
}

impl Palette {
    /// Bits of a code.
    pub fn code_bits(self) -> u8 {
        code_bits(self.k)
    }

    pub(super) fn text(self) -> Text {
        (self.k, self.rows)
    }

    /// `states`: of the trellis, if there is one.
    pub(super) fn of_text((k, rows): Text, states: Option<u8>) -> Result<Self, String> {
        let trellis = states.map(|states| {
            Trellis::new(states)
                .ok_or_else(|| format!("a trellis of {states} states, expected 4, 8, 16, 32 or 64"))
        });
        Ok(Self { k, rows, trellis: trellis.transpose()? })
    }

    pub(super) fn check(self, (rows, _): Matrix, coded: bool) -> Result<(), String> {
        let Self { k, rows: per_table, trellis } = self;
        if trellis.is_some() && (per_table != 0 || !coded) {
            return Err("a trellis of codes that are not coded, or of several tables".into());
        }
        if !(1..=256).contains(&k) {
            return Err(format!("tables of {k} entries, expected 1 to 256"));
        }
        if per_table != 0 && !rows.is_multiple_of(per_table) {
            return Err(format!("tables for {per_table} rows do not divide {rows} rows"));
        }
        Ok(())
    }

    /// `palette 16 per tensor`, `palette 2 per channel`, `trellis of 8 states, 40 levels`.
    pub(super) fn words(self, (rows, _): Matrix) -> String {
        let k = self.k;
        if let Some(trellis) = self.trellis {
            return format!("trellis of {} states, {k} levels", trellis.states());
        }
        match self.rows {
            0 => format!("palette {k} per tensor"),
            1 if rows > 1 => format!("palette {k} per channel"),
            n if n == rows => format!("palette {k} per tensor"),
            n => format!("palette {k} per {n} channels"),
        }
    }

    /// Elements that share a table.
    pub(super) fn group(self, (rows, cols): Matrix) -> u64 {
        if self.rows == 0 { rows * cols } else { self.rows * cols }
    }

    pub(super) fn tables(self, dtype: DType, (rows, _): Matrix) -> Vec<Component> {
        let tables = rows.checked_div(self.rows).unwrap_or(1);
        vec![Component { name: "codebook", dtype, shape: Some(vec![tables, self.k.into()]) }]
    }

    /// What a table takes on a device.
    pub fn table_bytes(self) -> usize {
        4 * self.k as usize
    }

    /// A table with its thresholds and, for many weights, the table by which they are assigned.
    fn table(self, group: u64) -> u64 {
        u64::from(self.k) * 12 + if group > 1 << 17 { 68 << 10 } else { 0 }
    }

    /// What finding tables that are no longer than a block takes, from sorted weights: of a thread that sorts; and where
    /// tables lie `across` blocks, all of them are found before the first unit is encoded. `selected` where not all weights
    /// count, or not as one.
    pub fn memory_of_rows(self, passes: &Passes, across: bool, selected: bool) -> Memory {
        let Passes { elements, unit, group, .. } = *passes;
        let table = self.table(group);
        Memory {
            thread: unit * if selected { 40 } else { 8 }
                + solved(passes, group)
                + unit.div_ceil(group) * table,
            shared: if across { elements / group * table } else { 0 },
            ..Memory::default()
        }
    }

    /// What finding levels and paths takes: of a unit its weights as floats and those that survive, where they lie, their codes, and
    /// what is kept of a block's paths; of all a sample and its codes. Where they are `weighed`, importance and classes too.
    pub fn memory_of_paths(passes: &Passes, weighed: bool) -> Memory {
        let of_weight = if weighed { 12 + 29 } else { 12 };
        let of_unit = passes.unit * of_weight + (1 << 20);
        Memory { thread: of_unit, survey: of_unit, shared: 8 << 20 }
    }

    /// What finding tables that are longer than a block takes, one after the other, each from a histogram; `by_entropy` where
    /// it is the best for so many bits.
    pub fn memory_of_survey(self, passes: &Passes, selected: bool, by_entropy: bool) -> Memory {
        let Passes { elements, unit, group, .. } = *passes;
        let count = if selected { 16 } else { 8 };
        let exact = if passes.wide() { SLOTS as u64 * 4096 * count } else { 0 };
        // Error and bits of every union of cells.
        let unions = if by_entropy { 1 << 20 } else { 0 };
        Memory {
            survey: if selected { (32 << 20) + unit * 40 } else { passes.histogram() },
            shared: exact
                + solved(passes, elements.min(3 << 19))
                + elements / group * self.table(group)
                + unions,
            ..Memory::default()
        }
    }
}

/// A value as key, float, and bin of the solver, which only so many distinct values reach.
fn solved(passes: &Passes, values: u64) -> u64 {
    values.min(if passes.wide() { u64::MAX } else { 1 << 16 }) * 60
}
