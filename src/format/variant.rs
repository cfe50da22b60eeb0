//! What the names of files of weights say: `model.fp16-00001-of-00002.safetensors` is a shard of the variant `fp16` of `model`.

use crate::quote::quoted;
use std::{collections::BTreeSet, path::Path};

/// Of a shard that is numbered what its fellows have in common: what is before its number, and what is after it.
pub(super) fn numbered(name: &str) -> Option<(&str, &str)> {
    let (before, after) = name.rsplit_once("-of-")?;
    let (stem, number) = before.rsplit_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(number) && digits(after.split('.').next()?)).then_some((stem, after))
}

/// Of a safetensors file or an index the name of its checkpoint and of its variant, which is empty for the plain one.
///
/// Variants are written `model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors` and
/// `model-00001-of-00002.fp16.safetensors`, with `model.safetensors.index.fp16.json` or `model.fp16.safetensors.index.json`.
pub(super) fn variant(name: &str) -> Option<(&str, &str)> {
    fn parts(stem: &str) -> (&str, &str) {
        stem.split_once('.').unwrap_or((stem, ""))
    }
    if let Some((stem, ending)) = name.split_once(".safetensors.index.") {
        let (base, variant) = parts(stem);
        return match ending.strip_suffix(".json") {
            Some(of_index) => Some((base, of_index)),
            None => (ending == "json").then_some((base, variant)),
        };
    }
    let stem = name.strip_suffix(".safetensors")?;
    Some(match numbered(stem) {
        None => parts(stem),
        Some((before, after)) => match parts(before) {
            (base, "") => (base, parts(after).1),
            named => named,
        },
    })
}

/// Whether this is the name of an index.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().and_then(|n| n.to_str()).is_some_and(|name| {
        name.contains(".safetensors.index.") && name.ends_with(".json") && variant(name).is_some()
    })
}

/// The index or file that a folder's checkpoint is, by the rule of [`Checkpoint::open`](crate::format::Checkpoint::open); or why
/// there is no such one.
pub(super) fn choose<'a>(names: &[&'a str]) -> Result<&'a str, String> {
    let index = "model.safetensors.index.json";
    for own in [index, "model.safetensors"] {
        if let Some(found) = names.iter().find(|n| **n == own) {
            return Ok(found);
        }
    }
    // Weights in Mistral's own layout as well are the same weights once more.
    let again = |name: &str| variant(name).is_some_and(|(base, _)| base == CONSOLIDATED);
    let only = !names.iter().any(|n| variant(n).is_some() && !again(n));
    let of_kind = |indices: bool| {
        let named = names.iter().copied().filter(move |n| only || !again(n));
        let named = named.filter(move |n| is_index(Path::new(n)) == indices);
        named.filter_map(|n| variant(n).map(|(base, variant)| (n, base, variant)))
    };
    let plain = |indices| -> Vec<&str> {
        of_kind(indices).filter(|(_, _, v)| v.is_empty()).map(|(n, ..)| n).collect()
    };
    let (indices, files) = (plain(true), plain(false));
    let refuse = |n: usize, kind: &str| Err(format!("{n} {kind} but no {index}; name one of them"));
    match (&indices[..], &files[..]) {
        ([one], _) | ([], [one]) => return Ok(one),
        ([_, ..], _) => return refuse(indices.len(), ".safetensors.index.json"),
        _ => {}
    }
    // Files of no variant may be the shards of an index that has one.
    let of_variants: Vec<_> = match of_kind(true).collect::<Vec<_>>() {
        none if none.is_empty() && files.is_empty() => {
            of_kind(false).filter(|(n, ..)| numbered(n).is_none()).collect()
        }
        indices => indices,
    };
    let of_model: Vec<_> = of_variants.iter().filter(|(_, base, _)| *base == "model").collect();
    let of_variants = if of_model.is_empty() { of_variants.iter().collect() } else { of_model };
    match (&of_variants[..], of_kind(false).count()) {
        ([first, rest @ ..], _) if rest.iter().all(|(_, base, _)| *base == first.1) => Ok(first.0),
        ([], 0) => Err(format!("the folder holds no {index} and no .safetensors file")),
        ([], n) => refuse(n, ".safetensors files"),
        (more, _) => refuse(more.len(), "variants of several checkpoints"),
    }
}

/// What [`choose`] says of the files of one variant; none where there are none.
pub(super) fn choose_variant<'a>(
    names: &[&'a str],
    wanted: &str,
) -> Option<Result<&'a str, String>> {
    let of_variant = |name: &&str| variant(name).is_some_and(|(_, of)| of == wanted);
    let names: Vec<&str> = names.iter().copied().filter(of_variant).collect();
    (!names.is_empty()).then(|| choose(&names))
}

/// That no file is of a variant, and of which they are.
pub(super) fn no_variant<'a>(wanted: &str, names: impl Iterator<Item = &'a String>) -> String {
    let variants: BTreeSet<&str> = names.filter_map(|n| variant(n)).map(|(_, v)| v).collect();
    let there: Vec<_> = variants.iter().filter(|v| !v.is_empty()).map(|v| quoted(v)).collect();
    let there = match &there[..] {
        [] => "it has none".into(),
        there => format!("there are: {}", there.join(", ")),
    };
    format!("no variant is called {}; {there}", quoted(wanted))
}

/// The checkpoint of Mistral's own layout.
pub(super) const CONSOLIDATED: &str = "consolidated";

/// Whether it is the name of a precision: such variants hold the same weights.
pub(super) fn is_precision(variant: &str) -> bool {
    let bits = ["float", "bfloat", "fp", "bf", "int", "f", "q"];
    bits.iter().any(|kind| {
        variant
            .strip_prefix(kind)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_convention_are_taken_apart() {
        for (name, expected) in [
            ("model.safetensors", Some(("model", ""))),
            ("model.fp16.safetensors", Some(("model", "fp16"))),
            ("model-00001-of-00002.safetensors", Some(("model", ""))),
            ("model.bf16-00001-of-00002.safetensors", Some(("model", "bf16"))),
            (
                "diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
                Some(("diffusion_pytorch_model", "fp16")),
            ),
            ("model.safetensors.index.json", Some(("model", ""))),
            ("model.safetensors.index.fp16.json", Some(("model", "fp16"))),
            ("model.fp16.safetensors.index.json", Some(("model", "fp16"))),
            ("one-of-us.safetensors", Some(("one-of-us", ""))),
            ("model.safetensors.index.txt", None),
            ("config.json", None),
        ] {
            assert_eq!(variant(name), expected, "{name}");
        }
        assert_eq!(numbered("a-00001-of-00002.safetensors"), Some(("a", "00002.safetensors")));
        assert_eq!(numbered("a-x-of-00002.safetensors"), None);
        assert!(is_index(Path::new("m/x.safetensors.index.fp16.json")));
        assert!(!is_index(Path::new("m/x.safetensors.index.fp16")));
        for (variant, expected) in [
            ("fp16", true),
            ("bf16", true),
            ("float32", true),
            ("q8_0", true),
            ("ema", false),
            ("", false),
            ("full", false),
        ] {
            assert_eq!(is_precision(variant), expected, "{variant}");
        }
    }
    #[test]
    fn a_folder_is_one_checkpoint_by_the_rule() {
        let choose = |names: &[&str]| super::choose(names).map(str::to_owned);
        let ok = |name: &str| Ok(name.to_owned());
        let (plain, fp16, bf16) = (
            "model.safetensors.index.json",
            "model.safetensors.index.fp16.json",
            "model.safetensors.index.bf16.json",
        );
        let (d, d16) =
            ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors");
        assert_eq!(choose(&["a.safetensors", fp16, plain, "model.safetensors"]), ok(plain));
        assert_eq!(
            choose(&[fp16, "x.safetensors.index.json", "model.safetensors"]),
            ok("model.safetensors")
        );
        assert_eq!(choose(&[fp16, "x.safetensors.index.json"]), ok("x.safetensors.index.json"));
        assert_eq!(choose(&[d16, d, "config.json"]), ok(d));
        assert_eq!(choose(&[d16, "config.json"]), ok(d16));
        assert_eq!(choose(&[fp16, bf16]), ok(fp16));
        assert_eq!(choose(&[fp16, "a.safetensors", "b.safetensors"]), ok(fp16));
        assert_eq!(choose(&["x.safetensors.index.fp16.json", bf16]), ok(bf16));
        assert_eq!(
            choose(&["model-00001-of-00001.safetensors"]),
            ok("model-00001-of-00001.safetensors")
        );
        let (mistral, of_mistral) =
            ("consolidated.safetensors", "consolidated.safetensors.index.json");
        assert_eq!(choose(&[mistral, "params.json"]), ok(mistral));
        assert_eq!(
            choose(&["consolidated-00001-of-00002.safetensors", of_mistral]),
            ok(of_mistral)
        );
        assert_eq!(choose(&[mistral, of_mistral, "x.safetensors"]), ok("x.safetensors"));
        assert_eq!(choose(&[of_mistral, d16]), ok(d16));
        let of_variant = |names: &[&str], wanted| {
            super::choose_variant(names, wanted).map(|found| found.map(str::to_owned))
        };
        assert_eq!(of_variant(&[plain, fp16, bf16], "bf16"), Some(ok(bf16)));
        assert_eq!(
            of_variant(&[d, d16, "model.fp16.safetensors"], "fp16"),
            Some(ok("model.fp16.safetensors"))
        );
        assert_eq!(of_variant(&[d, d16], "bf16"), None);
        assert!(matches!(
            of_variant(&["x.fp16.safetensors", "y.fp16.safetensors"], "fp16"),
            Some(Err(_))
        ));
        for (names, what) in [
            (&["x.safetensors", "y.safetensors"][..], "2 .safetensors files"),
            (
                &["x.safetensors.index.json", "y.safetensors.index.json"],
                "2 .safetensors.index.json",
            ),
            (&["x.fp16.safetensors", "y.fp16.safetensors"], "2 variants"),
            (
                &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
                "2 .safetensors files",
            ),
            (&["model.fp16-00001-of-00002.safetensors"], "1 .safetensors files"),
            (&["config.json"], "no model.safetensors.index.json and no .safetensors file"),
        ] {
            assert!(choose(names).unwrap_err().contains(what), "{names:?}: {:?}", choose(names));
        }
    }
}
