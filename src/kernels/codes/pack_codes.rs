use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    gpu::{Gpu, Kernel},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "pack_codes",
    wgsl: wgsl!("lib/grid", "codes/pack_codes"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    words: u32,
    total: u32,
    start: u32,
}

/// Packs symbols into the codes of a matrix: what a decoder gives into what a product takes.
///
/// `codes[r, ..] = pack(symbols[r * cols .. (r + 1) * cols])`, as [`bitpack`] packs a row
///
/// - `parts`: U8 `[1, rows * cols]` each, one after the other; of every symbol the low `bits` bits.
/// - returns U32 `[rows of all, words of a row]`.
///
/// Agreement: exact: bits are moved.
///
/// # Errors
///
/// [`Error::Shape`] if a part is not U8 or no whole number of rows, or `bits` not 1 to 8; [`Error::Gpu`] if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// // A byte for each symbol: 1, 2, 3, 0 and 3, 3, 0, 1.
/// let symbols = Tensor::new(&on, DType::U8, 1, 8, vec![0x0003_0201, 0x0100_0303])?;
/// let codes = kernels::pack_codes(&on, &[symbols], 4, 2)?;
/// assert_eq!(codes.read(&on)?, [0b00_11_10_01, 0b01_00_11_11]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn pack_codes(on: &Backend, parts: &[Tensor], cols: usize, bits: u32) -> Result<Tensor> {
    if !(1..=8).contains(&bits) {
        return Err(Error::shape(KERNEL.name, "bits", bits, "1 to 8"));
    }
    if let Some(part) = parts.iter().find(|p| p.dtype() != DType::U8) {
        return Err(Error::shape(KERNEL.name, "dtype", part.dtype().name(), "U8"));
    }
    if let Some(part) = parts.iter().find(|p| !p.elements().is_multiple_of(cols.max(1))) {
        let expected = format!("rows of {cols}");
        return Err(Error::shape(KERNEL.name, "symbols", part.elements(), expected));
    }
    let rows = parts.iter().map(|p| p.elements() / cols.max(1)).sum();
    let width = bitpack::words(cols, bits);
    match on {
        Backend::Cpu => {
            let mut codes = vec![0; rows * width];
            let mut rest = codes.chunks_exact_mut(width.max(1));
            for part in parts {
                let symbols = bytemuck::cast_slice::<u32, u8>(part.words()?);
                let symbols = symbols[..part.elements()].chunks_exact(cols.max(1));
                symbols.zip(&mut rest).for_each(|(row, codes)| bitpack::pack(row, bits, codes));
            }
            Ok(Tensor::cpu(DType::U32, rows, width, codes))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, parts, (rows, cols, width), bits),
    }
}

fn on_gpu(
    gpu: &Gpu,
    parts: &[Tensor],
    (rows, cols, width): (usize, usize, usize),
    bits: u32,
) -> Result<Tensor> {
    let codes = gpu.alloc(4 * rows * width)?;
    let mut start = 0;
    for part in parts {
        let total = part.elements() / cols.max(1) * width;
        let params = Params {
            cols: cols as u32,
            words: width as u32,
            total: total as u32,
            start: start as u32,
        };
        let buffers = [part.buffer()?, &codes];
        let constants = [("BITS", f64::from(bits))];
        gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total as u64))?;
        start += total;
    }
    Ok(Tensor::gpu(DType::U32, rows, width, codes))
}
