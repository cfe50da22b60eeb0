//! Tiles of the user's own tensors.

use crate::{
    Result, TensorInfo,
    crosscheck::{
        case::Data,
        inputs::{Rng, Weights},
        options::Level,
    },
    dtype,
    format::Checkpoint,
    quote::quoted,
    stage::Source,
    words,
};
use std::{collections::BTreeMap, path::Path};

/// Elements of a tile: whole rows where they fit.
const ELEMENTS: usize = 4096;

/// Classes of tensors that are asked: of one type and shape.
const CLASSES: [usize; 2] = [16, 256];

/// Of every type and shape, of the first tensor: the first and the last tile, that of the largest magnitude, one with a NaN and
/// one with an infinity if there are any, and one at random.
///
/// # Errors
///
/// As [`Checkpoint::open`] and [`Checkpoint::read_at`].
pub fn tiles(model: &Path, level: Level, rng: Rng) -> Result<Vec<Weights>> {
    let checkpoint = Checkpoint::open(model)?;
    let mut classes: BTreeMap<(&str, &[u64]), &TensorInfo> = BTreeMap::new();
    for info in checkpoint.tensors.iter().filter(|t| t.dtype.is_weight() && t.elements() > 0) {
        classes.entry((info.dtype.name(), &info.shape)).or_insert(info);
    }
    let mut all = Vec::new();
    let most = CLASSES[usize::from(level == Level::Full)];
    for (n, info) in classes.into_values().take(most).enumerate() {
        let file = &checkpoint.files[info.file].name;
        for at in interesting(&checkpoint, info, rng.at(n))? {
            let data = tile(&checkpoint, info, at)?;
            let name = quoted(&info.name);
            let (file, name) = (quoted(file), &name[1..name.len() - 1]);
            let source = format!("user:{}::{name}@{at}", &file[1..file.len() - 1]);
            all.push(Weights { source, data });
        }
    }
    Ok(all)
}

/// Columns of a tile.
fn width(info: &TensorInfo) -> usize {
    (info.cols() as usize).min(ELEMENTS)
}

/// Elements of the tile that starts at an element.
fn length(info: &TensorInfo, at: u64) -> usize {
    let width = width(info);
    let left = (info.elements() - at).min((ELEMENTS / width * width) as u64) as usize;
    // Whole rows, or less than one.
    if left > width { left / width * width } else { left }
}

fn tile(checkpoint: &Checkpoint, info: &TensorInfo, at: u64) -> Result<Data> {
    let len = length(info, at);
    let size = info.dtype.bytes(1) as u64;
    let mut data = vec![0; words(info.dtype, len)];
    let bytes = &mut bytemuck::cast_slice_mut(&mut data)[..len * size as usize];
    Source::File(checkpoint, info).read_at(at * size, bytes)?;
    let width = width(info).min(len);
    Ok(Data::new(info.dtype, (len / width, width), data).axes("rows", "cols"))
}

/// Where the tiles start, in elements, ascending.
fn interesting(checkpoint: &Checkpoint, info: &TensorInfo, random: u64) -> Result<Vec<u64>> {
    let step = length(info, 0).max(1) as u64;
    let count = info.elements().div_ceil(step);
    let (mut largest, mut nan, mut infinity) = ((0, 0), None, None);
    for t in 0..count {
        let data = tile(checkpoint, info, t * step)?;
        let mut values = vec![0.0; data.elements()];
        dtype::decode(info.dtype, &data.words, 0, &mut values);
        let magnitudes = values.iter().map(|v| v.to_bits() & 0x7fff_ffff);
        let magnitude = magnitudes.filter(|m| *m < 0x7f80_0000).max().unwrap_or(0);
        if magnitude > largest.0 {
            largest = (magnitude, t);
        }
        if nan.is_none() && values.iter().any(|v| v.is_nan()) {
            nan = Some(t);
        }
        if infinity.is_none() && values.iter().any(|v| v.is_infinite()) {
            infinity = Some(t);
        }
    }
    let mut found = vec![0, count - 1, largest.1, random % count];
    found.extend(nan);
    found.extend(infinity);
    found.sort_unstable();
    found.dedup();
    Ok(found.into_iter().map(|t| t * step).collect())
}
