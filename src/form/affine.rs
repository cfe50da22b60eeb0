//! Codes of equal steps: `w = (code - zero_point) * scale`, with a scale for every group of consecutive weights of a row.

use crate::{
    DType,
    decide::affine::{AffineCode, CLIP_COUNT, ScaleType},
    form::{Component, Matrix, Memory, Passes},
};

/// How weights are written as codes of equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affine {
    /// Bits per code, 2 to 8.
    pub bits: u8,
    /// Without zero points.
    pub symmetric: bool,
    /// Elements that share a scale; 0 for all of the tensor.
    pub group: u64,
    /// The type of the scales.
    pub scales: ScaleType,
}

/// In the manifest: bits, 1 where symmetric, group.
pub(super) type Text = (u8, u8, u64);

impl Affine {
    /// The alphabet of its codes.
    pub fn code(self) -> AffineCode {
        AffineCode { bits: self.bits, symmetric: self.symmetric }
    }

    pub(super) fn text(self) -> Text {
        (self.bits, self.symmetric.into(), self.group)
    }

    pub(super) fn of_text((bits, symmetric, group): Text, scales: ScaleType) -> Self {
        Self { bits, symmetric: symmetric == 1, group, scales }
    }

    pub(super) fn check(self, (_, cols): Matrix) -> Result<(), String> {
        let Self { bits, group, .. } = self;
        if !(2..=8).contains(&bits) {
            return Err(format!("codes of {bits} bits, expected 2 to 8"));
        }
        if group != 0 && !cols.is_multiple_of(group) {
            return Err(format!("groups of {group} do not divide rows of {cols}"));
        }
        Ok(())
    }

    /// `int8 per channel`, `uint4 per 128`.
    pub(super) fn words(self, (_, cols): Matrix) -> String {
        let kind = if self.symmetric { "int" } else { "uint" };
        let of = match self.group {
            0 => "per tensor".to_owned(),
            g if g == cols => "per channel".to_owned(),
            g => format!("per {g}"),
        };
        format!("{kind}{} {of}", self.bits)
    }

    /// Elements that share a scale.
    pub(super) fn group(self, (rows, cols): Matrix) -> u64 {
        if self.group == 0 { rows * cols } else { self.group }
    }

    pub(super) fn tables(self, (rows, cols): Matrix) -> Vec<Component> {
        let shape = cols.checked_div(self.group).map_or(vec![1], |groups| vec![rows, groups]);
        let table = |name, dtype| Component { name, dtype, shape: Some(shape.clone()) };
        let mut tables = vec![table("scales", self.scales.dtype())];
        if !self.symmetric {
            tables.push(table("zero_points", DType::U8));
        }
        tables
    }

    /// What a group takes on a device: a scale, as f32 whatever is stored, and a zero point.
    pub const TABLE_BYTES: usize = 8;

    /// What finding its scales takes: `in_units` where every unit consists of whole groups and finds its own; `best_clip` where
    /// each is the best of its clips.
    pub fn memory(self, passes: &Passes, in_units: bool, best_clip: bool) -> Memory {
        // Range, scale and what is written of them; the errors of all clips, and their grid.
        let scale = 40 + if best_clip { CLIP_COUNT as u64 * 16 + 16 } else { 0 };
        match in_units {
            true => Memory { thread: passes.unit / passes.group * scale, ..Memory::default() },
            false => Memory {
                shared: passes.elements.div_ceil(passes.group) * scale,
                ..Memory::default()
            },
        }
    }
}
