//! Where the bytes of an archive are: every tensor's own, and those that belong to none alone.

use crate::{
    Result, TensorInfo,
    codec::block::Sizes,
    form::TensorManifest,
    format::{Archive, ArchivedTensor, Checkpoint, Entry, entry_length},
    report::{ComponentReport, ErrorReport, Form, Made, StoredAs, TensorReport},
};

/// What is known of a tensor that was decoded; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoded {
    /// What its coded blocks take.
    pub sizes: Option<Sizes>,
    /// As in the report.
    pub entropy_bits: Option<f64>,
    /// As in the report.
    pub density: Option<f64>,
    /// How far it is from its source, if that is there.
    pub error: ErrorReport,
}

/// All that there is to say of a tensor of an archive.
pub fn account(
    archive: &Archive,
    t: &ArchivedTensor,
    made: Made,
    decoded: Decoded,
) -> TensorReport {
    let (dtype, shape) = archive.original(t);
    let elements = crate::tensor::elements(shape);
    let mut components: Vec<ComponentReport> = archive
        .stored_as(t)
        .map(|(name, info)| ComponentReport {
            name: if name.is_empty() { "kept" } else { name },
            bytes: info.bytes,
        })
        .collect();
    let entry = |(_, info): (&str, &TensorInfo)| {
        let start = info.offset() - archive.stored.files[info.file].data_start;
        let (name, shape) = (info.own_name().into(), info.shape.as_slice().into());
        entry_length(Entry { name, dtype: info.dtype, shape, bytes: start..start + info.bytes })
    };
    let header = archive.stored_as(t).map(entry).sum::<u64>() + archive.manifest_bytes(t);
    components.push(ComponentReport { name: "header", bytes: header });
    let bytes = components.iter().map(|c| c.bytes).sum();
    if let (Some(manifest), Some(sizes)) = (&t.treated, decoded.sizes) {
        split_coded(&mut components, manifest, sizes);
    }
    // An archive does not store why a tensor was kept; where no rule could have treated it, it shows.
    let unfit = || dtype.kept_because().map(Into::into);
    let (method, reason) = match (t.tied_to(), &t.treated) {
        (Some(to), _) => (StoredAs::tied(to), None),
        (None, None) => (StoredAs::Kept, made.reason.or_else(unfit)),
        (None, Some(m)) => {
            (StoredAs::Treated(made.method.unwrap_or_else(|| m.describe(None))), None)
        }
    };
    TensorReport {
        name: t.name.clone(),
        dtype: dtype.name(),
        shape: shape.to_vec(),
        method,
        form: Form::shared(t.treated.as_deref()),
        code_bits: t.treated.as_ref().and_then(|m| m.method.reported_bits()),
        coded: t.treated.as_ref().is_some_and(|m| m.coded),
        reason,
        bytes,
        bits_per_weight: if elements == 0 { 0.0 } else { bytes as f64 * 8.0 / elements as f64 },
        entropy_bits: decoded.entropy_bits,
        density: decoded.density,
        retrieval: made.retrieval,
        flushed: made.flushed,
        error: decoded.error,
        components,
    }
}

/// Says what the bytes of a coded tensor are, its tables and the lengths of its blocks as one.
fn split_coded(components: &mut Vec<ComponentReport>, manifest: &TensorManifest, sizes: Sizes) {
    let Some(at) = components.iter().position(|c| c.name == "coded") else { return };
    let coded = components.remove(at);
    let tables = coded.bytes - sizes.index - sizes.stored;
    let parts = [("index", sizes.index), (manifest.stored(), sizes.stored), ("tables", tables)];
    let parts = parts.into_iter().filter(|(_, bytes)| *bytes > 0);
    components.splice(at..at, parts.map(|(name, bytes)| ComponentReport { name, bytes }));
}

/// What an archive holds that belongs to no tensor alone, so that with the tensors it adds up to the archive's size: the rest
/// of the headers (chunk digests, other metadata), their padding, and a folder's index of `index_bytes` bytes.
///
/// # Errors
///
/// As [`Checkpoint::read_at`].
pub fn overhead(
    archive: &Archive,
    tensors: &[TensorReport],
    index_bytes: u64,
) -> Result<Vec<ComponentReport>> {
    let (mut headers, mut padding) = (0, 0);
    for (file, stored) in archive.stored.files.iter().enumerate() {
        headers += stored.data_start;
        padding += trailing_spaces(&archive.stored, file, stored.data_start)?;
    }
    let of_tensors: u64 = tensors
        .iter()
        .flat_map(|t| &t.components)
        .filter(|c| c.name == "header")
        .map(|c| c.bytes)
        .sum();
    let component = |name, bytes| ComponentReport { name, bytes };
    let mut overhead = vec![
        component("header", headers.saturating_sub(padding + of_tensors)),
        component("padding", padding),
    ];
    if index_bytes > 0 {
        overhead.push(component("index", index_bytes));
    }
    Ok(overhead)
}

/// How many spaces a header that ends at `end` ends with.
fn trailing_spaces(stored: &Checkpoint, file: usize, end: u64) -> Result<u64> {
    let (mut at, mut spaces) = (end, 0);
    loop {
        let mut part = vec![0; at.min(4096) as usize];
        at -= part.len() as u64;
        stored.read_at(file, at, &mut part)?;
        let here = part.iter().rev().take_while(|b| **b == b' ').count();
        spaces += here as u64;
        if here < part.len() || at == 0 {
            return Ok(spaces);
        }
    }
}
