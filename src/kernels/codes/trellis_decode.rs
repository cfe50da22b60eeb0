use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::{
        Malformed,
        trellis::{self, Trellis},
    },
    gpu::{Gpu, Kernel},
    kernels::codes::streams::{Placed, decoded, symbols_of},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "trellis_decode",
    wgsl: wgsl!("lib/grid", "codes/trellis_decode", "lib/rans"),
    workgroup: 32,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    total: u32,
    words: u32,
    tables: u32,
}

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

fn malformed(stream: usize, why: impl std::fmt::Display) -> Error {
    Error::malformed(KERNEL.name, format!("{why}, in stream {stream}"))
}

fn reference(trellis: Trellis, streams: &[(&[u8], usize)], symbols: usize) -> Result<Vec<u32>> {
    decoded(streams, symbols, &|i, bytes, out| {
        trellis::decode(trellis, bytes, out).map_err(|Malformed(why)| malformed(i, why))
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
        let of = trellis::layout(bytes, *symbols).map_err(|Malformed(why)| malformed(i, why))?;
        placed.put((i, bytes), *symbols, of.blocks, slots.len() / of.slots.len());
        slots.extend_from_slice(&of.slots[..]);
    }
    let (data, words, blocks) = placed.upload(gpu, KERNEL.name, symbols)?;
    let (decoded, failed) = (gpu.zeros(4 * symbols.div_ceil(4))?, gpu.zeros(4)?);
    let params =
        Params { total: placed.of.len() as u32, words, tables: (slots.len() / 8192) as u32 };
    let [lost, led] = trellis.taps();
    let constants = [("LOST", lost.into()), ("LED", led.into())];
    let buffers = [&data, &blocks, &gpu.upload(&slots)?, &decoded, &failed];
    // Some forty operations for every code.
    let (workgroups, operations) = (placed.of.len() as u64, 40 * symbols as u64);
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, workgroups), operations)?;
    match gpu.read(&failed, 1)?[0] {
        0 => Ok(Tensor::gpu(DType::U8, 1, symbols, decoded)),
        block => {
            let of = placed.of[block as usize - 1];
            Err(malformed(of, "a block does not end where it began"))
        }
    }
}
