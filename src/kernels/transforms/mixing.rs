//! Blocks of integers times an orthogonal matrix: what `transform` and `untransform` share, and the numbers that the shaders are
//! given.
//!
//! A block has one exponent, that of its largest number, and its numbers become integers of at most [`BITS`] bits beside their
//! sign. From there to the last rounding everything is exact arithmetic of whole numbers, on a device in 32 bits, so that every machine has
//! the same.

use crate::{
    Error, Result,
    form::{BlockTransform, TransformKind},
};

/// Bits of the largest integer of a block.
const BITS: i32 = 22;
/// Bits after the point of the matrix of a cosine transform.
const MATRIX_BITS: u32 = 16;
/// Bits after the point of the factors that end a transform, which are a quarter of what they should be, so that results have at
/// most 24 bits: they are floats without rounding.
const FACTOR_BITS: u32 = 32;
/// The exponent of the unit of results of a block whose exponent field is 0.
const UNIT: i32 = 127 + BITS - 1 - 2;

/// Elements that are transformed at a time on the CPU, and by a workgroup a part of it: whole blocks, whichever.
pub(super) const SPAN: usize = 2048;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From weights to coefficients.
    There,
    /// From coefficients to weights.
    Back,
}

/// The numbers of a transform.
#[derive(Clone, Debug)]
pub(super) struct Mixing {
    way: Way,
    pub block: usize,
    /// -1 where the sign of a weight is turned, otherwise 0: before the way there, after the way back.
    flips: Vec<i32>,
    /// What an integer is multiplied with first, and by how many bits the product is moved down: steps, on the way back.
    steps: Vec<i32>,
    steps_bits: u32,
    /// Of a cosine transform: the factor of integer `i` in result `k`, at `i * block + k`.
    matrix: Vec<i32>,
    /// The same, for the CPU.
    exact: Vec<f64>,
    /// What a result is multiplied with at the end, in 2^-32.
    factors: Vec<i32>,
    /// What the exponent of the results is above that of the block.
    exponent: i32,
}

impl Mixing {
    pub fn new(transform: &BlockTransform, way: Way) -> Self {
        let block = transform.block as usize;
        let (root, flips, matrix) = match transform.kind {
            TransformKind::Hadamard { seed } => {
                (libm::sqrt(block as f64), signs(seed, block), Vec::new())
            }
            TransformKind::Dct => (1.0, vec![0; block], cosines(block, way)),
        };
        let steps = &transform.steps;
        let least = steps.iter().copied().min().map_or(1, u32::from);
        // Products with steps are moved down until the largest is none.
        let steps_bits = match way {
            Way::There => 0,
            Way::Back => {
                steps.iter().max().map_or(0, |q| u32::from(*q).next_power_of_two().ilog2())
            }
        };
        // 2^steps_bits / least, by which that is too far, is a number in (1/2, 1] and this power of two.
        let exponent = match way {
            Way::There => 0,
            Way::Back => (0..=steps_bits).find(|e| least << e >= 1 << steps_bits).unwrap_or(0),
        };
        let of_step = |i: usize| match way {
            Way::There => steps.get(i).map_or(1.0, |q| f64::from(least) / f64::from(*q)),
            Way::Back => f64::from(1u32 << steps_bits) / f64::from(least << exponent),
        };
        let factor = |i| libm::ldexp(of_step(i) / root, FACTOR_BITS as i32 - 2);
        let own = |i: usize| match way {
            Way::There => 1,
            Way::Back => steps.get(i).map_or(1, |q| i32::from(*q)),
        };
        Self {
            way,
            block,
            flips,
            steps: (0..block).map(own).collect(),
            steps_bits,
            exact: matrix.iter().map(|c| f64::from(*c)).collect(),
            matrix,
            factors: (0..block).map(|i| libm::round(factor(i)) as i32).collect(),
            exponent: exponent as i32,
        }
    }

    /// All of it in one row of integers, as the shaders take it: flips, steps, factors, matrix.
    pub fn table(&self) -> Vec<i32> {
        [&self.flips[..], &self.steps, &self.factors, &self.matrix].concat()
    }

    /// Whether it is a Hadamard transform, by how many bits products with steps are moved down, and what is added to the exponent
    /// field of a block to have that of the unit of results, which is below 0.
    pub fn numbers(&self) -> (bool, u32, i32) {
        (self.matrix.is_empty(), self.steps_bits, self.exponent - UNIT)
    }

    /// Transforms whole blocks of f32, at most [`SPAN`] of them: `integers` is as long, and may hold anything.
    #[inline(always)]
    pub fn apply(&self, values: &mut [f32], integers: &mut [i32]) {
        let block = self.block;
        let mut exponents = [0i32; SPAN / 8];
        for ((x, n), e) in
            values.chunks_exact(block).zip(integers.chunks_exact_mut(block)).zip(&mut exponents)
        {
            let largest = x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7f80_0000));
            *e = ((largest >> 23) as i32).max(1);
            for (n, x) in n.iter_mut().zip(x) {
                *n = whole(x.to_bits(), *e);
            }
            match self.way {
                Way::There => n.iter_mut().zip(&self.flips).for_each(|(n, f)| *n = (*n ^ f) - f),
                Way::Back if self.steps_bits > 0 => {
                    let half = 1 << (self.steps_bits - 1);
                    n.iter_mut()
                        .zip(&self.steps)
                        .for_each(|(n, q)| *n = (*n * q + half) >> self.steps_bits);
                }
                Way::Back => {}
            }
        }
        match (self.matrix.is_empty(), block) {
            (true, _) => hadamard(integers, block),
            (_, 8) => cosine::<8>(integers, &self.exact),
            (_, 16) => cosine::<16>(integers, &self.exact),
            _ => cosine::<32>(integers, &self.exact),
        }
        for ((x, n), e) in
            values.chunks_exact_mut(block).zip(integers.chunks_exact_mut(block)).zip(exponents)
        {
            if self.way == Way::Back {
                n.iter_mut().zip(&self.flips).for_each(|(n, f)| *n = (*n ^ f) - f);
            }
            let unit = e + self.exponent - UNIT;
            for ((x, n), factor) in x.iter_mut().zip(n).zip(&self.factors) {
                let product = i64::from(*n) * i64::from(*factor) + (1 << (FACTOR_BITS - 1));
                *x = f32::from_bits(float((product >> FACTOR_BITS) as i32, unit));
            }
        }
    }
}

/// Refuses a transform that does not fit rows of `cols` numbers.
pub(super) fn expect(kernel: &'static str, transform: &BlockTransform, cols: usize) -> Result<()> {
    let expected = "a transform that divides the row";
    transform.check(cols as u64).map_err(|why| Error::shape(kernel, "transform", why, expected))
}

/// The number of f32 bits in units of 2^(exponent - 148): rounded to nearest, half away from zero.
#[inline(always)]
fn whole(bits: u32, exponent: i32) -> i32 {
    let field = (bits >> 23 & 255) as i32;
    let hidden = if field > 0 { 0x80_0000 } else { 0 };
    let shift = (exponent - field.max(1) + 2).min(31) as u32;
    // Where more than 25 bits go nothing is left, not even half a unit.
    let n = (((bits & 0x7f_ffff | hidden) + (1 << (shift - 1))) >> shift) as i32;
    if bits >> 31 == 1 { -n } else { n }
}

/// The bits of an integer of at most 24 bits times 2^unit: what is smaller than every normal number is +0, what is larger
/// than all numbers the largest.
#[inline(always)]
fn float(n: i32, unit: i32) -> u32 {
    let bits = (n as f32).to_bits();
    let field = (bits >> 23 & 255) as i32 + unit;
    let (sign, fraction) = (bits & 0x8000_0000, bits & 0x7f_ffff);
    match field {
        _ if n == 0 || field < 1 => 0,
        255.. => sign | 0x7f7f_ffff,
        _ => sign | (field as u32) << 23 | fraction,
    }
}

/// The sums and differences of a Hadamard transform, in Sylvester's order: `n[k]` becomes the sum over `i` of
/// `(-1)^popcount(i & k) n[i]`.
#[inline(always)]
fn hadamard(n: &mut [i32], block: usize) {
    for eight in n.as_chunks_mut::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *eight;
        let (a, b, c, d, e, f, g, h) = (a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h);
        let (a, b, c, d, e, f, g, h) = (a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h);
        *eight = [a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h];
    }
    let mut gap = 8;
    while gap < block {
        for pair in n.chunks_exact_mut(2 * gap) {
            let (low, high) = pair.split_at_mut(gap);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        gap *= 2;
    }
}

/// Blocks of N integers times the matrix of a cosine transform, rounded to whole numbers, half up. In f64: products of 22 and 16 bits,
/// and the sums of 32 of them, are whole numbers below 2^53, so that all of it is exact, in whatever order. Products of 32 bits, which
/// shaders take in two halves, are slower on most processors.
#[inline(always)]
fn cosine<const N: usize>(n: &mut [i32], matrix: &[f64]) {
    let rows = matrix.as_chunks::<N>().0;
    for block in n.as_chunks_mut::<N>().0 {
        let mut sums = [f64::from(1u32 << (MATRIX_BITS - 1)); N];
        for (n, row) in block.iter().zip(rows) {
            let n = f64::from(*n);
            for (sum, c) in sums.iter_mut().zip(row) {
                *sum += n * c;
            }
        }
        for (n, sum) in block.iter_mut().zip(sums) {
            *n = (sum / f64::from(1u32 << MATRIX_BITS)).floor() as i32;
        }
    }
}

/// -1 where the sign of a weight of a block is turned: the bits of the numbers of splitmix64 from a seed on, the lowest first.
fn signs(seed: u32, block: usize) -> Vec<i32> {
    let word = |i| crate::random::number(seed.into(), i);
    (0..block).map(|i| -((word(i as u64 / 64) >> (i % 64) & 1) as i32)).collect()
}

/// The orthonormal matrix of the cosine transform of type II, in 2^-16: the factor of weight `i` in coefficient `k`, at
/// `i * block + k` on the way there, at `k * block + i` on the way back.
fn cosines(block: usize, way: Way) -> Vec<i32> {
    let factor = |i: usize, k: usize| {
        let root = libm::sqrt(if k == 0 { 1.0 } else { 2.0 } / block as f64);
        let angle = std::f64::consts::PI * ((2 * i + 1) * k) as f64 / (2 * block) as f64;
        libm::round(libm::ldexp(root * libm::cos(angle), MATRIX_BITS as i32)) as i32
    };
    let at = |at: usize| match way {
        Way::There => factor(at / block, at % block),
        Way::Back => factor(at % block, at / block),
    };
    (0..block * block).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind and block, a cosine transform with steps too.
    fn transforms() -> Vec<BlockTransform> {
        let of = |kind, block, steps| BlockTransform { kind, block, steps };
        let hadamard = (3..=8).map(|b| of(TransformKind::Hadamard { seed: b }, 1 << b, vec![]));
        let dct = [8, 16, 32].map(|block| of(TransformKind::Dct, block, vec![]));
        let steps = |block: u32| (0..block).map(|k| (3 + 251 * k / block) as u8).collect();
        let stepped = [8, 16, 32].map(|block| of(TransformKind::Dct, block, steps(block)));
        hadamard.chain(dct).chain(stepped).collect()
    }

    /// The definition, in 64 bits and one sum after the other, of one block.
    fn plain(of: &BlockTransform, way: Way, values: &mut [f32]) {
        let block = of.block as usize;
        let field = |x: f32| i64::from((x.to_bits() >> 23 & 255).max(1));
        let e = values.iter().map(|x| field(*x)).max().unwrap();
        // Units of 2^(e - 148): floor(|x| / unit + 1/2), by exact arithmetic of f64.
        let whole = |x: f32| {
            let n = libm::floor(libm::ldexp(f64::from(x.abs()), 148 - e as i32) + 0.5) as i64;
            if x < 0.0 { -n } else { n }
        };
        let mut n: Vec<i64> = values.iter().map(|x| whole(*x)).collect();
        let seed = match of.kind {
            TransformKind::Hadamard { seed } => Some(seed),
            TransformKind::Dct => None,
        };
        let sign = |i: usize| seed.map_or(1, |seed| 1 + 2 * i64::from(signs(seed, block)[i]));
        let q = |i: usize| of.steps.get(i).map_or(1, |q| i64::from(*q));
        let (least, most) = ((0..block).map(q).min().unwrap(), (0..block).map(q).max().unwrap());
        let mut down = 0;
        while 1 << down < most {
            down += 1;
        }
        for (i, n) in n.iter_mut().enumerate() {
            match way {
                Way::There => *n *= sign(i),
                Way::Back => *n = (*n * q(i) + (1 << down) / 2).div_euclid(1 << down),
            }
        }
        let root = (block as f64).sqrt();
        let cosine = |i: usize, k: usize| {
            let c = if k == 0 { 1.0 } else { 2f64.sqrt() } / root;
            let angle = ((2 * i + 1) * k) as f64 * std::f64::consts::PI / (2 * block) as f64;
            (65536.0 * c * angle.cos()).round() as i64
        };
        let (mut up, mut mixed) = (0, Vec::new());
        for to in 0..block {
            let mut sum = 0;
            for (from, n) in n.iter().enumerate() {
                let (i, k) = if way == Way::There { (from, to) } else { (to, from) };
                sum += match seed {
                    Some(_) => {
                        if (i & k).count_ones() % 2 == 1 {
                            -n
                        } else {
                            *n
                        }
                    }
                    None => cosine(i, k) * n,
                };
            }
            if seed.is_none() {
                sum = (sum + 32768).div_euclid(65536);
            }
            let mut factor = 2f64.powi(30) / if seed.is_some() { root } else { 1.0 };
            match way {
                Way::There => factor *= least as f64 / q(to) as f64,
                Way::Back => {
                    sum *= sign(to);
                    up = 0;
                    while least << up < 1 << down {
                        up += 1;
                    }
                    factor *= (1 << down) as f64 / (least << up) as f64;
                }
            }
            mixed.push((sum * factor.round() as i64 + (1 << 31)).div_euclid(1 << 32));
        }
        for (x, z) in values.iter_mut().zip(mixed) {
            assert!(z.abs() <= 1 << 24, "{of:?}: {z}");
            let value = libm::ldexp(z as f64, (e - 146 + up) as i32);
            *x = match value.abs() {
                v if v < f64::from(f32::MIN_POSITIVE) => 0.0,
                v if v > f64::from(f32::MAX) => f32::MAX.copysign(value as f32),
                _ => value as f32,
            };
        }
    }

    /// Blocks of noise, of one outlier, of the largest numbers of either sign, of the smallest, and of everything at once.
    fn blocks(len: usize) -> Vec<Vec<f32>> {
        let noise = |i: usize| {
            let x = (i as u32).wrapping_mul(2_654_435_761) ^ (len as u32).wrapping_mul(97);
            (x.wrapping_mul(747_796_405) >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let of = |f: &dyn Fn(usize) -> f32| (0..len).map(f).collect::<Vec<f32>>();
        vec![
            of(&noise),
            of(&|i| noise(i + 7) * if i == len / 3 { 1e4 } else { 1e-2 }),
            of(&|_| f32::MAX),
            of(&|i| if noise(i) > 0.0 { f32::MAX } else { f32::MIN }),
            of(&|i| f32::from_bits(i as u32 * 77_777) * if i % 2 == 0 { 1.0 } else { -1.0 }),
            of(&|i| noise(i) * 10f32.powi(i as i32 % 70 - 38)),
            of(&|i| noise(i) * 3e-38),
            of(&|i| if i == 1 { -0.0 } else { 0.0 }),
            of(&|_| 1.999_999_9),
        ]
    }

    #[test]
    fn every_block_is_what_the_definition_says() {
        for of in transforms() {
            for way in [Way::There, Way::Back] {
                let all = blocks(of.block as usize);
                let mut found = all.concat();
                Mixing::new(&of, way).apply(&mut found, &mut vec![7; all.concat().len()]);
                for (i, mut block) in all.into_iter().enumerate() {
                    plain(&of, way, &mut block);
                    let found = &found[i * block.len()..][..block.len()];
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(found), bits(&block), "{of:?}, {way:?}, block {i}");
                }
            }
        }
    }

    /// By another way than a call of cos: turning a vector, step by step.
    #[test]
    fn cosines_are_those_of_turned_vectors() {
        for block in [8usize, 16, 32] {
            let table = cosines(block, Way::There);
            // The angle π / 2B, by halving a right one.
            let halve = |cos: f64| ((1.0 + cos) / 2.0).sqrt();
            let cos = (0..block.ilog2()).fold(0.0, |cos, _| halve(cos));
            let unit = (cos, (1.0 - cos * cos).sqrt());
            let turned = |steps: usize| {
                let (mut x, mut y) = (1.0f64, 0.0f64);
                for _ in 0..steps {
                    (x, y) = (x * unit.0 - y * unit.1, x * unit.1 + y * unit.0);
                }
                x
            };
            for i in 0..block {
                for k in 0..block {
                    let root = (if k == 0 { 1.0 } else { 2.0 } / block as f64).sqrt();
                    let exact = 65536.0 * root * turned((2 * i + 1) * k);
                    // Far enough from halves that no library's rounding decides.
                    assert!((exact.fract().abs() - 0.5).abs() > 1e-6, "{block} {i} {k}: {exact}");
                    assert_eq!(table[i * block + k], exact.round() as i32, "{block} {i} {k}");
                }
            }
            let back = cosines(block, Way::Back);
            assert!(
                (0..block * block).all(|at| back[at] == table[at % block * block + at / block])
            );
        }
    }

    #[test]
    fn there_and_back_changes_little_and_keeps_the_norm() {
        for of in transforms() {
            let block = of.block as usize;
            for (i, w) in
                blocks(block).into_iter().enumerate().filter(|(i, _)| [0, 1, 5, 8].contains(i))
            {
                let (mut c, mut n) = (w.clone(), vec![0; block]);
                Mixing::new(&of, Way::There).apply(&mut c, &mut n);
                let largest = w.iter().fold(0f32, |a, x| a.max(x.abs()));
                if of.steps.is_empty() {
                    let norm =
                        |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                    let ratio = norm(&c) / norm(&w);
                    assert!((ratio - 1.0).abs() < 1e-4, "{of:?}, block {i}: {ratio}");
                }
                Mixing::new(&of, Way::Back).apply(&mut c, &mut n);
                let worst = w.iter().zip(&c).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
                let bound = if of.steps.is_empty() { 2f32.powi(-12) } else { 2f32.powi(-9) };
                assert!(worst <= bound * largest, "{of:?}, block {i}: {worst} of {largest}");
            }
        }
    }

    #[test]
    fn signs_are_the_bits_of_splitmix64() {
        // What Vigna's splitmix64.c gives from the state 1234567.
        let words: [u64; 4] = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
        ];
        let bits = words.iter().flat_map(|w| (0..64).map(move |i| -((w >> i & 1) as i32)));
        assert_eq!(signs(1_234_567, 256), bits.collect::<Vec<_>>());
    }
}
