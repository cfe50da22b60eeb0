/// How often every byte occurs.
pub(crate) fn histogram(symbols: &[u8]) -> [u64; 256] {
    portable(symbols)
}

/// Counts in four tables, so that equal neighbours do not wait for each other.
fn portable(symbols: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    // A table's counts fit 32 bits.
    for symbols in symbols.chunks(1 << 31) {
        let mut tables = [[0u32; 256]; 4];
        let fours = symbols.chunks_exact(4);
        for symbol in fours.remainder() {
            tables[0][usize::from(*symbol)] += 1;
        }
        for four in fours {
            for (table, symbol) in tables.iter_mut().zip(four) {
                table[usize::from(*symbol)] += 1;
            }
        }
        for table in tables {
            counts.iter_mut().zip(table).for_each(|(n, m)| *n += u64::from(m));
        }
    }
    counts
}
