use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::{
        Malformed,
        retrieval::bloomier::{self, Filter},
    },
    gpu::{Gpu, Kernel},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "bloomier_query",
    wgsl: wgsl!("lib/grid", "lib/retrieval", "codes/bloomier_query", "codes/retrieval"),
    workgroup: 64,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    positions: u32,
    total: u32,
    third: u32,
    seed: u32,
    words: u32,
}

/// Asks a Bloomier filter for all positions.
///
/// - `bytes`: what [`bloomier::encode`] wrote for so many `positions`.
/// - returns U32 `[1, positions / 32, rounded up]`, a mask of the survivors and false positives, first position in the low bit;
///   and U8 `[1, positions]`, their values, 0 elsewhere.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Malformed`] if the bytes are malformed; [`Error::Gpu`] if the device fails.
pub fn bloomier_query(on: &Backend, bytes: &[u8], positions: usize) -> Result<(Tensor, Tensor)> {
    let malformed = |Malformed(why)| Error::malformed(KERNEL.name, why);
    match on {
        Backend::Cpu => crate::kernels::codes::streams::on_cpu(positions, |mask, values| {
            bloomier::decode(bytes, mask, values).map_err(malformed)
        }),
        Backend::Gpu(gpu) => match bloomier::parts(bytes, positions).map_err(malformed)? {
            None => crate::kernels::codes::streams::no_survivors(gpu, positions),
            Some(filter) => on_gpu(gpu, &filter, positions),
        },
    }
}

fn on_gpu(gpu: &Gpu, filter: &Filter, positions: usize) -> Result<(Tensor, Tensor)> {
    let pairs = filter.cells.chunks(2);
    let words: Vec<u32> = pairs
        .map(|pair| u32::from(pair[0]) | u32::from(pair.get(1).copied().unwrap_or(0)) << 16)
        .collect();
    let total = positions.div_ceil(32);
    let (mask, values) = (gpu.alloc(4 * total)?, gpu.alloc(positions)?);
    let params = Params {
        positions: positions as u32,
        total: total as u32,
        third: filter.third,
        seed: filter.seed,
        words: words.len() as u32,
    };
    let constants = [("T", filter.t.into()), ("R", filter.r.into())];
    let buffers = [&gpu.upload(&words)?, &mask, &values];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total as u64))?;
    Ok((Tensor::gpu(DType::U32, 1, total, mask), Tensor::gpu(DType::U8, 1, positions, values)))
}
