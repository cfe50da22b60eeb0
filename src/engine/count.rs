//! Counting the weights of a tensor, for what is decided from exact counts.

use crate::{
    Backend, Result, Tensor,
    decide::histogram::Histogram,
    engine::{Chain, Engine, Needs, Same, Task, tiles},
    kernels::{Counting, histogram, magnitude_tail},
    parallel,
    stage::{Blocks, Unit},
};
use std::sync::{Mutex, PoisonError};

/// The histogram of units: counted on the device, or all of them on the CPU if it fails.
///
/// # Errors
///
/// As `load`; [`Error::Interrupted`](crate::Error::Interrupted).
pub fn count(
    engine: &Engine,
    tensor: &str,
    blocks: &Blocks,
    load: &(impl Fn(&Unit) -> Result<Vec<u32>> + Sync),
    units: &[Unit],
) -> Result<Histogram> {
    let chain = Chain { kernel: "histogram", tensor, needs: Needs::default() };
    let counted = engine.try_device(|on, gpu| {
        let counting = Mutex::new(Counting::new(on, blocks.dtype)?);
        parallel::try_each(units, &|unit| {
            engine.cancel.check()?;
            let (elements, shape) = (load(unit)?, unit.shape());
            let cut = tiles::cut(gpu, blocks.dtype, shape, chain.needs)?;
            // What a picked unit alone has added is told apart.
            let device = |picked| {
                let tiles = tiles::load(on, blocks, unit, &elements, &cut)?;
                let mut tiles = tiles.iter().map(|t| &t.weights);
                let mut counting = counting.lock().unwrap_or_else(PoisonError::into_inner);
                match picked {
                    true => counting.add_apart(on, tiles).map(Some),
                    false => tiles.try_for_each(|t| counting.add(on, t)).map(|()| None),
                }
            };
            let expected = || {
                let (cpu, dtype) = (&Backend::Cpu, blocks.dtype);
                let whole = Tensor::new(cpu, dtype, shape.0, shape.1, elements.clone())?;
                histogram(cpu, &whole).map(Some)
            };
            let task = Task { chain, blocks, unit };
            engine.on_device(task, cut.len(), device, expected).map(|_| ())
        })?;
        let counted = counting.into_inner().unwrap_or_else(PoisonError::into_inner).finish(on)?;
        // None was lost, in whatever tile.
        let elements = units.iter().map(|unit| unit.elements() as u64).sum();
        match counted.total().difference(&elements) {
            None => Ok(counted),
            Some(what) => Err(engine.distrust(chain, &format!("its total is {what}"))),
        }
    })?;
    if let Some(counted) = counted {
        return Ok(counted);
    }
    let per_thread = units.len().div_ceil(rayon::current_num_threads()).max(1);
    let parts: Vec<&[Unit]> = units.chunks(per_thread).collect();
    let counted = parallel::try_map(&parts, &|part| {
        let mut counting = Counting::new(&Backend::Cpu, blocks.dtype)?;
        for unit in *part {
            let mut elements = load(unit)?;
            engine.on_cpu(blocks, unit, &mut elements, |tile| {
                counting.add(&Backend::Cpu, &tile.weights)
            })?;
        }
        counting.finish(&Backend::Cpu)
    })?;
    let merge = |mut a: Histogram, b: Histogram| {
        a.merge(&b);
        a
    };
    Ok(counted.into_iter().reduce(merge).unwrap_or_else(|| Histogram::new(blocks.dtype)))
}

/// How often each magnitude with some upper bits occurs in units.
pub fn tail(
    engine: &Engine,
    tensor: &str,
    blocks: &Blocks,
    load: &(impl Fn(&Unit) -> Result<Vec<u32>> + Sync),
    units: &[Unit],
    prefix: u32,
) -> Result<Vec<u64>> {
    let add = |all: &mut [u64], more: Vec<u64>| {
        all.iter_mut().zip(more).for_each(|(all, n)| *all += n);
    };
    let all = Mutex::new(vec![0; 4096]);
    parallel::try_each(units, &|unit| {
        let mut elements = load(unit)?;
        let chain = Chain { kernel: "magnitude_tail", tensor, needs: Needs::default() };
        let of_unit = engine.run(chain, blocks, unit, &mut elements, |on, tiles| {
            let mut of_unit = vec![0; 4096];
            for tile in tiles {
                add(&mut of_unit, magnitude_tail(on, &tile.weights, prefix)?);
            }
            Ok(of_unit)
        })?;
        add(&mut all.lock().unwrap_or_else(PoisonError::into_inner), of_unit);
        Ok(())
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}
