//! What a rule comes to for one tensor: a form that fits its type and shape, or why it is kept.

use crate::{
    Result, TensorInfo,
    decide::{kmeans::entropy_entries, trellis::LEVELS},
    form::{Affine, MAX_RANK, Method, PIECE, Palette, Pyramid, TensorManifest, Vector, View},
    format::{Checkpoint, MAX_NAME},
    plan::{
        bounds::stored_bytes,
        step::{Action, ImportanceOf, Treat},
    },
    recipe::{Granularity, GroupSize, Objective, Prune, Quantize, Role, Rule, Treatment, defaults},
};
use std::{collections::HashMap, path::PathBuf, sync::Arc};

/// Why a rule that keeps was the first to match, a default where its number is none of the recipe's: its own words; else what the
/// rules before it, which would have treated a tensor of this name, ask for in vain; or the rule itself.
pub(super) fn why_kept(t: &TensorInfo, role: Role, rules: &[Rule], rule: usize) -> Arc<str> {
    let before = rules.get(..rule).unwrap_or(rules).iter().filter(|r| !r.treatment.keeps());
    let mut unmet = before.filter_map(|r| Some((r, r.unmet(t, role)?)));
    let missed = unmet.next();
    let lossless = missed.as_ref().is_some_and(|(r, _)| r.treatment.is_lossless());
    if !t.dtype.is_weight() && !lossless {
        return t.dtype.kept_because().unwrap_or_default().into();
    }
    let by = rules.get(rule).unwrap_or_else(|| &defaults().rules[rule - rules.len()]);
    if let Some(why) = &by.why {
        return Arc::clone(why);
    }
    let why = missed.map_or_else(
        || match by.is_of_a_flag() {
            true => format!("{} keeps it", by.title()),
            // As it is numbered in its recipe, before which stand those of flags.
            false => {
                let number = rules[..=rule].iter().filter(|r| !r.is_of_a_flag()).count();
                format!("rule {number}, {}, keeps it", by.pattern)
            }
        },
        |(_, why)| format!("it {why}"),
    );
    why.into()
}

/// What is done to a tensor that a treating rule has matched, or what does not fit. `carried` says that it is quantized already: only
/// what changes no bit is done to such a one, and to one whose type holds no weights.
pub(crate) fn action(
    t: &TensorInfo,
    treatment: &Arc<Treatment>,
    carried: Option<&str>,
    view: View,
    columns: Option<&Arc<str>>,
) -> std::result::Result<Action, String> {
    let keep = |why: &str| Ok(Action::Keep(why.into()));
    if treatment.is_lossless() {
        // Every bit comes back, be it of weights, codes, scales or anything else.
        if !t.dtype.bits().is_multiple_of(8) {
            return keep(&format!("{} elements are no whole bytes", t.dtype.name()));
        }
    } else if let Some(why) = carried {
        return keep(why);
    } else if !t.dtype.is_weight() {
        return keep(&t.dtype.kept_because().unwrap_or_default());
    }
    if t.elements() == 0 {
        return keep("it is empty");
    }
    if view.axis == 1 && t.shape.len() < 2 {
        return Err("axis = 1 needs two dimensions".into());
    }
    let (rows, cols) = view.matrix(&t.shape);
    let (method, objective) = match &treatment.quantize {
        None => (Method::Values, Objective::Range),
        Some(Quantize::Affine { bits, symmetric, granularity, objective, scales }) => {
            let group = group_of(granularity, cols)?;
            let (bits, symmetric, scales) = (*bits, *symmetric, *scales);
            (Method::Affine(Affine { bits, symmetric, group, scales }), *objective)
        }
        Some(Quantize::Palette { k, granularity, .. }) => {
            let per_table = match granularity {
                Granularity::Tensor => 0,
                Granularity::Channel => 1,
                Granularity::Group(sizes) => sizes
                    .iter()
                    .find_map(|size| match size {
                        GroupSize::Of(g) => rows.is_multiple_of(*g).then_some(*g),
                        GroupSize::Row => None,
                    })
                    .ok_or_else(|| {
                        format!("{} does not divide its {rows} rows", sizes_text(sizes))
                    })?,
            };
            (Method::Palette(Palette { k: *k, rows: per_table, trellis: None }), Objective::Range)
        }
        Some(Quantize::Vector { d, k, spaces, stages, granularity, scales, .. }) => {
            let period = u64::from(*d) * u64::from(*spaces);
            if !cols.is_multiple_of(period) {
                let of = match spaces {
                    1 => format!("vectors of {d} do"),
                    _ => format!("a product of {spaces} x {d} does"),
                };
                return Err(format!("{of} not divide its rows of {cols}"));
            }
            if cols > PIECE {
                return Err(format!("its rows of {cols} are too long for vectors: above {PIECE}"));
            }
            let group = group_of(granularity, cols)?;
            if group != 0 && !group.is_multiple_of((*d).into()) {
                return Err(format!("group {group} is no whole vectors of {d}"));
            }
            let vector =
                Vector { dim: *d, k: *k, spaces: *spaces, stages: *stages, group, scales: *scales };
            (Method::Vector(vector), Objective::Range)
        }
        Some(Quantize::Pyramid { n, k, gain_bits }) => {
            let pyramid = Pyramid { n: *n, k: *k, gain_bits: *gain_bits };
            pyramid.check_row(cols)?;
            (Method::Pyramid(pyramid), Objective::Range)
        }
        // A table of two values for every row.
        Some(Quantize::Binary) => {
            (Method::Palette(Palette { k: 2, rows: 1, trellis: None }), Objective::Range)
        }
        Some(Quantize::Entropy { bits }) => {
            let k = entropy_entries(*bits);
            (Method::Palette(Palette { k, rows: 0, trellis: None }), Objective::Range)
        }
        // As many levels as there may be; which are taken shows later.
        Some(Quantize::Trellis { trellis, .. }) => {
            let (k, trellis) = (LEVELS as u32, Some(*trellis));
            (Method::Palette(Palette { k, rows: 0, trellis }), Objective::Range)
        }
    };
    let transform = treatment.transform.as_ref().map(|of| of.fit(cols)).transpose()?;
    let manifest = TensorManifest {
        dtype: t.dtype,
        shape: t.shape.clone(),
        view,
        pruned: treatment.prune.is_some(),
        transform,
        method,
        coded: treatment.encode.is_some(),
        digest: [0; 16],
        max_rel_error: treatment.max_rel_error,
    };
    let longest = manifest.components().iter().map(|c| t.own_name().len() + 1 + c.name.len()).max();
    if longest > Some(MAX_NAME) {
        return keep("its name is too long for the names of its components");
    }
    if t.shape.len() > MAX_RANK {
        return keep("it has more dimensions than a manifest describes");
    }
    if let Some(Prune::Block { block: [r, c], .. }) = treatment.prune
        && u64::from(r).min(rows) * u64::from(c).min(cols) >= 1 << 34
    {
        return Err(format!("its blocks of {r} x {c} weights are too large to sum"));
    }
    let treat = Treat {
        prune: treatment.prune,
        objective,
        treatment: treatment.clone(),
        columns: columns.cloned(),
        manifest,
        importance: None,
    };
    // How small a coded tensor is shows only when it is coded.
    if !treat.manifest.coded && stored_bytes(&treat, false) >= t.bytes {
        return keep("its treated form is not smaller");
    }
    Ok(Action::Treat(Box::new(treat)))
}

/// Elements of a row that share a scale; 0 for all of the tensor.
fn group_of(granularity: &Granularity, cols: u64) -> std::result::Result<u64, String> {
    match granularity {
        Granularity::Tensor => Ok(0),
        Granularity::Channel => Ok(cols),
        Granularity::Group(sizes) => {
            let size = sizes.iter().find_map(|size| match size {
                GroupSize::Row => Some(cols),
                GroupSize::Of(g) => cols.is_multiple_of(*g).then_some(*g),
            });
            size.ok_or_else(|| format!("{} does not divide its rows of {cols}", sizes_text(sizes)))
        }
    }
}

fn sizes_text(sizes: &[GroupSize]) -> String {
    let size = |s: &GroupSize| match s {
        GroupSize::Of(g) => format!("group {g}"),
        GroupSize::Row => "the row".into(),
    };
    sizes.iter().map(size).collect::<Vec<_>>().join(" or ")
}

/// Where the importance of a tensor is, among the files that are open already or as one more; or why it does not fit.
pub(super) fn importance_of(
    t: &TensorInfo,
    treat: &Treat,
    path: PathBuf,
    open: &mut HashMap<PathBuf, Arc<Checkpoint>>,
) -> Result<std::result::Result<ImportanceOf, String>> {
    let file = match open.get(&path) {
        Some(file) => file.clone(),
        None => {
            let file = Arc::new(Checkpoint::open(&path)?);
            open.insert(path.clone(), file.clone());
            file
        }
    };
    let Some(tensor) = file.tensors.iter().position(|i| i.name == t.name) else {
        return Ok(Err(format!("{} holds no importance for it", path.display())));
    };
    let (info, (_, cols)) = (&file.tensors[tensor], treat.manifest.matrix());
    if !info.dtype.is_weight() || info.shape != t.shape && info.elements() != cols {
        return Ok(Err(format!(
            "its importance in {} is {} {:?}, expected floats of shape {:?} or [{cols}]",
            path.display(),
            info.dtype.name(),
            info.shape,
            t.shape
        )));
    }
    Ok(Ok(ImportanceOf { file, tensor }))
}
