//! How much the squared error of a weight counts: in classes a factor of four apart, so that a table says for every position and class
//! what a weight there costs, and sums stay whole numbers.

/// Classes.
pub const CLASSES: usize = 7;

/// The class in which a weight counts as much as all do in the mean.
const MEAN: u32 = CLASSES as u32 / 2;

/// The class of a weight whose importance is so much, beside a mean: the nearest by its logarithm. What is beyond a 64th and 64 times
/// the mean counts as that.
pub fn class(importance: u64, mean: u64) -> u8 {
    // From one class to the next at twice the importance of the former, which is 4^(class - 3) of the mean.
    let next = |class: &u32| u128::from(importance) << 5 < u128::from(mean) << (2 * class);
    (0..CLASSES as u32 - 1).find(next).unwrap_or(CLASSES as u32 - 1) as u8
}

/// How much a class counts: in the mean [`ONE`].
pub(super) const fn share(class: u8) -> u64 {
    1 << (2 * class)
}

/// What [`share`] gives the class of the mean.
pub(super) const ONE: f64 = (1u64 << (2 * MEAN)) as f64;

/// Weights, and the class of each, or none where all count alike.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// One after the other.
    pub weights: Vec<f32>,
    /// As many, or none.
    pub classes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_the_nearest_by_their_logarithm() {
        let mean = 1000;
        for class_of in 0..CLASSES as u8 {
            let exact = (share(class_of) as f64 / ONE * mean as f64) as u64;
            for (factor, off) in [(1.0, 0), (1.9, 0), (2.1, 1), (0.55, 0), (0.45, -1)] {
                let expected = (class_of as i32 + off).clamp(0, CLASSES as i32 - 1);
                // Fifteen is too few to tell a factor of 0.45 from one of 0.55.
                if exact > 100 {
                    let found = class((exact as f64 * factor) as u64, mean);
                    assert_eq!(i32::from(found), expected, "{class_of} times {factor}");
                }
            }
        }
        assert_eq!([class(0, mean), class(u64::MAX >> 2, mean), class(5, 5)], [0, 6, 3]);
    }
}
