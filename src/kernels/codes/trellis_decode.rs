use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::{
        Malformed,
        trellis::{self, Trellis},
    },
    gpu::{Gpu, Kernel},
    kernels::codes::streams::{Decoder, Params, Placed, decoded, malformed, symbols_of},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "trellis_decode",
    wgsl: wgsl!("lib/grid", "codes/trellis_decode", "lib/rans"),
    workgroup: 32,
    params: size_of::<Params>(),
};

/// Decodes streams of codes along paths through a trellis, one after the other, each from a fresh word on, padded with zeros.
///
/// - `streams`: what [`trellis::encode`] wrote, each with its number of codes.
/// - returns U8 `[1, codes of all]`, the padding between streams included.
///
/// Agreement: exact. Streams that no encoder wrote are refused on every backend, but for tables of frequencies that are not the best for
/// their codes: a device does not count these.
///
/// # Errors
///
/// [`Error::Malformed`] if a stream is malformed or has a wrong number of codes; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// As [`crate::trellis`]; Giesen 2014, "Interleaved entropy coders".
///
/// # Example
///
/// ```
/// use tersor::{Backend, codec::trellis::{Trellis, encode}, kernels};
///
/// let on = Backend::Cpu;
/// // 2 leads from state 0 to state 2, from there 0 to 1, where codes are odd.
/// let mut bytes = Vec::new();
/// encode(&[2, 0, 1, 5], &mut bytes);
/// let codes = kernels::trellis_decode(&on, Trellis::new(8).unwrap(), &[(&bytes, 4)])?;
/// assert_eq!(codes.read(&on)?, [0x05_01_00_02]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn trellis_decode(
    on: &Backend,
    trellis: Trellis,
    streams: &[(&[u8], usize)],
) -> Result<Tensor> {
    let symbols = symbols_of(streams);
    match on {
        Backend::Cpu => {
            Ok(Tensor::cpu(DType::U8, 1, symbols, reference(trellis, streams, symbols)?))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, trellis, streams, symbols),
    }
}

fn refused(stream: usize, Malformed(why): Malformed) -> Error {
    malformed(KERNEL.name, stream, why)
}

fn reference(trellis: Trellis, streams: &[(&[u8], usize)], symbols: usize) -> Result<Vec<u32>> {
    decoded(streams, symbols, &|i, bytes, out| {
        trellis::decode(trellis, bytes, out).map_err(|why| refused(i, why))
    })
}

fn on_gpu(
    gpu: &Gpu,
    trellis: Trellis,
    streams: &[(&[u8], usize)],
    symbols: usize,
) -> Result<Tensor> {
    let (mut placed, mut slots) = (Placed::default(), Vec::new());
    for (i, (bytes, symbols)) in streams.iter().enumerate() {
        let of = trellis::layout(bytes, *symbols).map_err(|why| refused(i, why))?;
        placed.put((i, bytes), *symbols, of.blocks, slots.len() / of.slots.len());
        slots.extend_from_slice(&of.slots[..]);
    }
    let [lost, led] = trellis.taps();
    let constants = [("LOST", lost.into()), ("LED", led.into())];
    // Some forty operations for every code.
    let with = Decoder { kernel: &KERNEL, constants: &constants, operations: 40 };
    let (room, tables) = (gpu.zeros(4 * symbols.div_ceil(4))?, slots.len() / 8192);
    placed.decode(gpu, &with, (&slots, tables), (room, symbols))
}
