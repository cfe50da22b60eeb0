//! What goes into an integer product, and what every kernel that computes one refuses.

use crate::{
    Backend, DType, Error, Result, Tensor, codec::bitpack, kernels::layers::activation::Activation,
};

/// A matrix of codes of 8 bits.
#[derive(Clone, Debug)]
pub struct Int8 {
    /// U32 `[rows, ceil(cols / 4)]`: four codes to a word, the first in the low byte, padding zero, as
    /// [`quantize`](crate::kernels::affine::quantize::quantize()) packs them.
    pub words: Tensor,
    /// Codes per row.
    pub cols: usize,
    /// Codes are -128 to 127 (weights: -127 to 127), otherwise 0 to 255.
    pub signed: bool,
}

/// What belongs to each output of an integer product, on the backend where the product runs.
#[derive(Clone, Debug)]
pub struct Channels {
    pub(crate) table: Tensor,
    /// Smallest and largest zero point, and zero.
    zero_points: (i32, i32),
    fixed_point: bool,
}

impl Channels {
    /// Moves the table to a backend, a row for each output, of four words:
    ///
    /// - the offset that is added to the sum, i32;
    /// - the zero point of that row of the weights, i32, -128 to 127 or 0 to 255 as the weights;
    /// - the scale, f32 bits; for [`Epilogue::Requantize`] the [`multiplier`](crate::kernels::products::requantize::multiplier), i32;
    /// - the bias, f32 bits; for [`Epilogue::Requantize`] the shift.
    ///
    /// That all zero points are zero, which saves the sums over the activations, is seen here.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the table does not fit the device, or the device fails.
    pub fn new(on: &Backend, rows: &[[u32; 4]]) -> Result<Self> {
        let words = rows.as_flattened().to_vec();
        Ok(Self::of(rows, Tensor::new(on, DType::U32, rows.len(), 4, words)?))
    }

    /// The table that holds `rows`.
    pub(crate) fn of(rows: &[[u32; 4]], table: Tensor) -> Self {
        Self {
            table,
            zero_points: rows
                .iter()
                .fold((0, 0), |(low, high), r| (low.min(r[1] as i32), high.max(r[1] as i32))),
            fixed_point: rows.iter().all(|r| r[2] < 1 << 31 && (1..=62).contains(&r[3])),
        }
    }

    /// Whether any zero point is not zero.
    pub(crate) fn zero_points(&self) -> bool {
        self.zero_points != (0, 0)
    }

    /// Bytes it takes on the device.
    pub fn bytes(&self) -> u64 {
        16 * self.table.rows() as u64
    }

    /// The table, U32 `[N, 4]`.
    pub(crate) fn table(&self) -> &Tensor {
        &self.table
    }

    /// Refuses a table that has not `n` rows.
    pub(crate) fn expect(&self, kernel: &'static str, n: usize) -> Result<()> {
        if self.table.rows() != n {
            return Err(Error::shape(kernel, "channels", self.table.rows(), n));
        }
        Ok(())
    }

    /// Refuses a table that holds no multipliers and shifts.
    pub(crate) fn expect_fixed_point(&self, kernel: &'static str) -> Result<()> {
        if !self.fixed_point {
            let expected = "a multiplier below 2^31 and a shift of 1 to 62 in every row";
            return Err(Error::shape(kernel, "channels", "something else", expected));
        }
        Ok(())
    }
}

/// What becomes of the sums.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue<'a> {
    /// I32 `[M, N]`: they are the result.
    Sum,
    /// F32 `[M, N]`: `act(f32(sum) * (row * scale) + bias)`, with the channel's scale and bias.
    Float {
        /// F32 `[M, 2]`: scale and zero point of each row of the activations, as [`quantize_rows`](crate::kernels::products::quantize_rows::quantize_rows())
        /// gives them; none: scale 1. With them the sums are `Σ_k (a[m, k] - zero point) * (w[n, k] - zero[n])`, for which the
        /// offset of a channel has to be `Σ_k (w[n, k] - zero[n])`.
        rows: Option<&'a Tensor>,
        /// What is applied last.
        activation: Activation,
    },
    /// U32 `[M, ceil(N / 4)]`: codes, packed as in [`Int8`]; see [`requantize`](crate::kernels::products::requantize::requantize()).
    Requantize {
        /// The code of zero.
        zero_point: i32,
        /// The smallest code; the zero point makes it a ReLU.
        lowest: i32,
        /// The largest code.
        highest: i32,
    },
}

impl Epilogue<'_> {
    /// Type and columns of the result.
    pub(crate) fn output(self, n: usize) -> (DType, usize) {
        match self {
            Epilogue::Sum => (DType::I32, n),
            Epilogue::Float { .. } => (DType::F32, n),
            Epilogue::Requantize { .. } => (DType::U32, bitpack::words(n, 8)),
        }
    }
}

/// Refuses shapes that do not chain, sums that could overflow, and an epilogue that does not fit.
pub(crate) fn expect(
    kernel: &'static str,
    a: &Int8,
    w: &Int8,
    channels: &Channels,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    expect_int8(kernel, "words of w", w)?;
    expect_factors(kernel, a, (w.words.rows(), w.cols, w.signed), channels, epilogue)
}

/// The same for weights of so many rows and columns, signed or not, whose words are in order.
pub(crate) fn expect_factors(
    kernel: &'static str,
    a: &Int8,
    (rows, cols, signed): (usize, usize, bool),
    channels: &Channels,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    expect_int8(kernel, "words of a", a)?;
    if cols != a.cols {
        return Err(Error::shape(kernel, "cols of w", cols, a.cols));
    }
    let (lowest, highest) = if signed { (-128, 127) } else { (0, 255) };
    if channels.zero_points.0 < lowest || channels.zero_points.1 > highest {
        let (got, expected) =
            (format!("{:?}", channels.zero_points), format!("{lowest}..={highest}"));
        return Err(Error::shape(kernel, "zero points of channels", got, expected));
    }
    let longest = longest_row(a.signed, signed && !channels.zero_points());
    if a.cols > longest {
        let expected = format!("at most {longest}, so that sums fit 32 bits");
        return Err(Error::shape(kernel, "cols", a.cols, expected));
    }
    channels.expect(kernel, rows)?;
    match epilogue {
        Epilogue::Sum | Epilogue::Float { rows: None, .. } => Ok(()),
        Epilogue::Float { rows: Some(rows), .. } => {
            let (got, m) = ((rows.dtype(), rows.rows(), rows.cols()), a.words.rows());
            if got != (DType::F32, m, 2) {
                let got = format!("{} [{}, {}]", got.0.name(), got.1, got.2);
                return Err(Error::shape(kernel, "rows", got, format!("F32 [{m}, 2]")));
            }
            Ok(())
        }
        Epilogue::Requantize { zero_point, lowest, highest } => {
            expect_codes(kernel, zero_point, lowest, highest)?;
            channels.expect_fixed_point(kernel)
        }
    }
}

/// Refuses words that do not hold the codes.
pub(crate) fn expect_int8(kernel: &'static str, what: &'static str, codes: &Int8) -> Result<()> {
    let (words, expected) = (&codes.words, bitpack::words(codes.cols, 8));
    if words.dtype() != DType::U32 || words.cols() != expected {
        let got = format!("{} a row, {}", words.cols(), words.dtype().name());
        return Err(Error::shape(kernel, what, got, format!("{expected} a row, U32")));
    }
    Ok(())
}

/// The longest K whose sums fit 32 bits.
pub(crate) fn longest_row(a_signed: bool, weights_within_127: bool) -> usize {
    longest(1 << 31, a_signed, weights_within_127)
}

/// The longest K whose sums stay below `limit`. A zero point is a code of the weights: their difference is at most 255.
pub(crate) fn longest(limit: usize, a_signed: bool, weights_within_127: bool) -> usize {
    let a = if a_signed { 128 } else { 255 };
    let w = if weights_within_127 { 127 } else { 255 };
    (limit - 1) / (a * w)
}

/// Refuses codes that do not fit a byte.
pub(crate) fn expect_codes(
    kernel: &'static str,
    zero_point: i32,
    lowest: i32,
    highest: i32,
) -> Result<()> {
    let byte = if lowest < 0 { -128..=127 } else { 0..=255 };
    if lowest > highest || [zero_point, lowest, highest].iter().any(|c| !byte.contains(c)) {
        let got = format!("{zero_point} in {lowest}..={highest}");
        return Err(Error::shape(kernel, "codes", got, "codes of -128..=127 or 0..=255"));
    }
    Ok(())
}
