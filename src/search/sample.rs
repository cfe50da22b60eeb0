//! Some rows of a tensor, as a tensor of their own.

use crate::{
    Result, TensorInfo,
    form::View,
    format::Checkpoint,
    stage::{Blocks, Source},
};

/// Runs of rows that follow one another, at most: enough to see all of a tensor, and rows beside one another stay so.
const RUNS: u64 = 8;

/// Rows of a run are a multiple of so many, where there are enough: groups of rows that share a table.
const ROWS: u64 = 8;

/// Rows of a tensor's matrix view.
pub struct Sample {
    /// What they are as a tensor: its type, `[rows, cols]`.
    pub info: TensorInfo,
    /// Their elements.
    pub words: Vec<u32>,
    /// The tensor's weights over theirs.
    pub times: f64,
}

impl Sample {
    /// Weights of a sample, about; what has no more than twice as many is taken whole.
    pub const WEIGHTS: u64 = 1 << 18;

    /// Rows from all over the tensor, or `None` where it is small enough to be looked at as a whole.
    ///
    /// # Errors
    ///
    /// As [`Source::load`].
    pub fn of(checkpoint: &Checkpoint, info: &TensorInfo, view: View) -> Result<Option<Self>> {
        let (rows, cols) = view.matrix(&info.shape);
        if rows * cols <= 2 * Self::WEIGHTS || rows < 2 {
            return Ok(None);
        }
        let wanted = (Self::WEIGHTS / cols).max(1);
        let run = match wanted / RUNS {
            0 => 1,
            n if n < ROWS => n,
            n => n / ROWS * ROWS,
        };
        let runs = (wanted / run).clamp(1, rows / run);
        let source = Source::open(checkpoint, info, view);
        let blocks = Blocks::new(info.dtype, (rows, cols));
        let size = info.dtype.bytes(1);
        let mut bytes: Vec<u8> = Vec::new();
        for i in 0..runs {
            // The first of all, the last of all, and evenly between.
            let first = if runs == 1 { 0 } else { (rows - run) * i / (runs - 1) };
            for unit in blocks.units_of(first..first + run, run) {
                let words = source.load(&blocks, &unit)?;
                let own = bytemuck::cast_slice::<u32, u8>(&words);
                bytes.extend_from_slice(&own[..unit.elements() * size]);
            }
        }
        let (taken, length) = (run * runs, bytes.len() as u64);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let mut words = vec![0u32; bytes.len() / 4];
        bytemuck::cast_slice_mut::<u32, u8>(&mut words).copy_from_slice(&bytes);
        let info = TensorInfo { shape: vec![taken, cols], bytes: length, ..info.clone() };
        Ok(Some(Self { info, words, times: rows as f64 / taken as f64 }))
    }
}
