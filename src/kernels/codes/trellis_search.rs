use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::lanes::{BLOCK, lanes},
    decide::trellis::Grid,
    gpu::{Gpu, Kernel},
    parallel,
    simd::codecs::trellis::COST,
    wgsl, words,
};
use std::sync::{Mutex, PoisonError};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "trellis_search",
    wgsl: wgsl!("lib/grid", "codes/trellis_search"),
    workgroup: 64,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    paths: u32,
    rows: u32,
    positions: u32,
    choices: u32,
}

/// The codes of weights along the paths of least cost through a trellis, for streams of codes one after the other.
///
/// Of every 65,536 weights of a stream each lane, as a stream of codes has them, has a path of its own from state 0. A code of subset
/// `s` costs `grid.costs[p][s]`, where `p` is the position of the weight, and is `grid.codes[p][s]`. The sum of a path's costs
/// is the least of all. Of two paths that cost the same to a state the one that comes to it by the first subset is taken, of
/// ends the lowest state.
///
/// - `positions`: U16 `[1, weights of all streams]`, each below `grid.costs.len()`: what [`Grid::places`] says.
/// - `streams`: how many weights each has.
/// - returns U8 `[1, weights]`.
///
/// Agreement: exact: sums and comparisons of integers.
///
/// # Errors
///
/// [`Error::Shape`] if the positions are not U16, or not as many as the streams have, or the grid has more than 65,536 of
/// them, or one costs more than 4095; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Viterbi 1967, "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm", IEEE Trans. Information
/// Theory 13(2); Marcellin and Fischer 1990, "Trellis coded quantization of memoryless and Gauss-Markov sources", IEEE
/// Trans. Communications 38(1).
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, codec::trellis::Trellis, kernels, trellis::{Grid, Positions}};
///
/// let on = Backend::Cpu;
/// // The codes 0, 1, 2 and 3 for weights 0, 1, 2 and 3, at the square of the distance.
/// let positions = Positions { per_weight: 1.0, middle: 0, core: 3, far: 0 };
/// let square = |p: u16| [0, 1, 2, 3].map(|code: u16| (p.abs_diff(3 + code)).pow(2));
/// let trellis = Trellis::new(4).unwrap();
/// let grid =
///     Grid { trellis, positions, costs: (0..7).map(square).collect(), codes: vec![[0, 1, 2, 3]; 7] };
/// // From state 0, 0 leads to 0 and 2 to 1, from where 1 leads to 2 and 3 to 3.
/// let at = grid.places(&[0.0, 2.0, 3.0, 1.0], &[]);
/// let at = Tensor::new(&on, DType::U16, 1, 4, bytemuck::pod_collect_to_vec(&at))?;
/// let codes = kernels::trellis_search(&on, &at, &[4], &grid)?;
/// assert_eq!(codes.read(&on)?, [0x01_03_02_00]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn trellis_search(
    on: &Backend,
    positions: &Tensor,
    streams: &[usize],
    grid: &Grid,
) -> Result<Tensor> {
    let n = positions.elements();
    if positions.dtype() != DType::U16 {
        return Err(Error::shape(KERNEL.name, "positions", positions.dtype().name(), "U16"));
    }
    if streams.iter().sum::<usize>() != n {
        return Err(Error::shape(KERNEL.name, "positions", n, "those of all streams"));
    }
    let (choices, most) = (grid.costs.len(), grid.costs.iter().flatten().max());
    if !(1..=1 << 16).contains(&choices) || grid.codes.len() != choices || most > Some(&COST) {
        return Err(Error::shape(KERNEL.name, "choices", choices, "1 to 65536, costs to 4095"));
    }
    match on {
        Backend::Cpu => {
            let at = &bytemuck::cast_slice(positions.words()?)[..n];
            Ok(Tensor::cpu(DType::U8, 1, n, reference(at, streams, grid)?))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, positions, streams, grid),
    }
}

fn reference(positions: &[u16], streams: &[usize], grid: &Grid) -> Result<Vec<u32>> {
    if let Some(beyond) = positions.iter().find(|p| usize::from(**p) >= grid.costs.len()) {
        return Err(Error::shape(KERNEL.name, "a position", *beyond, grid.costs.len()));
    }
    let mut codes = vec![0; words(DType::U8, positions.len())];
    let mut left = &mut bytemuck::cast_slice_mut(&mut codes)[..positions.len()];
    let mut parts = Vec::with_capacity(streams.len());
    let mut start = 0;
    for n in streams {
        let (of_stream, after) = left.split_at_mut(*n);
        parts.push((&positions[start..start + n], Mutex::new(of_stream)));
        (start, left) = (start + n, after);
    }
    parallel::map(&parts, &|(positions, codes)| {
        grid.follow(positions, &mut codes.lock().unwrap_or_else(PoisonError::into_inner));
    });
    Ok(codes)
}

/// Paths that are searched at once: what is kept of them is 64 bits a state for every 64 weights.
const PATHS: usize = 4096;

fn on_gpu(gpu: &Gpu, positions: &Tensor, streams: &[usize], grid: &Grid) -> Result<Tensor> {
    let n = positions.elements();
    let codes = gpu.zeros(4 * words(DType::U8, n))?;
    let mut paths: Vec<[u32; 4]> = Vec::new();
    let mut start = 0;
    for stream in streams {
        for first in (0..*stream).step_by(BLOCK) {
            let weights = BLOCK.min(stream - first);
            let (turns, at) = (lanes(weights), start + first);
            let path = |lane| [at + lane, turns, at + weights, weights.div_ceil(turns)];
            paths.extend((0..turns).map(|lane| path(lane).map(|x| x as u32)));
        }
        start += stream;
    }
    let states = usize::from(grid.trellis.states());
    let [lost, led] = grid.trellis.taps();
    let constants = [
        ("STATES", states as f64),
        ("HALF", f64::from(states.ilog2() - 1)),
        ("LOST", lost.into()),
        ("LED", led.into()),
        ("FAR", f64::from(states.ilog2() * u32::from(COST) + 1)),
    ];
    let (costs, choices) = (gpu.upload(&grid.costs)?, gpu.upload(&grid.codes)?);
    for paths in paths.chunks(PATHS) {
        let rows = paths.iter().map(|path| path[3]).max().unwrap_or(0);
        let kept = gpu.alloc(paths.len() * rows.div_ceil(32) as usize * states * 4)?;
        let params = Params {
            paths: paths.len() as u32,
            rows,
            positions: words(DType::U16, n) as u32,
            choices: grid.costs.len() as u32,
        };
        let buffers = [&gpu.upload(paths)?, positions.buffer()?, &costs, &choices, &kept, &codes];
        let workgroups = (paths.len() * states).div_ceil(KERNEL.workgroup as usize) as u64;
        // Some twenty operations for every state of every weight.
        let operations = paths.len() as u64 * u64::from(rows) * states as u64 * 20;
        gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, workgroups), operations)?;
    }
    Ok(Tensor::gpu(DType::U8, 1, n, codes))
}
