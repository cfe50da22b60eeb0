use crate::{
    Result,
    gpu::{Gpu, Kernel},
    wgsl,
};

/// The probe's shader.
pub static KERNEL: Kernel = Kernel {
    name: "numerics",
    wgsl: wgsl!("lib/grid", "numerics"),
    workgroup: 64,
    params: size_of::<u32>(),
};

/// What a device's f32 arithmetic really does, measured when it is opened. WGSL leaves all of this open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Numerics {
    /// A product of normal numbers is IEEE's, rounded to nearest even.
    pub multiply_exact: bool,
    /// `round` takes ties to even.
    pub round_ties_even: bool,
    /// Subnormal results become zero.
    pub flushes_subnormals: bool,
    /// `a * b + c` is rounded once.
    pub contracts: bool,
    /// `(a + b) - a` is simplified to `b`.
    pub reassociates: bool,
    /// A sum of normal numbers is IEEE's, rounded to nearest even.
    pub add_exact: bool,
    /// `x != x` where x is NaN.
    pub nan_unequal: bool,
    /// `(a + b) - a` is IEEE's where the sum goes through integers, with a zero that the compiler does not know.
    pub barrier_holds: bool,
    /// `pack2x16float` rounds to nearest even.
    pub f16_ties_even: bool,
}

impl Numerics {
    /// Whether `round(a * b)` gives the bits of the reference, so that kernels may use it to decide a code. Where it
    /// does not, they compute the same two roundings in integers.
    pub fn rounds_exactly(self) -> bool {
        self.multiply_exact && self.round_ties_even
    }

    pub(super) fn measure(gpu: &Gpu) -> Result<Self> {
        let [a, b, c] = operands();
        // One array for each row of results. So few at a time fit any binding.
        let mut got = [const { Vec::<u32>::new() }; 8];
        for at in (0..a.len()).step_by(512) {
            let span = at..(at + 512).min(a.len());
            let len = span.len();
            let operands = [&a[span.clone()], &b[span.clone()], &c[span]];
            let mut words: Vec<u32> = operands.into_iter().flatten().map(|x| x.to_bits()).collect();
            words.extend((0..len).map(nan));
            words.resize(5 * len, 0);
            let out = gpu.alloc(32 * len)?;
            let workgroups = (len as u64).div_ceil(KERNEL.workgroup.into());
            gpu.dispatch(&KERNEL, &[], &(len as u32), &[&gpu.upload(&words)?, &out], workgroups)?;
            let results = gpu.read(&out, 8 * len)?;
            got.iter_mut().zip(results.chunks(len)).for_each(|(all, part)| all.extend(part));
        }
        let all = |row: usize, expected: &dyn Fn(usize) -> f32, counts: &dyn Fn(usize) -> bool| {
            (0..a.len()).filter(|&i| counts(i)).all(|i| got[row][i] == expected(i).to_bits())
        };
        let product = |i: usize| a[i] * b[i];
        let normal = |i: usize| product(i).is_normal() && product(i).abs() < 1e30;
        let subnormal = |i: usize| product(i).is_subnormal();
        let sum = |i: usize| a[i] + b[i];
        Ok(Self {
            multiply_exact: all(0, &product, &normal),
            round_ties_even: all(1, &|i| product(i).round_ties_even(), &|i| {
                normal(i) && product(i).abs() > 0.4
            }),
            flushes_subnormals: !all(0, &product, &subnormal),
            contracts: !all(2, &|i| product(i) + c[i], &normal),
            reassociates: !all(3, &|i| (a[i] + b[i]) - a[i], &normal),
            add_exact: all(4, &|i| a[i] + b[i], &|i| sum(i).is_normal()),
            nan_unequal: (0..a.len())
                .all(|i| got[5][i] == u32::from(f32::from_bits(nan(i % 512)).is_nan())),
            barrier_holds: all(6, &|i| sum(i) - a[i], &|i| {
                sum(i).is_normal() && (sum(i) - a[i]).is_normal()
            }),
            f16_ties_even: (0..a.len())
                .filter(|i| (6.2e-5..65504.0).contains(&a[*i].abs()))
                .all(|i| got[7][i] & 0xffff == u32::from(half::f16::from_f32(a[i]).to_bits())),
        })
    }
}

/// Every other one is NaN: quiet or signalling, of either sign.
fn nan(i: usize) -> u32 {
    [0x7fc0_0000, 0x3f80_0000, 0xff80_0001, 0x7f80_0000, 0x7fff_ffff, 0][i % 6]
}

/// Pairs whose products are exact ties, near ties, need rounding in the last place, or are subnormal.
fn operands() -> [Vec<f32>; 3] {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for half in -255i16..=255 {
        for factor in [1.0, 0.25, 8.0] {
            for nudge in [-1, 0, 1] {
                let tie = f32::from(half) / 2.0 / factor;
                a.push(f32::from_bits(tie.to_bits().wrapping_add_signed(nudge)));
                b.push(factor);
            }
        }
    }
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        f32::from_bits(0x3f80_0000 | state >> 9) * if state & 256 == 0 { 1.0 } else { -1.0 }
    };
    for _ in 0..2048 {
        a.push(random() / 1024.0);
        b.push(random() * 100.0);
    }
    a.extend([1.5e-38, -1.2e-38, 3.0e-39]);
    b.extend([0.25, 0.125, 1.0]);
    // Operands that are themselves subnormal say nothing about the products of normal ones.
    let keep: Vec<bool> = a
        .iter()
        .zip(&b)
        .map(|(x, y): (&f32, &f32)| *x == 0.0 || x.is_normal() && y.is_normal())
        .collect();
    let pick =
        |v: &[f32]| v.iter().zip(&keep).filter(|(_, k)| **k).map(|(x, _)| *x).collect::<Vec<_>>();
    let (a, b) = (pick(&a), pick(&b));
    let c = a.iter().zip(&b).map(|(x, y)| -(x * y)).collect();
    [a, b, c]
}
