//! What kernels are asked: lattices of edges and ties, magnitudes from end to end, every shape on either side of a boundary.

use crate::{
    DType,
    crosscheck::{
        case::{Case, Data, Input},
        options::Level,
    },
    dtype, random, words,
};

/// Random numbers by counter: the i-th of a stream is known without those before it. splitmix64, whose streams start where a
/// hash of their name says.
#[derive(Clone, Copy, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed and a name.
    pub fn new(seed: u64, name: &str) -> Self {
        let hash = blake3::hash(&[&seed.to_le_bytes()[..], name.as_bytes()].concat());
        let first = hash.as_bytes().first_chunk().expect("a blake3 hash has 32 bytes");
        Self(u64::from_le_bytes(*first))
    }

    /// Number `i` of the stream.
    pub fn at(self, i: usize) -> u64 {
        random::number(self.0, i as u64)
    }

    /// Number `i`, from 0 to `n`, which is not reached.
    pub fn below(self, i: usize, n: usize) -> usize {
        (self.at(i) % n.max(1) as u64) as usize
    }

    /// Number `i` in [-1, 1), with 24 bits.
    pub fn unit(self, i: usize) -> f32 {
        (self.at(i) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

/// The types of weights.
pub const WEIGHTS: [DType; 6] =
    [DType::F32, DType::BF16, DType::F16, DType::F8E4M3, DType::F8E5M2, DType::F64];

/// Columns on either side of every boundary that kernels have: words, bytes of a mask, vectors, workgroups.
const COLS: [usize; 15] = [1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 129, 255, 256, 257, 1025];

/// Rows by columns: few rows of all widths, many narrow rows, none of either; and what takes more than 7 workgroups of 256.
pub fn shapes(level: Level) -> Vec<(usize, usize)> {
    let rows: &[usize] = if level == Level::Full { &[1, 2, 3, 5] } else { &[3] };
    let mut all: Vec<_> = COLS.iter().flat_map(|c| rows.iter().map(|r| (*r, *c))).collect();
    all.extend([(0, 5), (4, 0), (1, 1), (255, 1), (257, 3), (2, 4099), (65, 33)]);
    if level == Level::Full {
        all.extend([(31, 31), (33, 5), (64, 64), (256, 2), (1, 8191), (3, 2048), (1000, 7)]);
    }
    all
}

/// What values are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// All patterns of a narrow type; of a wide one every exponent with the mantissas at its ends and in its middle.
    Edges,
    /// Every half step of some scale, with the float before and the float after.
    Ties,
    /// Powers of ten from 1e-40 to 1e38, and all between.
    Magnitudes,
    /// Small ones, and a few larger by a factor of a million.
    Outliers,
    /// Runs of equal values.
    Equal,
    /// Zeros of both signs, and the smallest numbers there are.
    Zeros,
    /// Uniform in [-1, 1).
    Uniform,
}

impl Values {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Edges,
        Self::Ties,
        Self::Magnitudes,
        Self::Outliers,
        Self::Equal,
        Self::Zeros,
        Self::Uniform,
    ];

    /// What a report calls it.
    pub fn source(self) -> &'static str {
        match self {
            Self::Edges => "edge",
            Self::Ties => "tie",
            Self::Magnitudes => "magnitude",
            Self::Outliers => "outlier",
            Self::Equal => "equal",
            Self::Zeros => "zero",
            Self::Uniform => "random",
        }
    }

    /// Number `i` of a stream of such values.
    pub fn f32(self, rng: Rng, i: usize) -> f32 {
        let (unit, r) = (rng.unit(i), rng.at(i));
        match self {
            Self::Edges => edge(r as usize),
            Self::Ties => {
                let step = [1.0, 0.25, 0.1, 1.0 / 3.0, 1e-3, 7.0][rng.below(1 << 40, 6)];
                let tie = (r % 600) as f32 * 0.5 * step * if r >> 32 & 1 == 1 { -1.0 } else { 1.0 };
                f32::from_bits(tie.to_bits().wrapping_add_signed((r >> 40) as i32 % 3 - 1))
            }
            Self::Magnitudes => {
                let exponent = (r >> 8) as f64 / (1u64 << 56) as f64 * 78.0 - 40.0;
                (10f64.powf(exponent) * if r & 1 == 1 { -1.0 } else { 1.0 }) as f32
            }
            Self::Outliers if r % 97 == 5 => unit * 1e4,
            Self::Outliers => unit * 1e-2,
            Self::Equal => rng.unit(i / 37),
            Self::Zeros => {
                f32::from_bits([0, 1 << 31, 1, 0x8000_0001, 0x0080_0000][(r % 5) as usize])
            }
            Self::Uniform => unit,
        }
    }
}

/// Number `i` of the edge lattice of f32: 2,048 patterns, then over again. Not all are finite.
fn edge(i: usize) -> f32 {
    let mantissa = [0, 1, 0x40_0000, 0x7f_ffff][i % 4];
    f32::from_bits((i as u32 >> 10 & 1) << 31 | (i as u32 >> 2 & 255) << 23 | mantissa)
}

/// Which patterns a kernel's contract admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Finite weights only.
    Finite,
    /// NaN and infinities as well.
    All,
}

/// A matrix of weights, and what it is.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Where the values come from.
    pub source: String,
    /// The matrix, with axes `rows` and `cols`.
    pub data: Data,
}

/// Makes the cases of one kernel.
pub struct Maker<'a> {
    /// How many.
    pub level: Level,
    /// Random numbers of this kernel.
    pub rng: Rng,
    /// Tiles of the user's own tensors.
    pub user: &'a [Weights],
    /// Takes every case.
    pub take: &'a mut dyn FnMut(Case),
}

impl Maker<'_> {
    /// Hands over a case.
    pub fn emit(&mut self, source: impl Into<String>, input: Input) {
        (self.take)(Case { source: source.into(), input, ordinary: false });
    }

    /// Hands over a case that the device of tiny limits cannot hold.
    pub fn emit_ordinary(&mut self, source: impl Into<String>, input: Input) {
        (self.take)(Case { source: source.into(), input, ordinary: true });
    }

    /// Weights of every type, kind and shape, one after the other, and the user's own. In full every type meets every kind
    /// at some shape, and every shape; quick takes turns.
    pub fn weights(&self, admits: Admits) -> impl Iterator<Item = Weights> + use<> {
        let (full, rng) = (self.level == Level::Full, self.rng);
        let mut all: Vec<(DType, Values, (usize, usize))> = Vec::new();
        for dtype in WEIGHTS {
            all.push((dtype, Values::Edges, lattice_shape(dtype)));
        }
        let mut turn = 0;
        for shape in shapes(self.level) {
            let types = if full { WEIGHTS.len() } else { 1 };
            for _ in 0..types {
                // The two counts have no common factor, so all pairs come up.
                all.push((WEIGHTS[turn % 6], Values::ALL[turn % 7], shape));
                turn += 1;
            }
        }
        let kinds = all.into_iter().enumerate().map(move |(i, (dtype, values, shape))| Weights {
            source: values.source().into(),
            data: weights(dtype, shape, values, admits, Rng(rng.at(i))),
        });
        let user: Vec<_> = self
            .user
            .iter()
            .filter(|u| admits == Admits::All || is_finite(&u.data))
            .cloned()
            .collect();
        kinds.chain(user)
    }
}

fn is_finite(data: &Data) -> bool {
    dtype::all_finite(data.dtype, &data.words)
}

/// All patterns of a narrow type, or the lattice of a wide one.
fn lattice_shape(dtype: DType) -> (usize, usize) {
    match dtype.bits() {
        16 => (64, 1024),
        8 => (4, 64),
        _ => (32, 64),
    }
}

/// A matrix of weights of one kind.
pub fn weights(
    dtype: DType,
    shape: (usize, usize),
    values: Values,
    admits: Admits,
    rng: Rng,
) -> Data {
    let n = shape.0 * shape.1;
    let mut data = vec![0; words(dtype, n)];
    if values == Values::Edges && dtype.bits() < 32 {
        // Patterns in order; a matrix of any other size starts somewhere.
        let start = if n == 1 << dtype.bits() { 0 } else { rng.at(0) as usize };
        match dtype.bits() {
            16 => {
                let patterns = bytemuck::cast_slice_mut::<u32, u16>(&mut data);
                patterns[..n].iter_mut().enumerate().for_each(|(i, p)| *p = (start + i) as u16);
            }
            _ => {
                let patterns = bytemuck::cast_slice_mut::<u32, u8>(&mut data);
                patterns[..n].iter_mut().enumerate().for_each(|(i, p)| *p = (start + i) as u8);
            }
        }
    } else {
        let start = if n == 2048 { 0 } else { rng.at(1) as usize };
        let value = |i: usize| match values {
            Values::Edges => edge(start.wrapping_add(i)),
            _ => values.f32(rng, i),
        };
        let values: Vec<f32> = (0..n).map(value).collect();
        // The encoder takes no NaN, and clamps infinities.
        match dtype {
            DType::F32 => data.copy_from_slice(bytemuck::cast_slice(&values)),
            DType::F64 => {
                for (i, (x, pair)) in values.iter().zip(data.chunks_exact_mut(2)).enumerate() {
                    // On the f32, half way to the next, and beside both.
                    let beside = [0, 0x1000_0000, 0x0fff_ffff, 0x1000_0001][i % 4];
                    let bits = f64::from(*x).to_bits() ^ beside;
                    (pair[0], pair[1]) = (bits as u32, (bits >> 32) as u32);
                }
            }
            _ => dtype::encode(dtype, &values, &mut data, 0),
        }
    }
    let mut data = Data::new(dtype, shape, data).axes("rows", "cols");
    if admits == Admits::Finite && !is_finite(&data) {
        let width = data.width();
        for i in 0..n {
            let mut as_f32 = [0.0];
            dtype::decode(dtype, &data.words, i, &mut as_f32);
            if !as_f32[0].is_finite() {
                data.bytes_mut()[i * width..][..width].fill(0);
            }
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // What Vigna's splitmix64.c gives from the state 1234567.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (i, expected) in expected.into_iter().enumerate() {
            assert_eq!(Rng(1_234_567).at(i), expected);
        }
    }
}
