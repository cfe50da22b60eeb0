use crate::simd::products::{
    blocks::{for_each_block, tasks},
    codes::Codes,
};
#[cfg(target_arch = "x86_64")]
use crate::simd::products::{
    isa::{Avx2, Avx512Vnni, AvxVnni, Isa},
    panels, streams,
};
use std::ops::Range;

/// Multiplies two matrices of 8-bit codes.
///
/// `out[i, j] = sum_k a[i, k] w[j, k]`, modulo 2^32
///
/// - `a`: `[m, words]`, `w`: `[n, words]`: four codes a word, the first in the low byte; signed or not.
/// - `out`: `[m, n]`.
///
/// Exact, whatever the machine.
pub(crate) fn dots_i8(
    a: &[u32],
    a_signed: bool,
    w: &[u32],
    w_signed: bool,
    (m, n, words): (usize, usize, usize),
    out: &mut [i32],
) {
    assert!(a.len() == m * words && w.len() == n * words && out.len() == m * n);
    if out.is_empty() || words == 0 {
        return out.fill(0);
    }
    let (a, w) = ((a, a_signed), (w, w_signed));
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(isa) = Avx512Vnni::detect() {
            return vectors(isa, a, w, (m, n, words), out);
        }
        if let Some(isa) = AvxVnni::detect() {
            return vectors(isa, a, w, (m, n, words), out);
        }
        if let Some(isa) = Avx2::detect() {
            return vectors(isa, a, w, (m, n, words), out);
        }
    }
    portable(a, w, (m, n, words), out);
}

/// Codes of a matrix `[n, words]` that were packed once for many products.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    #[cfg(target_arch = "x86_64")]
    isa: BytesIsa,
    panels: Vec<u32>,
    a_signed: bool,
    w_signed: bool,
    n: usize,
    words: usize,
}

/// The sets of instructions that multiply bytes: others would want the codes twice as wide.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
enum BytesIsa {
    Avx512Vnni(Avx512Vnni),
    AvxVnni(AvxVnni),
}

impl Panels {
    /// Packs `w` for products with signed or unsigned codes; none where it is empty, or this machine does not multiply bytes.
    pub(crate) fn new(
        w: &[u32],
        w_signed: bool,
        a_signed: bool,
        (n, words): (usize, usize),
    ) -> Option<Self> {
        assert!(w.len() == n * words);
        #[cfg(target_arch = "x86_64")]
        {
            if w.is_empty() {
                return None;
            }
            let (isa, panels) = if let Some(isa) = Avx512Vnni::detect() {
                (BytesIsa::Avx512Vnni(isa), panels::pack(isa, (w, w_signed), a_signed, n))
            } else {
                let isa = AvxVnni::detect()?;
                (BytesIsa::AvxVnni(isa), panels::pack(isa, (w, w_signed), a_signed, n))
            };
            Some(Self { isa, panels, a_signed, w_signed, n, words })
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            _ = (w_signed, a_signed);
            None
        }
    }

    /// Bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        4 * self.panels.len()
    }

    /// [`dots_i8`] of `[m, words]` codes, signed or not as they were packed for.
    pub(crate) fn dots(&self, a: &[u32], m: usize, out: &mut [i32]) {
        let sizes = (m, self.n, self.words);
        assert!(a.len() == m * self.words && out.len() == m * self.n);
        if out.is_empty() {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        {
            let (a, w) = ((a, self.a_signed), (&self.panels[..], self.w_signed));
            match self.isa {
                BytesIsa::Avx512Vnni(isa) => panels::multiply(isa, a, w, sizes, out),
                BytesIsa::AvxVnni(isa) => panels::multiply(isa, a, w, sizes, out),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("nothing was packed for {sizes:?}");
    }
}

#[cfg(target_arch = "x86_64")]
fn vectors<I: Isa>(
    isa: I,
    a: Codes,
    w: Codes,
    (m, n, words): (usize, usize, usize),
    out: &mut [i32],
) {
    // Where packing `w` begins to cost less than it saves: measured.
    if m > 4 + words.min(288) / 8 {
        panels::product(isa, a, w, (m, n, words), out);
    } else {
        streams::product(isa, a, w, (m, n, words), out);
    }
}

/// Plain loops over codes that were widened to 16 bits, which compilers know.
fn portable(a: Codes, w: Codes, (m, n, words): (usize, usize, usize), out: &mut [i32]) {
    /// Rows of `a` for which a row of `w` is widened once.
    const ROWS: usize = 32;
    let rows = m.min(ROWS);
    let tasks = tasks(m * n * words / 4);
    let cols = n.div_ceil(tasks.div_ceil(m.div_ceil(rows)));
    for_each_block(out, n, (rows, cols), tasks, |mut out| {
        let a = wide(a, out.rows.clone(), words);
        for (j, col) in out.cols.clone().enumerate() {
            let w = wide(w, col..col + 1, words);
            for (i, a) in a.chunks_exact(4 * words).enumerate() {
                let products = a.iter().zip(&w).map(|(a, w)| i32::from(*a) * i32::from(*w));
                out.row(i)[j] = products.fold(0, i32::wrapping_add);
            }
        }
    });
}

/// Some rows' codes.
fn wide((codes, signed): Codes, rows: Range<usize>, words: usize) -> Vec<i16> {
    let mut wide = vec![0; rows.len() * words * 4];
    let codes = &codes[rows.start * words..rows.end * words];
    for (wide, word) in wide.chunks_exact_mut(4).zip(codes) {
        for (wide, byte) in wide.iter_mut().zip(word.to_le_bytes()) {
            *wide = if signed { i16::from(byte as i8) } else { byte.into() };
        }
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    type Product = Box<dyn Fn(Codes, Codes, (usize, usize, usize), &mut [i32]) + Sync>;

    /// Every way to multiply on this machine.
    fn products() -> Vec<(String, Product)> {
        let mut products: Vec<(String, Product)> = vec![
            ("portable".into(), Box::new(portable)),
            (
                "dots_i8".into(),
                Box::new(|a, w, sizes, out| dots_i8(a.0, a.1, w.0, w.1, sizes, out)),
            ),
        ];
        products.push((
            "packed once".into(),
            Box::new(|a, w, (m, n, words), out| match Panels::new(w.0, w.1, a.1, (n, words)) {
                Some(panels) => panels.dots(a.0, m, out),
                None => portable(a, w, (m, n, words), out),
            }),
        ));
        #[cfg(target_arch = "x86_64")]
        {
            fn add<I: Isa>(name: &str, products: &mut Vec<(String, Product)>) {
                let Some(isa) = I::detect() else {
                    return eprintln!("SKIPPED: this machine has no {name}");
                };
                products.push((
                    format!("{name}, panels"),
                    Box::new(move |a, w, sizes, out| panels::product(isa, a, w, sizes, out)),
                ));
                products.push((
                    format!("{name}, streams"),
                    Box::new(move |a, w, sizes, out| streams::product(isa, a, w, sizes, out)),
                ));
            }
            add::<Avx512Vnni>("AVX512-VNNI", &mut products);
            add::<AvxVnni>("AVX-VNNI", &mut products);
            add::<Avx2>("AVX2", &mut products);
        }
        products
    }

    fn expected(a: Codes, w: Codes, (m, n, words): (usize, usize, usize)) -> Vec<i32> {
        let codes = |(words, signed): Codes| -> Vec<i64> {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            bytes.map(|byte| if signed { (byte as i8).into() } else { byte.into() }).collect()
        };
        let (a, w, k) = (codes(a), codes(w), 4 * words);
        let sum = |a: &[i64], w: &[i64]| a.iter().zip(w).map(|(a, w)| a * w).sum::<i64>();
        (0..m * n).map(|i| sum(&a[i / n * k..][..k], &w[i % n * k..][..k]) as i32).collect()
    }

    /// So that work is shared whatever the machine.
    fn five_threads() -> &'static rayon::ThreadPool {
        static POOL: LazyLock<rayon::ThreadPool> =
            LazyLock::new(|| rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap());
        &POOL
    }

    /// Compares every product with sums in 64 bits, for every combination of signs; returns how many comparisons that were.
    fn check((m, n, words): (usize, usize, usize), mut word: impl FnMut() -> u32) -> usize {
        let (products, pool) = (products(), five_threads());
        let a: Vec<u32> = (0..m * words).map(|_| word()).collect();
        let w: Vec<u32> = (0..n * words).map(|_| word()).collect();
        let mut checked = 0;
        for signs in [(false, false), (false, true), (true, false), (true, true)] {
            let (a, w) = ((&a[..], signs.0), (&w[..], signs.1));
            let expected = expected(a, w, (m, n, words));
            for (name, product) in &products {
                if m * n * words == 0 && name != "dots_i8" {
                    continue;
                }
                let mut got = vec![0x5bad_5bad; m * n];
                pool.install(|| product(a, w, (m, n, words), &mut got));
                if let Some(i) = (0..m * n).find(|i| got[*i] != expected[*i]) {
                    let (got, expected) = (got[i], expected[i]);
                    panic!(
                        "{name}, {m} x {n} x {words}, {signs:?}: [{i}] is {got}, not {expected}"
                    );
                }
                checked += 1;
            }
        }
        checked
    }

    fn random() -> impl FnMut() -> u32 {
        let mut state = 1u32;
        move || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            state ^ state >> 15
        }
    }

    #[test]
    fn every_variant_is_exact_at_every_size() {
        // On both sides of vectors, tiles and panels; words also of what stays in a cache.
        let sizes = [0, 1, 2, 3, 7, 15, 16, 17, 23, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65];
        let words = [0, 1, 2, 3, 4, 7, 15, 16, 17, 63, 65, 127, 128, 129];
        let mut random = random();
        let mut checked = 0;
        for (i, m) in sizes.into_iter().enumerate() {
            for (j, n) in sizes.into_iter().enumerate() {
                checked += check((m, n, words[(i + 3 * j) % words.len()]), &mut random);
            }
        }
        for words in words.into_iter().chain([255, 256, 257]) {
            checked += check((5, 27, words), &mut random);
        }
        // More rows and more columns than a task takes.
        checked += check((300, 5, 2), &mut random);
        checked += check((3, 300, 5), &mut random);
        checked += check((150, 150, 50), &mut random);
        checked += check((9, 520, 20), &mut random);
        assert!(checked > 4 * 2 * sizes.len() * (sizes.len() - 3));
    }

    #[test]
    fn every_variant_is_exact_for_extreme_codes() {
        for word in [0, 0x7f7f_7f7f, 0x8080_8080, 0xffff_ffff, 0x80ff_7f00] {
            check((11, 53, 257), || word);
        }
        // The worst codes beside each other.
        let mut random = random();
        check((9, 50, 33), || [0x80ff_7f00, 0xff80_007f, 0x8080_ffff][random() as usize % 3]);
        // 255^2 4 8300 is beyond 2^31, 128^2 4 33,100 beyond it with either sign; of 300,000 words the sixteenth part is.
        check((3, 5, 8300), || 0xffff_ffff);
        check((1, 1, 300_000), || 0xffff_ffff);
        check((3, 5, 33_100), || 0x8080_8080);
    }

    #[test]
    fn a_worked_example() {
        // Two rows of five codes, padded with zeros; [1, -2, 3, -128, 127] and [0, 0, 0, 0, -1] as signed codes.
        let a = [0x8003_fe01, 0x0000_007f, 0, 0x0000_00ff];
        let w = [0x0201_ff80, 0x0000_0003];
        let mut out = [0; 2];
        // 1 (-128) + (-2) (-1) + 3 1 + (-128) 2 + 127 3, and -1 3.
        dots_i8(&a, true, &w, true, (2, 1, 2), &mut out);
        assert_eq!(out, [2, -3]);
        // 1 (-128) + 254 (-1) + 3 1 + 128 2 + 127 3, and 255 3.
        dots_i8(&a, false, &w, true, (2, 1, 2), &mut out);
        assert_eq!(out, [258, 765]);
    }
}
