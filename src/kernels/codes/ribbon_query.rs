use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::{
        Malformed,
        retrieval::ribbon::{self, Parts},
    },
    gpu::{Gpu, Kernel},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "ribbon_query",
    wgsl: wgsl!("lib/grid", "lib/retrieval", "codes/ribbon_query", "codes/retrieval"),
    workgroup: 64,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    positions: u32,
    total: u32,
    ribbons: u32,
    listed: u32,
    slot_words: u32,
    buckets: u32,
}

/// Asks a ribbon for all positions.
///
/// - `bytes`: what [`ribbon::encode`] wrote for so many `positions`.
/// - returns U32 `[1, positions / 32, rounded up]`, a mask of the survivors and false positives, first position in the low bit;
///   and U8 `[1, positions]`, their values, 0 elsewhere.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Malformed`] if the bytes are malformed; [`Error::Gpu`] if the device fails.
pub fn ribbon_query(on: &Backend, bytes: &[u8], positions: usize) -> Result<(Tensor, Tensor)> {
    let malformed = |Malformed(why)| Error::malformed(KERNEL.name, why);
    match on {
        Backend::Cpu => crate::kernels::codes::streams::on_cpu(positions, |mask, values| {
            ribbon::decode(bytes, mask, values).map_err(malformed)
        }),
        Backend::Gpu(gpu) => match ribbon::parts(bytes, positions).map_err(malformed)? {
            None => crate::kernels::codes::streams::no_survivors(gpu, positions),
            Some(parts) => on_gpu(gpu, &parts, positions),
        },
    }
}

fn on_gpu(gpu: &Gpu, parts: &Parts, positions: usize) -> Result<(Tensor, Tensor)> {
    let (mut records, mut bumps, mut slots) = (Vec::new(), Vec::<u32>::new(), Vec::<u32>::new());
    for ribbon in &parts.ribbons {
        let start = [ribbon.ordered.into(), ribbon.seed, ribbon.shift, ribbon.scale];
        records.extend(start);
        records.extend([bumps.len(), ribbon.bumps.len(), slots.len()].map(|n| n as u32));
        bumps.extend(ribbon.bumps.iter().map(|bump| u32::from(*bump)));
        slots.extend_from_slice(bytemuck::cast_slice(&ribbon.slots));
    }
    let list = parts.list.iter().flat_map(|(position, value)| [*position, (*value).into()]);
    let list: Vec<u32> = list.collect();
    let total = positions.div_ceil(32);
    let (mask, values) = (gpu.alloc(4 * total)?, gpu.alloc(positions)?);
    let params = Params {
        positions: positions as u32,
        total: total as u32,
        ribbons: parts.ribbons.len() as u32,
        listed: parts.list.len() as u32,
        slot_words: slots.len().max(1) as u32,
        buckets: bumps.len().max(1) as u32,
    };
    let constants = [("T", parts.t.into()), ("R", parts.r.into())];
    let inputs = [&records, &bumps, &slots, &list].map(|words| gpu.upload(words));
    let [records, bumps, slots, list] = inputs;
    let buffers = [&records?, &bumps?, &slots?, &list?, &mask, &values];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total as u64))?;
    Ok((Tensor::gpu(DType::U32, 1, total, mask), Tensor::gpu(DType::U8, 1, positions, values)))
}
