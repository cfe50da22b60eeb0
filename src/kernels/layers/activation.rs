/// What a layer applies to its outputs. The shader's twin is `shaders/lib/activation.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`: exact, but for subnormals, which a device may take for zeros.
    Relu,
    /// `x / 2 (1 + erf(x / √2))`, the form BERT uses, not the one with tanh: within `4e-7 (1 + |x|)`.
    ///
    /// Source: Hendrycks and Gimpel 2016, arXiv 1606.08415.
    Gelu,
}

impl Activation {
    /// The function's value.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        }
    }

    /// Its number in the shader.
    pub(crate) fn code(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Relu => 1.0,
            Self::Gelu => 2.0,
        }
    }
}

/// Within 3e-7: Abramowitz and Stegun 1964, formula 7.1.26.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = t
        * (0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - p * exp(-(x * x).min(80.0))).copysign(x)
}

/// e^x for -87 <= x <= 88, within 2e-7 of its value; without a call, so that loops over it become SIMD.
///
/// Source: the reduction of Cody and Waite 1980, the polynomial of Moshier's Cephes.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits; taking it away leaves its value.
    const MAGIC: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 0.5
        + r * (0.166_666_65
            + r * (0.041_665_795
                + r * (0.008_333_452 + r * (0.001_398_199_9 + r * 1.987_569_1e-4))));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    (1.0 + r + r * r * p) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_and_exp_keep_their_bounds() {
        for i in -80_000..=80_000 {
            let x = i as f32 / 1000.0;
            let true_gelu = 0.5
                * f64::from(x)
                * (1.0 + libm::erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2));
            let error = (f64::from(Activation::Gelu.apply(x)) - true_gelu).abs();
            assert!(error <= 4e-7 * (1.0 + f64::from(x).abs()), "gelu({x}) is off by {error:e}");
            let true_exp = libm::exp(f64::from(x));
            let error = (f64::from(exp(x)) / true_exp - 1.0).abs();
            assert!(error <= 2e-7, "exp({x}) is off by a factor of 1 + {error:e}");
        }
        assert_eq!(Activation::Relu.apply(-3.0), 0.0);
        assert_eq!(Activation::None.apply(-3.0), -3.0);
    }
}
