use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::block::IndexKind,
    dtype,
    gpu::{Buffer, Gpu, Kernel},
    wgsl, words,
};
use std::ops::Range;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "scatter",
    wgsl: wgsl!("lib/grid", "codes/scatter"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    blocks: u32,
    k: u32,
    by_position: u32,
}

/// Weights of a block, so that an invocation's part of them takes few steps.
const LONGEST: usize = 1 << 23;

/// Which weights of a block survive, and where their codes are.
#[derive(Clone, Debug)]
pub struct Survivors {
    /// What its symbols say.
    pub kind: IndexKind,
    /// Its symbols, among those of all blocks.
    pub symbols: Range<usize>,
    /// Its weights, among those of all blocks.
    pub weights: Range<usize>,
    /// Its codes, among those of all blocks: one for every survivor, or, where codes go by position, for every weight.
    pub codes: Range<usize>,
}

impl Survivors {
    fn numbers(&self) -> [u32; 7] {
        let filler = match self.kind {
            IndexKind::Bitmap => 0,
            IndexKind::Gaps(width) => (1 << width) - 1,
        };
        let ranges = [&self.symbols, &self.weights, &self.codes];
        let [s, w, c] = ranges.map(|r| [r.start, r.len()].map(|n| n as u32));
        [filler, s[0], s[1], w[0], w[1], c[0], c[1]]
    }

    /// Calls `each` with every survivor's weight, counted from the first of the block.
    fn visit(&self, symbols: &[u8], mut each: impl FnMut(usize)) {
        let mut at = 0;
        for symbol in &symbols[self.symbols.clone()] {
            match self.kind {
                IndexKind::Bitmap => {
                    (0..8).filter(|bit| symbol >> bit & 1 == 1).for_each(|bit| each(at + bit));
                    at += 8;
                }
                IndexKind::Gaps(width) => {
                    at += usize::from(*symbol);
                    if u32::from(*symbol) != (1 << width) - 1 {
                        each(at);
                        at += 1;
                    }
                }
            }
        }
    }
}

/// What survivors of an index are: one code each, one after the other, or a code at the place of every weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The n-th code is that of the n-th survivor.
    Survivors,
    /// The n-th code is that of the n-th weight.
    Weights,
}

/// How many weights of each block survive.
///
/// - `index`: a byte for every symbol of an index (see [`codec::block`](crate::codec::block)), of all blocks.
///
/// Agreement: exact. Indices that no encoder wrote are refused, but for gaps that a smaller width has too.
///
/// # Errors
///
/// [`Error::Malformed`] if an index goes beyond its block; [`Error::Shape`] if a block has not its symbols among those of
/// `index`; [`Error::Gpu`] if the device fails.
pub fn count_survivors(on: &Backend, index: &Tensor, blocks: &[Survivors]) -> Result<Vec<usize>> {
    expect(index, blocks)?;
    match on {
        Backend::Cpu => {
            let symbols = bytemuck::cast_slice(index.words()?);
            let count = |(i, block): (usize, &Survivors)| {
                let (mut count, mut beyond) = (0, false);
                block.visit(symbols, |at| {
                    count += 1;
                    beyond |= at >= block.weights.len();
                });
                let last = symbols[block.symbols.clone()].last();
                let filler = match (block.kind, last) {
                    (IndexKind::Gaps(width), Some(last)) => u32::from(*last) == (1 << width) - 1,
                    _ => false,
                };
                if beyond || filler { Err(refused(i)) } else { Ok(count) }
            };
            blocks.iter().enumerate().map(count).collect()
        }
        Backend::Gpu(gpu) => {
            let counts = gpu.zeros(4 * blocks.len())?;
            let nothing = gpu.zeros(4)?;
            let params = Params { blocks: blocks.len() as u32, k: 1, by_position: 0 };
            let buffers = [index.buffer()?, &nothing, &nothing, &counts];
            dispatch(gpu, (32, true), &params, blocks, buffers)?;
            Ok(gpu.read(&counts, blocks.len())?.into_iter().map(|n| n as usize).collect())
        }
    }
}

/// Puts the values of survivors in their places.
///
/// `weights[i] = table[codes[rank of i]]` where weight `i` survives, +0 elsewhere
///
/// - `index`: a byte for every symbol of an index (see [`codec::block`](crate::codec::block)), of all blocks.
/// - `codes`: a byte for every survivor or weight, as `order` says; one beyond the table takes its last entry.
/// - returns `dtype` `[1, weights of all blocks]`.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Malformed`] if an index does not fit its block or its codes; [`Error::Shape`] if a block has not its symbols or codes
/// among those there are, or `dtype` holds no weights; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Hillis and Steele 1986, Data parallel algorithms (the prefix sum).
pub fn scatter(
    on: &Backend,
    index: &Tensor,
    blocks: &[Survivors],
    (codes, order): (&Tensor, Order),
    table: &[f32],
    dtype: DType,
) -> Result<Tensor> {
    expect(index, blocks)?;
    if !dtype.is_weight() {
        return Err(Error::shape(KERNEL.name, "dtype", dtype.name(), "a float type"));
    }
    if !(1..=256).contains(&table.len()) {
        return Err(Error::shape(KERNEL.name, "table", table.len(), "1 to 256 entries"));
    }
    let bytes = 4 * words(codes.dtype(), codes.elements());
    if let Some(block) = blocks.iter().find(|b| {
        b.codes.end > bytes || order == Order::Weights && b.codes.len() != b.weights.len()
    }) {
        let found = format!("{bytes} bytes");
        return Err(Error::shape(KERNEL.name, "codes", found, format!("{:?}", block.codes)));
    }
    let weights = blocks.iter().map(|b| b.weights.end).max().unwrap_or(0);
    match on {
        Backend::Cpu => {
            let (symbols, codes) = (
                bytemuck::cast_slice(index.words()?),
                bytemuck::cast_slice::<_, u8>(codes.words()?),
            );
            let mut values = vec![0.0; weights];
            for (i, block) in blocks.iter().enumerate() {
                let (mut rank, mut fits) = (0, true);
                let (out, codes) =
                    (&mut values[block.weights.clone()], &codes[block.codes.clone()]);
                block.visit(symbols, |at| {
                    let code = codes.get(if order == Order::Weights { at } else { rank });
                    rank += 1;
                    match (out.get_mut(at), code) {
                        (Some(value), Some(code)) => {
                            *value = table[usize::from(*code).min(table.len() - 1)];
                        }
                        _ => fits = false,
                    }
                });
                if !fits || order == Order::Survivors && rank != codes.len() {
                    return Err(refused(i));
                }
            }
            let mut out = vec![0; words(dtype, weights)];
            dtype::encode(dtype, &values, &mut out, 0);
            Ok(Tensor::cpu(dtype, 1, weights, out))
        }
        Backend::Gpu(gpu) => {
            let out = gpu.zeros(4 * words(dtype, weights))?;
            let params = Params {
                blocks: blocks.len() as u32,
                k: table.len() as u32,
                by_position: u32::from(order == Order::Weights),
            };
            let table = gpu.upload(&patterns(dtype, table))?;
            let buffers = [index.buffer()?, codes.buffer()?, &table, &out];
            dispatch(gpu, (dtype.bits() as u32, false), &params, blocks, buffers)?;
            Ok(Tensor::gpu(dtype, 1, weights, out))
        }
    }
}

fn refused(block: usize) -> Error {
    Error::malformed(KERNEL.name, format!("block {block}: an index that does not fit"))
}

/// Where symbols and weights lie is the caller's affair, not that of the data.
fn expect(index: &Tensor, blocks: &[Survivors]) -> Result<()> {
    let bytes = 4 * words(index.dtype(), index.elements());
    for (i, b) in blocks.iter().enumerate() {
        let symbols = match b.kind {
            IndexKind::Bitmap => b.weights.len().div_ceil(8),
            IndexKind::Gaps(_) => b.symbols.len().min(b.weights.len()),
        };
        if b.symbols.end > bytes || b.symbols.len() != symbols || b.weights.len() > LONGEST {
            let found = format!("{:?} of {:?} in block {i}", b.symbols, b.weights);
            let expected = format!("{symbols} symbols within {bytes} bytes");
            return Err(Error::shape(KERNEL.name, "blocks", found, expected));
        }
    }
    Ok(())
}

/// Entries as the device stores them: a word each, or two.
fn patterns(dtype: DType, table: &[f32]) -> Vec<u32> {
    let one = |entry: &f32| {
        let mut pattern = vec![0; words(dtype, 1)];
        dtype::encode(dtype, &[*entry], &mut pattern, 0);
        pattern
    };
    table.iter().flat_map(one).collect()
}

fn dispatch(
    gpu: &Gpu,
    (bits, count): (u32, bool),
    params: &Params,
    blocks: &[Survivors],
    [index, codes, table, out]: [&Buffer; 4],
) -> Result<()> {
    let numbers: Vec<u32> = blocks.iter().flat_map(Survivors::numbers).collect();
    let malformed = gpu.zeros(4)?;
    let constants = [("BITS", f64::from(bits)), ("COUNT", f64::from(u8::from(count)))];
    let buffers = [index, &gpu.upload(&numbers)?, codes, table, out, &malformed];
    gpu.dispatch(&KERNEL, &constants, params, &buffers, blocks.len() as u64)?;
    match gpu.read(&malformed, 1)?[0] {
        0 => Ok(()),
        block => Err(refused(block as usize - 1)),
    }
}
