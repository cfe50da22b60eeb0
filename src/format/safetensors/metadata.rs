//! The `__metadata__` of a file.

use std::hash::{DefaultHasher, Hasher};

/// Pairs of text in the order of a file, no key twice. There may be ten millions of them, so that they are one text, and where
/// each ends: a string of its own for every key would take many times the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    text: String,
    /// Where the key and the value of every pair end.
    ends: Vec<[u32; 2]>,
}

impl Metadata {
    /// No pair.
    pub const NONE: &'static Self = &Self { text: String::new(), ends: Vec::new() };

    /// All keys and values one after the other, and where each key and each value ends.
    pub(super) fn new(text: String, ends: Vec<[u32; 2]>) -> Self {
        Self { text, ends }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The pairs in their order: keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.ends.len()).map(|i| self.pair(i))
    }

    /// The pairs in the order of their keys.
    pub fn sorted(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.sort_unstable_by_key(|i| self.pair(*i as usize));
        order.into_iter().map(|i| self.pair(i as usize))
    }

    /// A key that is there twice, if there is one.
    pub(super) fn repeated(&self) -> Option<&str> {
        // Numbers are sorted in a tenth of the time that texts take, and no two of them are equal but by a rare chance.
        let hash = |key: &str| {
            let mut hasher = DefaultHasher::new();
            hasher.write(key.as_bytes());
            hasher.finish()
        };
        let mut hashes: Vec<u64> = self.iter().map(|(key, _)| hash(key)).collect();
        hashes.sort_unstable();
        if hashes.windows(2).all(|w| w[0] != w[1]) {
            return None;
        }
        drop(hashes);
        let mut before = None;
        self.sorted().map(|(key, _)| key).find(|key| before.replace(*key) == Some(*key))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn pair(&self, i: usize) -> (&str, &str) {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before][1]) as usize;
        let [key, value] = self.ends[i].map(|end| end as usize);
        (&self.text[start..key], &self.text[key..value])
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Metadata {
    /// # Panics
    ///
    /// If all of it is longer than 2^32 bytes, which no header can be.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut all = Self::default();
        for (key, value) in pairs {
            let ends = [key.as_ref(), value.as_ref()].map(|part| {
                all.text.push_str(part);
                u32::try_from(all.text.len()).expect("a header is shorter")
            });
            all.ends.push(ends);
        }
        all
    }
}
