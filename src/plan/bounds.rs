//! What a job takes at most, from the headers alone: the memory, the bytes of a tensor, the header of a file, the index.

use crate::{
    Error, Result, TensorInfo,
    codec::block::Element,
    decide::threshold::kept,
    form::{Component, Memory, Method, Palette, Passes},
    format::{
        CHUNK, Checkpoint, Entry, MAX_HEADER, MAX_TENSORS, Module, header_length, index_length,
    },
    plan::step::{Action, Step, Treat},
    recipe::{NonFinite, Objective, Prune, Quantize, Scope},
    stage::{Blocks, PIECE, STRIP_BYTES, TableRows},
};
use std::{borrow::Cow, collections::BTreeMap};

/// Chunks of the output that are digested or read at once, whatever the number of threads.
const DIGESTS: u64 = 64 << 20;

/// What all threads take at once: the buffers of their units, plus the tables of the step that needs most.
pub(super) fn memory(steps: &[Step], unit_bytes: u64, threads: usize) -> u64 {
    let of_step = |s: &Step| match &s.action {
        Action::Keep(_) => 0,
        Action::Treat(treat) => of_treatment(treat, unit_bytes, threads as u64),
    };
    steps.iter().map(of_step).max().unwrap_or(0).max(5 * unit_bytes * threads as u64) + DIGESTS
}

fn of_treatment(treat: &Treat, unit_bytes: u64, threads: u64) -> u64 {
    let manifest = &treat.manifest;
    let blocks = Blocks::new(manifest.dtype, manifest.matrix());
    let (unit, own) = (blocks.unit_elements(unit_bytes), blocks.dtype.bytes(1) as u64);
    let dtype = manifest.quantized_dtype();
    // Coefficients may be larger than weights. While they are made the unit is there as it is read, copied for the device and
    // transformed, afterwards as coefficients alone, and so on the way back: no more than of weights of their size.
    let size = own.max(dtype.bytes(1) as u64);
    let passes =
        Passes { dtype, elements: blocks.elements(), unit, group: manifest.groups().size as u64 };
    // Of a thread: the unit as it is read, copied for the device, restored and stored, with its codes and its mask.
    let mut thread = unit * 5 * size;
    // Of a thread that goes through the tensor before: the unit as it is read and copied, with its mask.
    let (look, mut survey) = (unit * 3 * size, 0);
    // Of all threads together.
    let mut shared = 0;
    match treat.prune {
        Some(Prune::Channel { .. }) => shared += blocks.rows * 9,
        Some(Prune::Block { block: [r, c], .. }) => {
            // A norm of 8 bytes and a bit of each.
            let (r, c) = (u64::from(r).min(blocks.rows), u64::from(c).min(blocks.cols));
            shared += blocks.rows.div_ceil(r) * blocks.cols.div_ceil(c) * 9;
        }
        Some(Prune::Magnitude { scope, .. }) if scope != Scope::Row || blocks.cuts_rows() => {
            survey = look + passes.histogram().max(unit * 8);
        }
        _ => {}
    }
    if manifest.coded {
        // Codes one by one, what is coded cut into blocks, and the coded units of a window.
        thread += unit + 3 * unit * size;
    }
    let selected = manifest.pruned || treat.importance.is_some();
    let needed = match manifest.method {
        Method::Values => Memory::default(),
        Method::Affine(m) => {
            let in_units = unit.is_multiple_of(passes.group) && !blocks.cuts_rows();
            m.memory(&passes, in_units, treat.objective == Objective::Mse)
        }
        Method::Vector(m) => m.memory(&passes),
        Method::Pyramid(m) => m.memory(&passes),
        Method::Palette(m) if m.trellis.is_some() => {
            Palette::memory_of_paths(&passes, treat.importance.is_some())
        }
        Method::Palette(m) => match TableRows::of(&blocks, passes.group) {
            TableRows::InBlocks => m.memory_of_rows(&passes, false, selected),
            TableRows::AcrossBlocks => m.memory_of_rows(&passes, true, selected),
            TableRows::Many => {
                let by_entropy =
                    treat.treatment.quantize.as_ref().and_then(Quantize::entropy_bits).is_some();
                m.memory_of_survey(&passes, selected, by_entropy)
            }
        },
    };
    thread += needed.thread;
    shared += needed.shared;
    if needed.survey > 0 {
        survey = survey.max(look + needed.survey);
    }
    let strips = (threads + 1) * STRIP_BYTES.max(unit * own) + threads * (1 << 20);
    shared += match manifest.view.axis {
        0 => 0,
        _ if treat.importance.is_some() => 2 * strips,
        _ => strips,
    };
    thread.max(survey) * threads + shared
}

/// The most that a treated tensor takes, headers aside. A coded one that turns out no smaller is kept, and so is one that holds NaN or
/// infinite values, which no header tells.
pub(super) fn most_bytes(t: &TensorInfo, treat: &Treat) -> u64 {
    let may_be_kept = treat.treatment.nonfinite == NonFinite::Keep;
    match stored_bytes(treat, true) {
        _ if treat.manifest.coded => t.bytes,
        stored if may_be_kept => stored.max(t.bytes),
        stored => stored,
    }
}

/// Of a pruned tensor how many weights survive at most, or as far as the recipe tells. They differ where other tensors decide: for
/// the threshold of a model, and where a network that was pruned before is not pruned again.
pub(super) fn survivors(treat: &Treat, bound: bool) -> u64 {
    let (rows, cols) = treat.manifest.matrix();
    let n = rows * cols;
    match treat.prune {
        None => n,
        Some(Prune::Magnitude { scope, once, .. }) if bound && (once || scope == Scope::Model) => n,
        Some(Prune::NOfM { n: of, m: per }) => {
            let (of, per) = (u64::from(of), u64::from(per));
            rows * (cols / per * of + cols % per)
        }
        Some(Prune::Magnitude { density, scope: Scope::Row, .. }) => rows * kept(density, cols),
        Some(Prune::Magnitude { density, .. }) => kept(density, n),
        Some(Prune::Channel { density, .. }) => kept(density, rows) * cols,
        Some(Prune::Block { density, block: [r, c], .. }) => {
            let (r, c) = (u64::from(r).min(rows), u64::from(c).min(cols));
            (kept(density, rows.div_ceil(r) * cols.div_ceil(c)) * r * c).min(n)
        }
    }
}

/// The bytes of all components that are not coded, with so many survivors: of codes every row may waste most of a word, or every
/// piece of a row that is cut.
pub(super) fn stored_bytes(treat: &Treat, bound: bool) -> u64 {
    let m = &treat.manifest;
    let components = m.components();
    let known: u64 = components.iter().filter_map(Component::bytes).sum();
    if !m.pruned {
        return known;
    }
    let survivors = survivors(treat, bound);
    known
        + match m.element() {
            Element::Value(dtype) => survivors * dtype.bytes(1) as u64,
            Element::Code(bits) | Element::Path(bits, _) => {
                let (rows, cols) = m.matrix();
                let pieces = rows * cols.div_ceil(PIECE);
                (survivors * u64::from(bits)).div_ceil(8) + 4 * pieces
            }
        }
}

/// Upper bound of the files that list the shards of modules: as if every tensor were treated, but for those that are tied.
pub(super) fn index_bytes(
    checkpoint: &Checkpoint,
    steps: &[Step],
    total: u64,
    is_tied: &dyn Fn(usize) -> bool,
) -> u64 {
    let listed = checkpoint.modules.iter().filter(|module| module.index.is_some());
    let of_module = |module: &Module| {
        let own = checkpoint.tensors.iter().zip(steps).enumerate();
        let own = own.filter(|(_, (t, _))| module.files.contains(&t.file));
        let names = own.flat_map(|(i, (t, step))| {
            let names: Vec<Cow<str>> = match &step.action {
                _ if is_tied(i) => {
                    vec![format!("{}.{}", t.own_name(), Component::tied().name).into()]
                }
                Action::Keep(_) => vec![t.own_name().into()],
                Action::Treat(treat) => {
                    let name = |c: Component| format!("{}.{}", t.own_name(), c.name).into();
                    treat.manifest.components().into_iter().map(name).collect()
                }
            };
            let shard = module.own(&checkpoint.files[t.file].name);
            names.into_iter().map(move |name| (name, shard))
        });
        let names: Vec<_> = names.collect();
        let pairs: Vec<_> = names.iter().map(|(name, shard)| (&**name, *shard)).collect();
        index_length(total, &pairs)
    };
    listed.map(of_module).sum()
}

/// Upper bound of the header of one file of the archive, which is filled up to it, with the numbers of the tensors that are tied, and
/// to which ones.
pub(super) fn header_bytes(
    checkpoint: &Checkpoint,
    steps: &[Step],
    file: usize,
    ties: &BTreeMap<usize, usize>,
) -> Result<u64> {
    let all = || checkpoint.tensors.iter().zip(steps).enumerate();
    let all = || all().filter(|(_, (t, _))| t.file == file);
    let of_file = || all().filter(|(i, _)| !ties.contains_key(i)).map(|(_, pair)| pair);
    let most: u64 = of_file().map(|(t, s)| t.bytes.max(s.bytes)).sum();
    let mut count = 0;
    let entry = |name, dtype, shape| Entry { name, dtype, shape, bytes: most..most };
    let entries = all().flat_map(|(i, (t, step))| {
        let component = |c: Component| {
            let shape = c.shape.unwrap_or_else(|| vec![most]);
            entry(format!("{}.{}", t.own_name(), c.name).into(), c.dtype, shape.into())
        };
        match &step.action {
            _ if ties.contains_key(&i) => vec![component(Component::tied())],
            Action::Keep(_) => vec![entry(t.own_name().into(), t.dtype, t.shape.as_slice().into())],
            Action::Treat(treat) => {
                treat.manifest.components().into_iter().map(component).collect()
            }
        }
    });
    let mut described = of_file().filter_map(|(t, step)| match &step.action {
        Action::Keep(_) => None,
        Action::Treat(treat) => Some((t.own_name(), &treat.manifest)),
    });
    let own = |i: &usize| checkpoint.tensors[*i].own_name().to_owned();
    let tied = all().filter_map(|(i, _)| Some((own(&i), own(ties.get(&i)?)))).collect();
    let chunks = vec![[0; 16]; most.div_ceil(CHUNK) as usize];
    let source = &checkpoint.files[file];
    let length = header_length(
        Some((&chunks, &mut described, &tied)),
        &source.metadata,
        entries.inspect(|_| count += 1),
    );
    let refuse = |what: String| {
        Err(Error::format(
            &source.path,
            format!("its archive would need {what}; keep more tensors"),
        ))
    };
    if count > MAX_TENSORS {
        return refuse(format!("{count} tensors in one file, the format allows {MAX_TENSORS}"));
    }
    if length.next_multiple_of(8) > MAX_HEADER {
        return refuse(format!("a header of {length} bytes, the format allows {MAX_HEADER}"));
    }
    Ok(8 + length.next_multiple_of(8))
}
