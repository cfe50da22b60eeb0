//! Checkpoints that are quantized already: of codes, and all that gives them their meaning, every bit stays.

mod decoded;
mod layout;
pub(in crate::format) mod marks;
mod siblings;

use crate::{
    DType, Result,
    format::{checkpoint::Checkpoint, quantized::layout::Layout},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What of a checkpoint is quantized already.
#[derive(Debug, Default)]
pub struct Quantized {
    /// Of every tensor why it is carried bit for bit, if it is.
    pub reasons: Vec<Option<Arc<str>>>,
    /// Their layouts and marks, in words; empty where nothing is quantized.
    pub what: String,
}

impl Quantized {
    /// One sentence on so many of them that are carried; none where none is.
    pub fn remark(&self, carried: usize) -> Option<String> {
        let what = &self.what;
        match carried {
            0 => None,
            1 => Some(format!("already quantized: {what}: 1 tensor is carried as it is")),
            n => Some(format!("already quantized: {what}: {n} tensors are carried as they are")),
        }
    }
}

/// Finds what is quantized already, which no treatment may change: only one that is lossless is applied to it.
///
/// 1. **A mark speaks for the whole checkpoint**, or for its module of a pipeline: every tensor is carried. Marks are a `quantization_config` or
///    `compression_config` that is not null, or a `quantization` with `bits` or a `quant_algo`, anywhere in `config.json` or
///    `hf_quant_config.json` beside the file that was named or in the folder; and such an object, or `_quantization_metadata`,
///    in the metadata of a file itself.
/// 2. **Without a mark, modules are told by what they hold.** A module is the path of a name before its last part (before
///    `.weight.`, where parts of a parameter are named after it; of a name without a dot, what is left without an ending such
///    as `_scale`). All of its tensors, whatever they are called, are carried where it has one of these:
///    - codes: integers of 8 to 32 bits, or floats of 4 or 6 bits or of nothing but an exponent, in two dimensions or more, of
///      which the first is not 1;
///    - FP8, and another tensor whose name has `scale` in it;
///    - any integers that are more than a scalar, and a name that only quantizers give (`weight_scale`, `qzeros`, `absmax`,
///      `scales` with `biases`, ...);
///    - such a name, and none that could be the weight: the codes are elsewhere.
///
///    What plain checkpoints hold beside their weights is not taken for codes: integers of 64 bits and booleans (`position_ids`,
///    `relative_position_index`, `num_batches_tracked`), what has a first dimension of 1 (the masks of GPT-2's attention, `[1, 1,
///    n, n]`), and names that end in `_ids`, `_index` or `mask`. FP8 without a scale in its module is plain floats. As a module
///    reaches no further than its own tensors, such a buffer would not keep the weights of modules below it from being treated.
/// 3. **Partners may be in another shard**: the modules of all shards are one. Of a shard that is named alone, the others are
///    asked by their headers, or, where they are not there, by the names in the index.
///
/// # Errors
///
/// [`Error::Format`](crate::Error::Format) if one of the configurations cannot be understood, [`Error::Io`](crate::Error::Io).
pub fn already_quantized(checkpoint: &Checkpoint) -> Result<Quantized> {
    let mut reasons = Vec::with_capacity(checkpoint.tensors.len());
    let mut layouts: BTreeMap<Layout, Arc<str>> = BTreeMap::new();
    let mut marks = Vec::new();
    let beside = siblings::siblings(checkpoint);
    for part in &checkpoint.modules {
        let mark = marks::mark(checkpoint, part)?;
        let tensors = checkpoint.tensors_of(part);
        let mut modules: HashMap<&str, Module> = HashMap::new();
        for t in tensors {
            let (module, part) = parted(t.own_name());
            modules.entry(module).or_default().add(part, Some((t.dtype, &t.shape)));
        }
        for (name, kind) in &beside {
            let (module, part) = parted(name);
            if let Some(module) = modules.get_mut(module) {
                module.add(part, kind.as_ref().map(|(dtype, shape)| (*dtype, shape.as_slice())));
            }
        }
        let why = |mark: &String| format!("the checkpoint is already quantized ({mark})").into();
        let marked: Option<Arc<str>> = mark.as_ref().map(why);
        reasons.extend(tensors.iter().map(|t| {
            let layout = modules[parted(t.own_name()).0].layout();
            let Some(layout) = layout else { return marked.clone() };
            let why = || format!("already quantized: {}", layout.words()).into();
            Some(Arc::clone(layouts.entry(layout).or_insert_with(why)))
        }));
        marks.extend(mark);
    }
    let layouts: Vec<_> = layouts.into_keys().map(Layout::words).collect();
    let what = match (layouts.join("; "), marks.join("; ")) {
        (layouts, marks) if marks.is_empty() => layouts,
        (layouts, marks) if layouts.is_empty() => marks,
        (layouts, marks) => format!("{layouts} ({marks})"),
    };
    Ok(Quantized { reasons, what })
}

/// What is known of the tensors of a module.
#[derive(Clone, Copy, Debug, Default)]
struct Module {
    /// Types and shapes that only codes have.
    codes: bool,
    /// Integers that may be codes where the names say so.
    integers: bool,
    /// Floats of 8 bits that are no scales.
    f8: bool,
    /// A name with `scale` in it.
    scale: bool,
    /// A name that only quantizers give.
    told: bool,
    /// What may be the weight itself.
    weight: bool,
    /// `scales` and `biases`, which are as good as such a name where both are there.
    scales: bool,
    biases: bool,
    /// The type of the codes, where that tells.
    packed: bool,
    narrow: bool,
    layout: Option<Layout>,
}

impl Module {
    /// Takes note of a tensor; its type and shape are not known where its shard is missing.
    fn add(&mut self, part: &str, kind: Option<(DType, &[u64])>) {
        use DType::{
            F4, F6E2M3, F6E3M2, F8E4M3, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, I8, I16, I32, I64,
            U8, U16, U32, U64,
        };
        let told = layout::told(part);
        let scale = part.contains("scale");
        self.scale |= scale;
        // Codebooks and blocks of floats may be a plain model's own; their codes are integers.
        self.told |= told.is_some_and(|l| !matches!(l, Layout::Aqlm | Layout::Mxfp4));
        self.scales |= part == "scales";
        self.biases |= part == "biases";
        self.layout = match (self.layout, told) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let Some((dtype, shape)) = kind else { return };
        let buffer = ["_ids", "_index", "mask"].iter().any(|ending| part.ends_with(ending));
        let matrix = shape.len() > 1 && shape[0] != 1 && !buffer;
        match dtype {
            F8E4M3 | F8E5M2 | F8E4M3FNUZ | F8E5M2FNUZ => self.f8 |= !scale,
            I8 | I16 | I32 | U8 | U16 | U32 | F4 | F6E2M3 | F6E3M2 | F8E8M0 => {
                self.codes |= matrix;
                self.integers |= !shape.is_empty();
                self.packed |= dtype == U32;
                self.narrow |= matches!(dtype, F4 | F6E2M3 | F6E3M2);
            }
            I64 | U64 | DType::Bool => self.integers |= !shape.is_empty(),
            _ => {}
        }
        self.weight |= told.is_none() && !scale && !matches!(part, "bias" | "biases");
    }

    /// How it is quantized, if it is.
    fn layout(&self) -> Option<Layout> {
        let told = self.told || self.scales && self.biases;
        let quantized =
            self.codes || self.f8 && self.scale || self.integers && told || told && !self.weight;
        quantized.then(|| match self.layout {
            Some(layout) if layout != Layout::Scaled => layout,
            _ if self.scales && (self.packed || self.biases) => Layout::Mlx,
            _ if self.narrow => Layout::Narrow,
            _ if self.f8 => Layout::F8,
            _ if self.codes || self.integers => Layout::Integers,
            _ => Layout::Scaled,
        })
    }
}

/// The module of a tensor, and what the tensor is called in it.
fn parted(name: &str) -> (&str, &str) {
    if let Some(at) = name.find(".weight.") {
        return (&name[..at], &name[at + ".weight.".len()..]);
    }
    name.rsplit_once('.').unwrap_or_else(|| {
        let endings = [
            "_scale",
            "_scales",
            "_scale_inv",
            "_zero_point",
            "_packed",
            "_shape",
            "_blocks",
            "_bias",
        ];
        let stem = endings.iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name);
        match stem {
            // Of a module that was saved alone.
            "weight" | "scales" | "biases" | "bias" | "scale" => ("", name),
            stem if layout::told(stem).is_some() => ("", name),
            stem => (stem, name),
        }
    })
}
