//! The nearest entry of a codebook for blocks of integer vectors: sums of products of pairs, sixteen vectors side by side.
//!
//! An entry's score is `8 |c|² - 16 x·c + j`, j its number among eight: eight times the squared distance but for |x|², with low
//! bits that say which entry it is of, so that finding the least is one instruction an entry. With 16 numbers of at most
//! [`LIMIT`] it stays below 2^31.

use std::sync::LazyLock;

/// The largest magnitude of a number of a vector or an entry.
pub const LIMIT: i16 = 2047;

/// Vectors that are looked up side by side.
pub(crate) const BLOCK: usize = 64;

/// Entries of which one is found by its number.
const GROUP: usize = 8;

/// The bits of that number.
const NUMBER: i32 = GROUP as i32 - 1;

/// The pairs of numbers of a block's vectors: of each pair, the block's.
pub(crate) type Block = [[u32; BLOCK]; 8];

/// A codebook as the loops take it.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    /// Pairs of a vector, 1 to 8.
    pairs: usize,
    /// `8 |c|² + j` of every entry, filled up to eights with what is never least.
    bias: Vec<i32>,
    /// -16 times the numbers of every entry, as pairs.
    entries: Vec<u32>,
}

impl Book {
    /// That of entries of `dim` numbers, one after the other.
    pub(crate) fn new(entries: &[i16], dim: usize) -> Self {
        let (pairs, k) = (dim.div_ceil(2), entries.len() / dim);
        let padded = k.next_multiple_of(GROUP);
        let mut bias = vec![i32::MAX; padded];
        let mut scaled = vec![0; padded * pairs];
        for (j, entry) in entries.chunks_exact(dim).enumerate() {
            let square: i32 = entry.iter().map(|c| i32::from(*c) * i32::from(*c)).sum();
            bias[j] = 8 * square + (j % GROUP) as i32;
            for (i, c) in entry.iter().enumerate() {
                let half = u32::from((-16 * i32::from(*c)) as i16 as u16);
                scaled[j * pairs + i / 2] |= half << (i % 2 * 16);
            }
        }
        Self { pairs, bias, entries: scaled }
    }

    /// The number of the entry nearest to each vector of a block, the first of those that are equally near.
    pub(crate) fn nearest(&self, block: &Block, labels: &mut [u32; BLOCK]) {
        // SAFETY: the machine was asked before the loop was chosen.
        unsafe { LOOPS[0](self, block, labels) }
    }
}

type Loop = unsafe fn(&Book, &Block, &mut [u32; BLOCK]);

/// Those that the machine can run, the fastest first.
static LOOPS: LazyLock<Vec<Loop>> = LazyLock::new(|| {
    let mut loops: Vec<Loop> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if detected!("avx512bw") && detected!("avx512vnni") {
            loops.push(avx512::nearest);
        }
        if detected!("avx2") {
            loops.push(avx2::nearest);
        }
    }
    loops.push(portable);
    loops
});

fn portable(book: &Book, block: &Block, labels: &mut [u32; BLOCK]) {
    let product = |x: u32, c: u32| {
        let low = i32::from(x as i16) * i32::from(c as i16);
        low + i32::from((x >> 16) as i16) * i32::from((c >> 16) as i16)
    };
    for (v, label) in labels.iter_mut().enumerate() {
        let mut least = i32::MAX;
        for (j, (bias, entry)) in
            book.bias.iter().zip(book.entries.chunks_exact(book.pairs)).enumerate()
        {
            let products = entry.iter().zip(block).map(|(c, x)| product(x[v], *c));
            // The low bits are of an entry, not of a distance.
            let score = products.sum::<i32>().wrapping_add(*bias) & !NUMBER;
            if score < least {
                (least, *label) = (score, j as u32);
            }
        }
    }
}

/// The same for vectors of as many lanes as a register has, `V` registers at once.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    (
        $module:ident, $features:literal, $register:ident, $lanes:literal, $load:ident, $store:ident, $set:ident, $zero:ident,
        $min:ident, $and:ident, $add:ident, |$a:ident, $x:ident, $c:ident| $dot:expr, |$least:ident, $floor:ident, $old:ident, $new:ident| $choose:expr
    ) => {
        mod $module {
            use super::{BLOCK, Block, Book, GROUP, NUMBER};
            use std::arch::x86_64::*;

            #[target_feature(enable = $features)]
            pub(super) fn nearest(book: &Book, block: &Block, labels: &mut [u32; BLOCK]) {
                match book.pairs {
                    1 => all::<1, 4>(book, block, labels),
                    2 => all::<2, 4>(book, block, labels),
                    3 => all::<3, 2>(book, block, labels),
                    4 => all::<4, 2>(book, block, labels),
                    5 => all::<5, 2>(book, block, labels),
                    6 => all::<6, 2>(book, block, labels),
                    7 => all::<7, 2>(book, block, labels),
                    _ => all::<8, 2>(book, block, labels),
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn dot($a: $register, $x: $register, $c: $register) -> $register {
                $dot
            }

            /// The new value where the least is below the floor.
            #[inline]
            #[target_feature(enable = $features)]
            fn choose(
                $least: $register,
                $floor: $register,
                $old: $register,
                $new: $register,
            ) -> $register {
                $choose
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn all<const P: usize, const V: usize>(
                book: &Book,
                block: &Block,
                labels: &mut [u32; BLOCK],
            ) {
                for at in (0..BLOCK).step_by($lanes * V) {
                    some::<P, V>(book, block, at, labels);
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn some<const P: usize, const V: usize>(
                book: &Book,
                block: &Block,
                at: usize,
                labels: &mut [u32; BLOCK],
            ) {
                let mut x = [[$zero(); V]; P];
                for (x, pairs) in x.iter_mut().zip(block) {
                    for (x, pairs) in x.iter_mut().zip(pairs[at..].chunks_exact($lanes)) {
                        // SAFETY: a register holds as many.
                        *x = unsafe { $load(pairs.as_ptr().cast()) };
                    }
                }
                let most = $set(i32::MAX);
                let number = $set(NUMBER);
                let (mut best, mut floor, mut first) = ([most; V], [most; V], [$zero(); V]);
                let groups =
                    book.bias.chunks_exact(GROUP).zip(book.entries.chunks_exact(GROUP * P));
                for (b, (bias, entries)) in groups.enumerate() {
                    let mut least = [most; V];
                    for (bias, entry) in bias.iter().zip(entries.chunks_exact(P)) {
                        let bias = $set(*bias);
                        for v in 0..V {
                            let mut score = bias;
                            for p in 0..P {
                                score = dot(score, x[p][v], $set(entry[p] as i32));
                            }
                            least[v] = $min(least[v], score);
                        }
                    }
                    let here = $set((GROUP * b) as i32);
                    for v in 0..V {
                        // A tie goes to the group before: what is compared with has no number in its low bits.
                        best[v] = choose(least[v], floor[v], best[v], least[v]);
                        first[v] = choose(least[v], floor[v], first[v], here);
                        floor[v] = $and(best[v], $set(!NUMBER));
                    }
                }
                for (v, labels) in labels[at..].chunks_exact_mut($lanes).take(V).enumerate() {
                    let label = $add(first[v], $and(best[v], number));
                    // SAFETY: a register holds as many.
                    unsafe { $store(labels.as_mut_ptr().cast(), label) };
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vectors!(
    avx512,
    "avx512f,avx512bw,avx512vnni",
    __m512i,
    16,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_set1_epi32,
    _mm512_setzero_si512,
    _mm512_min_epi32,
    _mm512_and_si512,
    _mm512_add_epi32,
    |a, x, c| {
        let mut sum = a;
        // SAFETY: the registers are all it touches, and the instruction is there. The intrinsic becomes a product and a sum where
        // it stands in a row of them (LLVM 22), which is a quarter slower.
        unsafe {
            std::arch::asm!("vpdpwssd {0}, {1}, {2}", inout(zmm_reg) sum, in(zmm_reg) x, in(zmm_reg) c,
                options(pure, nomem, nostack, preserves_flags));
        }
        sum
    },
    |least, floor, old, new| _mm512_mask_mov_epi32(old, _mm512_cmplt_epi32_mask(least, floor), new)
);

#[cfg(target_arch = "x86_64")]
vectors!(
    avx2,
    "avx2",
    __m256i,
    8,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_set1_epi32,
    _mm256_setzero_si256,
    _mm256_min_epi32,
    _mm256_and_si256,
    _mm256_add_epi32,
    |a, x, c| _mm256_add_epi32(a, _mm256_madd_epi16(x, c)),
    |least, floor, old, new| _mm256_blendv_epi8(old, new, _mm256_cmpgt_epi32(floor, least))
);

#[cfg(test)]
mod tests {
    use super::{BLOCK, Block, Book, LIMIT, LOOPS};
    use crate::random;

    /// Squared distances in 64 bits, one after the other.
    fn plainly(entries: &[i16], dim: usize, x: &[i16]) -> u32 {
        let square = |entry: &[i16]| -> i64 {
            entry.iter().zip(x).map(|(c, x)| (i64::from(*x) - i64::from(*c)).pow(2)).sum()
        };
        let all: Vec<i64> = entries.chunks_exact(dim).map(square).collect();
        let least = all.iter().min().unwrap();
        all.iter().position(|d| d == least).unwrap() as u32
    }

    fn compare(entries: &[i16], dim: usize, vectors: &[i16]) {
        let book = Book::new(entries, dim);
        for (b, of_block) in vectors.chunks(BLOCK * dim).enumerate() {
            let mut block: Block = [[0; BLOCK]; 8];
            for (v, x) in of_block.chunks_exact(dim).enumerate() {
                for (i, x) in x.iter().enumerate() {
                    block[i / 2][v] |= u32::from(*x as u16) << (i % 2 * 16);
                }
            }
            for (l, each) in LOOPS.iter().enumerate() {
                let mut labels = [u32::MAX; BLOCK];
                // SAFETY: the machine was asked before they were listed.
                unsafe { each(&book, &block, &mut labels) };
                for (x, label) in of_block.chunks_exact(dim).zip(labels) {
                    let k = entries.len() / dim;
                    assert_eq!(label, plainly(entries, dim, x), "{l}: {k} of {dim}, {b}: {x:?}");
                }
            }
        }
    }

    #[test]
    fn every_loop_finds_the_first_of_the_nearest() {
        let mut next = 0;
        for dim in 1..=16 {
            for k in [1, 2, 15, 16, 17, 33, 100] {
                // A narrow lattice, so that there are ties, and the ends of the range.
                for reach in [2, LIMIT] {
                    let mut some = |n: usize| -> Vec<i16> {
                        let span = 2 * u64::from(reach.unsigned_abs()) + 1;
                        let number = |i| (random::number(7, next + i) % span) as i16 - reach;
                        let all = (0..(n * dim) as u64).map(number).collect();
                        next += (n * dim) as u64;
                        all
                    };
                    let (entries, vectors) = (some(k), some(BLOCK + 6));
                    compare(&entries, dim, &vectors);
                }
                let ends: Vec<i16> =
                    (0..k * dim).map(|i| if i % 3 == 0 { LIMIT } else { -LIMIT }).collect();
                let far: Vec<i16> = ends.iter().map(|c| -c).collect();
                compare(&ends, dim, &far);
                compare(&ends, dim, &ends);
            }
        }
    }
}
