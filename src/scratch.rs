//! Buffers that are used again. A unit of a job needs a handful of them, each a megabyte or so that is written from end to end, over
//! and over: fresh ones would be cleared before, and clearing was a tenth of the time of a job that does little else with a weight.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// The longest that is kept, in words: larger ones are rare, and clearing them is little beside what fills them.
const LONGEST: usize = 1 << 20;
/// How many a thread keeps.
const MOST: usize = 6;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

/// So many words, which hold anything: for who writes all of them. The last is zero, so that elements which do not fill it are
/// padded.
pub fn words(len: usize) -> Vec<u32> {
    let mut words = SPARE.with_borrow_mut(|spare| take(spare, len)).unwrap_or_default();
    // Clears what was never used.
    words.resize(len, 0);
    if let Some(last) = words.last_mut() {
        *last = 0;
    }
    words
}

/// The shortest that is long enough; of shorter ones, which would have to grow, none.
fn take(spare: &mut Vec<Vec<u32>>, len: usize) -> Option<Vec<u32>> {
    let fit = spare.iter().enumerate().filter(|(_, words)| words.len() >= len);
    let best = fit.min_by_key(|(_, words)| words.len())?.0;
    Some(spare.swap_remove(best))
}

/// Takes words back that nobody needs any more.
fn done(words: Vec<u32>) {
    if words.is_empty() || words.len() > LONGEST {
        return;
    }
    // A thread that ends has no use for them.
    _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        spare.push(words);
        if spare.len() > MOST {
            // The one that has waited longest is of a size that is asked for no more.
            spare.remove(0);
        }
    });
}

/// Words that are taken back when they are dropped.
#[derive(Debug)]
pub struct Words(Vec<u32>);

impl Clone for Words {
    fn clone(&self) -> Self {
        let mut copy = words(self.len());
        copy.copy_from_slice(self);
        Self(copy)
    }
}

impl From<Vec<u32>> for Words {
    fn from(words: Vec<u32>) -> Self {
        Self(words)
    }
}

impl Words {
    /// Hands them over.
    pub fn into_inner(mut self) -> Vec<u32> {
        std::mem::take(&mut self.0)
    }
}

impl Deref for Words {
    type Target = Vec<u32>;

    fn deref(&self) -> &Vec<u32> {
        &self.0
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut Vec<u32> {
        &mut self.0
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        done(std::mem::take(&mut self.0));
    }
}

/// Bytes that hold anything, for who writes all of them, and are taken back when they are dropped.
#[derive(Debug)]
pub struct Bytes {
    words: Words,
    len: usize,
}

impl Bytes {
    /// So many.
    pub fn new(len: usize) -> Self {
        Self { words: words(len.div_ceil(4)).into(), len }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_that_fits_is_used_again_and_its_last_word_is_zero() {
        for len in [100, 10, 50] {
            done(vec![u32::MAX; len]);
        }
        let again = words(20);
        assert_eq!((again.len(), again[18], again[19]), (20, u32::MAX, 0));
        assert!(again.capacity() >= 50);
        // The one of a hundred is left, and nothing longer: what is not there is cleared.
        assert_eq!(words(200), vec![0; 200]);
        assert!(words(60)[..59].iter().all(|w| *w == u32::MAX));
    }

    #[test]
    fn little_is_kept() {
        (0..100).for_each(|_| done(vec![1; 10]));
        drop(Words::from(vec![1; LONGEST + 1]));
        let kept = SPARE.with_borrow(|spare| spare.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(kept, vec![10; MOST]);
    }
}
