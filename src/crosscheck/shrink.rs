//! The smallest case that still fails: first fewer rows and columns, then zeros for values.

use crate::crosscheck::case::Input;

/// What a failing case was shrunk to, and how often it was tried.
pub struct Shrunk {
    /// The smaller case; it fails too.
    pub input: Input,
    /// How many cases were tried.
    pub tried: usize,
}

/// Makes an input smaller for as long as `fails` holds of it, with so many tries at most.
///
/// Source: Zeller and Hildebrandt 2002, "Simplifying and isolating failure-inducing input": halves, then quarters, and so on.
pub fn shrink(input: &Input, tries: usize, mut fails: impl FnMut(&Input) -> bool) -> Shrunk {
    let mut shrunk = Shrunk { input: input.clone(), tried: 0 };
    // What is left out of one dimension may make more of another superfluous.
    loop {
        let before = shrunk.input.clone();
        for axis in shrunk.input.shrinking() {
            shorten(&mut shrunk, &axis, tries, &mut fails);
        }
        if shrunk.input == before || shrunk.tried >= tries {
            break;
        }
    }
    clear(&mut shrunk, 2 * tries, &mut fails);
    shrunk
}

/// Takes `smaller` if it fails too.
fn attempt(shrunk: &mut Shrunk, smaller: Input, fails: &mut impl FnMut(&Input) -> bool) -> bool {
    shrunk.tried += 1;
    let failed = fails(&smaller);
    if failed {
        shrunk.input = smaller;
    }
    failed
}

/// Leaves out pieces of a dimension, ever shorter ones.
fn shorten(shrunk: &mut Shrunk, axis: &str, tries: usize, fails: &mut impl FnMut(&Input) -> bool) {
    let length = |input: &Input| input.length(axis).unwrap_or(0);
    let mut piece = length(&shrunk.input).div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < length(&shrunk.input) && length(&shrunk.input) > 1 {
            if shrunk.tried >= tries {
                return;
            }
            let end = (at + piece).min(length(&shrunk.input));
            // Not all of it: a case of nothing says little.
            if end - at == length(&shrunk.input) {
                break;
            }
            let smaller = shrunk.input.without(axis, at..end);
            if !attempt(shrunk, smaller, fails) {
                at = end;
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
}

/// Puts zeros in place of values, of ever fewer at a time.
fn clear(shrunk: &mut Shrunk, tries: usize, fails: &mut impl FnMut(&Input) -> bool) {
    for t in 0..shrunk.input.tensors.len() {
        let (n, width) = (shrunk.input.tensors[t].1.elements(), shrunk.input.tensors[t].1.width());
        let mut piece = n;
        while piece > 0 {
            for at in (0..n).step_by(piece) {
                if shrunk.tried >= tries {
                    return;
                }
                let mut smaller = shrunk.input.clone();
                let bytes = smaller.tensors[t].1.bytes_mut();
                bytes[at * width..(at + piece).min(n) * width].fill(0);
                if smaller != shrunk.input {
                    attempt(shrunk, smaller, fails);
                }
            }
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
    }
}
