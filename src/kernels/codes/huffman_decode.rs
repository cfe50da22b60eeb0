use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::{
        Malformed,
        huffman::{self, BLOCK, Stream},
    },
    gpu::{Gpu, Kernel},
    kernels::codes::streams::decoded,
    wgsl, words,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "huffman_decode",
    wgsl: wgsl!("lib/grid", "codes/huffman_decode"),
    workgroup: 64,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    blocks: u32,
    last: u32,
}

/// Decodes Huffman streams: what [`codec::huffman`](crate::codec::huffman) encodes.
///
/// `symbols = decode(streams[0]) decode(streams[1]) ...`, each from a fresh word on, padded with zeros
///
/// - `streams`: bytes of each stream, and its number of symbols.
/// - returns U8 `[1, symbols of all]`, the padding between streams included.
///
/// Agreement: exact for what the encoder has written. All backends check codes, lanes and padding; only the CPU also checks that
/// a code is the one that the encoder chooses, for which it counts the symbols.
///
/// # Errors
///
/// [`Error::Malformed`] if a stream is malformed; [`Error::Gpu`] if the device fails.
pub fn huffman_decode(on: &Backend, streams: &[(&[u8], usize)]) -> Result<Tensor> {
    let symbols = crate::kernels::codes::streams::symbols_of(streams);
    match on {
        Backend::Cpu => Ok(Tensor::cpu(DType::U8, 1, symbols, reference(streams, symbols)?)),
        Backend::Gpu(gpu) => on_gpu(gpu, streams, symbols),
    }
}

fn refused(stream: usize, why: Malformed) -> Error {
    Error::malformed(KERNEL.name, format!("{why}, in stream {stream}"))
}

fn reference(streams: &[(&[u8], usize)], symbols: usize) -> Result<Vec<u32>> {
    decoded(streams, symbols, &|i, bytes, out| {
        huffman::decode(bytes, out).map_err(|e| refused(i, e))
    })
}

fn on_gpu(gpu: &Gpu, streams: &[(&[u8], usize)], symbols: usize) -> Result<Tensor> {
    let (mut bytes, mut blocks, mut ends, mut tables) = (vec![], vec![], vec![], vec![]);
    let (mut owners, mut first) = (vec![], 0);
    for (i, (stream, symbols)) in streams.iter().enumerate() {
        let read = Stream::read(stream, *symbols).map_err(|e| refused(i, e))?;
        // Positions count bits.
        if bytes.len() + stream.len() >= 1 << 28 {
            return Err(Error::beyond(KERNEL.name, "streams of 2^28 bytes or more"));
        }
        tables.extend(read.code);
        for (block, at) in read.blocks.iter().zip((0..*symbols).step_by(BLOCK)) {
            let count = (symbols - at).min(BLOCK);
            blocks.extend([count, block.lanes, i, (first + at) / 4].map(|n| n as u32));
            let start = (bytes.len() + block.start) as u32;
            // Invocations beyond the lanes read a start, and do nothing with it.
            ends.push(start);
            ends.extend(block.ends.iter().map(|end| start + end));
            owners.push(i);
        }
        bytes.extend_from_slice(stream);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        first += symbols.next_multiple_of(4);
    }
    let out = gpu.alloc(4 * words(DType::U8, symbols))?;
    let params =
        Params { blocks: owners.len() as u32, last: (bytes.len() / 4).saturating_sub(1) as u32 };
    let malformed = gpu.zeros(4)?;
    let buffers = [
        &gpu.upload(&bytes)?,
        &gpu.upload(&blocks)?,
        &gpu.upload(&ends)?,
        &gpu.upload(&tables)?,
        &out,
        &malformed,
    ];
    // Some thirty operations for every symbol, a byte of the output.
    let (workgroups, operations) = (owners.len() as u64, 32 * symbols as u64);
    gpu.dispatch_long(&KERNEL, &[], &params, (&buffers, workgroups), operations)?;
    if let Some(block) = (gpu.read(&malformed, 1)?[0] as usize).checked_sub(1) {
        let why = Malformed("a lane does not end where it says, or not in zeros");
        return Err(refused(owners[block], why));
    }
    Ok(Tensor::gpu(DType::U8, 1, symbols, out))
}
