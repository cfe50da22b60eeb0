//! How far the weights of a group reach.

/// The smallest and the largest weight of a group, in IEEE total order: a NaN of either sign lies outside the infinities.
///
/// # Example
///
/// ```
/// use tersor::kernels::Range;
///
/// let both = Range { min: -2.0, max: 1.0 }.union(Range { min: 0.0, max: 1.5 });
/// assert_eq!((both.min, both.max, both.absmax()), (-2.0, 1.5, 2.0));
/// assert!(!Range { min: 0.0, max: f32::NAN }.is_finite());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The smallest weight.
    pub min: f32,
    /// The largest weight.
    pub max: f32,
}

impl Range {
    /// The largest magnitude; infinite or NaN if any weight is.
    pub fn absmax(self) -> f32 {
        f32::from_bits((self.min.to_bits() & 0x7fff_ffff).max(self.max.to_bits() & 0x7fff_ffff))
    }

    /// Whether every weight of the group is finite.
    pub fn is_finite(self) -> bool {
        self.absmax().is_finite()
    }

    /// The range of two sets of weights together.
    pub fn union(self, other: Self) -> Self {
        let min = if other.min.total_cmp(&self.min).is_lt() { other.min } else { self.min };
        let max = if other.max.total_cmp(&self.max).is_gt() { other.max } else { self.max };
        Self { min, max }
    }
}
