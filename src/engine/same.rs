use crate::decide::{histogram::Histogram, range::Range};

/// What kernels return, compared bit for bit: a NaN is the same as itself, and zeros of different signs are not.
pub trait Same {
    /// Where the first difference from what is `expected` is, and what is there; `None` if every bit is the same.
    fn difference(&self, expected: &Self) -> Option<String>;
}

macro_rules! words {
    ($($word:ty),+) => {$(
        impl Same for $word {
            fn difference(&self, expected: &Self) -> Option<String> {
                (self != expected).then(|| format!("{self:#x}, expected {expected:#x}"))
            }
        }
    )+};
}
words!(u32, u64, usize);

impl Same for f32 {
    fn difference(&self, expected: &Self) -> Option<String> {
        self.to_bits().difference(&expected.to_bits())
    }
}

impl<T: Same> Same for [T] {
    fn difference(&self, expected: &Self) -> Option<String> {
        if self.len() != expected.len() {
            return Some(format!("{} elements, expected {}", self.len(), expected.len()));
        }
        let mut pairs = self.iter().zip(expected).enumerate();
        pairs.find_map(|(i, (a, b))| a.difference(b).map(|what| format!("element {i}: {what}")))
    }
}

impl<T: Same> Same for Vec<T> {
    fn difference(&self, expected: &Self) -> Option<String> {
        self[..].difference(&expected[..])
    }
}

impl<T: Same, const N: usize> Same for [T; N] {
    fn difference(&self, expected: &Self) -> Option<String> {
        self[..].difference(&expected[..])
    }
}

impl<A: Same, B: Same> Same for (A, B) {
    fn difference(&self, expected: &Self) -> Option<String> {
        self.0.difference(&expected.0).or_else(|| self.1.difference(&expected.1))
    }
}

impl<T: Same> Same for Option<T> {
    fn difference(&self, expected: &Self) -> Option<String> {
        match (self, expected) {
            (Some(a), Some(b)) => a.difference(b),
            (None, None) => None,
            (None, _) => Some("nothing, expected something".into()),
            (_, None) => Some("something, expected nothing".into()),
        }
    }
}

impl Same for Range {
    fn difference(&self, expected: &Self) -> Option<String> {
        [self.min, self.max].difference(&[expected.min, expected.max])
    }
}

impl Same for Histogram {
    fn difference(&self, expected: &Self) -> Option<String> {
        let of = |what: &str, a: &[u64], b: &[u64]| a.difference(b).map(|d| format!("{what}, {d}"));
        of("counts", &self.counts, &expected.counts)
            .or_else(|| of("low bits", &self.lows, &expected.lows))
    }
}

#[cfg(test)]
mod tests {
    use super::Same;

    #[test]
    fn the_first_difference_is_named_bit_for_bit() {
        let a = vec![(1usize, vec![0.0f32, f32::NAN]), (7, vec![2.0])];
        assert_eq!(a.difference(&a), None);
        let mut b = a.clone();
        b[0].1[0] = -0.0;
        let what = "element 0: element 0: 0x0, expected 0x80000000";
        assert_eq!(a.difference(&b).as_deref(), Some(what));
        b[0].1.pop();
        let what = "element 0: 2 elements, expected 1";
        assert_eq!(a.difference(&b).as_deref(), Some(what));
    }
}
