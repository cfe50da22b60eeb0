use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::{
        Malformed,
        rans::{self, Layout},
    },
    gpu::{Gpu, Kernel},
    kernels::codes::streams::{Decoder, Params, Placed, decoded, malformed, symbols_of},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "rans_decode",
    wgsl: wgsl!("lib/grid", "codes/rans_decode", "lib/rans"),
    workgroup: 32,
    params: size_of::<Params>(),
};

/// Decodes rANS streams, one after the other, each from a fresh word on, padded with zeros.
///
/// - `streams`: what [`rans::encode`] wrote, each with its number of symbols.
/// - returns U8 `[1, symbols of all]`, the padding between streams included.
///
/// Agreement: exact. Streams that no encoder wrote are refused on every backend, but for a table of frequencies that are not the
/// best for its symbols: a device does not count these.
///
/// # Errors
///
/// [`Error::Malformed`] if a stream is malformed or has a wrong number of symbols; [`Error::Gpu`] if the device fails.
pub fn rans_decode(on: &Backend, streams: &[(&[u8], usize)]) -> Result<Tensor> {
    let symbols = symbols_of(streams);
    match on {
        Backend::Cpu => Ok(Tensor::cpu(DType::U8, 1, symbols, reference(streams, symbols)?)),
        Backend::Gpu(gpu) => on_gpu(gpu, streams, symbols),
    }
}

fn refused(stream: usize, Malformed(why): Malformed) -> Error {
    malformed(KERNEL.name, stream, why)
}

fn reference(streams: &[(&[u8], usize)], symbols: usize) -> Result<Vec<u32>> {
    decoded(streams, symbols, &|i, bytes, out| {
        rans::decode(bytes, out).map_err(|why| refused(i, why))
    })
}

fn on_gpu(gpu: &Gpu, streams: &[(&[u8], usize)], symbols: usize) -> Result<Tensor> {
    let (mut placed, mut slots) = (Placed::default(), Vec::new());
    // A symbol that is alone fills its stream as a code: where, how long, which.
    let mut filled = Vec::new();
    for (i, (bytes, symbols)) in streams.iter().enumerate() {
        match rans::layout(bytes, *symbols).map_err(|why| refused(i, why))? {
            Layout::Only(symbol) => {
                filled.push((placed.out, *symbols, symbol));
                placed.put((i, bytes), *symbols, Vec::new(), 0);
            }
            Layout::Blocks { slots: table, blocks } => {
                placed.put((i, bytes), *symbols, blocks, slots.len() / table.len());
                slots.extend_from_slice(&table[..]);
            }
        }
    }
    let mut start = vec![0u32; symbols.div_ceil(4)];
    for (first, symbols, symbol) in filled {
        bytemuck::cast_slice_mut::<_, u8>(&mut start)[first..first + symbols].fill(symbol);
    }
    // Some thirty operations for every symbol.
    let with = Decoder { kernel: &KERNEL, constants: &[], operations: 32 };
    let tables = slots.len() / 4096;
    placed.decode(gpu, &with, (&slots, tables), (gpu.upload(&start)?, symbols))
}
