//! Folders as people have them: variants, the Hub's cache, other formats; and where outputs go. The binary is run, as a user
//! would.

use crate::{
    modules::diffusers,
    support::{noise, tersor, tree, words_of, write_checkpoint},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Output};
use tersor::DType;

pub(super) fn run(dir: &Path, args: &str) -> Output {
    tersor().args(args.split(' ')).args(["--device", "cpu"]).current_dir(dir).output().unwrap()
}

#[track_caller]
pub(super) fn report(dir: &Path, args: &str) -> Value {
    let done = run(dir, &format!("{args} --json"));
    assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// A job is refused in these words, and changes nothing.
#[track_caller]
pub(super) fn refused(dir: &Path, args: &str, what: &str) {
    let before = tree(dir);
    let done = run(dir, args);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(2) && said.contains(what), "{args}: {said}");
    assert_eq!(before.keys().collect::<Vec<_>>(), tree(dir).keys().collect::<Vec<_>>(), "{args}");
}

pub(super) fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A file with these matrices of 64 x 128, in a type.
pub(super) fn weights(path: impl AsRef<Path>, dtype: DType, names: &[&str]) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    let words = |i: usize| words_of(dtype, &noise(i as u64, 64 * 128));
    let all: Vec<_> =
        names.iter().enumerate().map(|(i, n)| (*n, dtype, vec![64, 128], words(i))).collect();
    write_checkpoint(path.as_ref(), &all);
}

pub(super) fn index(path: impl AsRef<Path>, pairs: &[(&str, &str)]) {
    let pairs: Vec<_> = pairs.iter().map(|(t, s)| format!("{}: {}", json!(t), json!(s))).collect();
    write(path, format!(r#"{{"weight_map": {{{}}}}}"#, pairs.join(", ")));
}

pub(super) fn names(report: &Value) -> Vec<&str> {
    report["tensors"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect()
}

pub(super) fn warnings(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect()
}

#[test]
fn one_variant_is_chosen_and_the_others_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    for (variant, dtype) in [("", DType::F32), (".fp16", DType::F16), (".ema", DType::F32)] {
        weights(at(&format!("model/model{variant}.safetensors")), dtype, &["a.weight"]);
    }
    let made = |flag: &str| {
        report(dir.path(), &format!("compress model -o out --preset int8 --force{flag}"))
    };
    let (plain, half) = (made(""), made(" --variant fp16"));
    let type_of = |r: &Value| r["tensors"][0]["dtype"].as_str().unwrap().to_owned();
    assert_eq!([type_of(&plain), type_of(&half)], ["F32", "F16"]);
    assert_eq!(
        warnings(&half),
        [
            "model.ema.safetensors is left out: it is another variant than the one that was asked for",
            "model.safetensors is left out: it belongs to the same weights in another precision; it is what is taken without --variant",
        ]
    );
    assert_eq!(tree(&at("out")).into_keys().collect::<Vec<_>>(), ["model.fp16.safetensors"]);
    // Never carried in silence, and never at full size: half as many bytes in, half as many out.
    let ratio = |r: &Value| r["ratio"].as_f64().unwrap();
    assert!(ratio(&half) > 1.8 && half["input_bytes"].as_u64() < plain["input_bytes"].as_u64());
    report(dir.path(), "verify out --against model --variant fp16");
    let other = run(dir.path(), "verify out --against model");
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(other.status.code() == Some(1) && said.contains("there F32"), "{said}");
    let planned = report(dir.path(), "plan model --preset int8 --variant fp16");
    assert_eq!(planned["tensors"][0]["dtype"], "F16");
    assert_eq!(report(dir.path(), "inspect model --variant ema")["tensors"][0]["dtype"], "F32");
    for job in ["plan model --preset int8", "compress model -o new --preset int8", "inspect model"]
    {
        let why = "model: no variant is called \"bf16\"; there are: \"ema\", \"fp16\"";
        refused(dir.path(), &format!("{job} --variant bf16"), why);
    }
    refused(dir.path(), "plan out --preset int8 --variant int8", "there are: \"fp16\"");
    refused(
        dir.path(),
        "plan model/model.fp16.safetensors --preset int8 --variant fp16",
        "is no folder, of whose variants one is chosen: name it alone",
    );
    // Of a pipeline the modules that have it; the others as they are.
    diffusers(&at("sdxl"));
    let half = report(dir.path(), "compress sdxl -o half --preset int8 --variant fp16");
    let types: Vec<_> =
        half["tensors"].as_array().unwrap().iter().map(|t| t["dtype"].as_str().unwrap()).collect();
    assert_eq!(types.iter().filter(|t| **t == "F16").count(), 4, "{types:?}");
    assert!(!at("half/text_encoder/model.safetensors").exists());
    report(dir.path(), "verify half --against sdxl --variant fp16");
    refused(dir.path(), "plan sdxl --preset int8 --variant bf16", "there are: \"fp16\"");
}

#[test]
fn mistrals_own_layout_is_left_out_beside_the_usual_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    let shard = |i| format!("model-0000{i}-of-00002.safetensors");
    for (i, name) in [(1, "a.weight"), (2, "b.weight")] {
        weights(at("mistral").join(shard(i)), DType::F32, &[name]);
    }
    index(
        at("mistral/model.safetensors.index.json"),
        &[("a.weight", &shard(1)), ("b.weight", &shard(2))],
    );
    for model in ["mistral", "only"] {
        weights(
            at(model).join("consolidated.safetensors"),
            DType::F32,
            &["layers.0.wq.weight", "layers.0.wk.weight"],
        );
        write(at(model).join("params.json"), "{}");
    }
    let made = report(dir.path(), "compress mistral -o out --preset int8");
    assert_eq!(
        warnings(&made),
        [
            "consolidated.safetensors is left out: it holds the same weights once more, in Mistral's own layout"
        ]
    );
    assert_eq!(names(&made), ["a.weight", "b.weight"]);
    assert!(made["ratio"].as_f64().unwrap() > 3.0, "{}", made["ratio"]);
    let only = report(dir.path(), "compress only -o small --preset int8");
    assert_eq!(names(&only).len(), 2);
    assert_eq!(
        tree(&at("small")).into_keys().collect::<Vec<_>>(),
        ["consolidated.safetensors", "params.json"]
    );
}

#[test]
fn a_folder_of_the_hubs_cache_stands_for_its_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    let root = "hub/models--org--name";
    weights(at(root).join("blobs/0123"), DType::F32, &["a.weight"]);
    write(at(root).join("blobs/4567"), "{}");
    let snapshot = |hash: &str| {
        let folder = at(root).join("snapshots").join(hash);
        fs::create_dir_all(&folder).unwrap();
        for (blob, name) in [("0123", "model.safetensors"), ("4567", "config.json")] {
            std::os::unix::fs::symlink(format!("../../blobs/{blob}"), folder.join(name)).unwrap();
        }
    };
    snapshot("aaaa");
    let made = |input: &str| {
        let made = report(dir.path(), &format!("compress {input} -o out --preset int8 --force"));
        assert_eq!(names(&made), ["a.weight"], "{input}");
        assert_eq!(
            tree(&at("out")).into_keys().collect::<Vec<_>>(),
            ["config.json", "model.safetensors"]
        );
    };
    for input in [root, "hub", "hub/models--org--name/snapshots/aaaa"] {
        made(input);
    }
    report(dir.path(), &format!("verify out --against {root}"));
    // Of several that of refs/main.
    fs::create_dir(at(root).join("snapshots/bbbb")).unwrap();
    let several = "snapshots: 2 snapshots, and refs/main names none of them; name one of them: ";
    refused(dir.path(), &format!("plan {root} --preset int8"), several);
    write(at(root).join("refs/main"), "cccc");
    refused(
        dir.path(),
        &format!("plan {root} --preset int8"),
        "snapshots/aaaa, hub/models--org--name/snapshots/bbbb",
    );
    write(at(root).join("refs/main"), "aaaa\n");
    made(root);
    fs::create_dir_all(at("hub/models--org--other/snapshots/dddd")).unwrap();
    refused(
        dir.path(),
        "plan hub --preset int8",
        "hub: 2 models; name one of them: hub/models--org--name, hub/models--org--other",
    );
    refused(dir.path(), "plan hub/models--org--other --preset int8", "no .safetensors file");
}

#[test]
fn a_name_on_the_hub_is_no_path() {
    let dir = tempfile::tempdir().unwrap();
    for (given, model, name) in [
        ("org/Some-Model_1.5", "org/Some-Model_1.5", "Some-Model_1.5"),
        ("https://huggingface.co/org/name/tree/main", "org/name", "name"),
        ("hf://org/name", "org/name", "name"),
    ] {
        for job in [
            "plan GIVEN --preset int8",
            "inspect GIVEN",
            "verify GIVEN",
            "compress GIVEN -o out --preset int8",
        ] {
            let why = format!(
                "tersor: {given}: no such file or folder. If {model} is a model on the Hugging Face Hub, download it first: \
                 hf download {model} --local-dir {name}\n"
            );
            refused(dir.path(), &job.replace("GIVEN", given), &why);
        }
    }
    fs::create_dir(dir.path().join("models")).unwrap();
    for path in ["models/name", "name", "a/b/c", "../a/b", "org/model.safetensors", "./org/name"] {
        refused(dir.path(), &format!("inspect {path}"), "No such file or directory");
    }
}

#[test]
fn weights_in_other_formats_are_named_with_what_makes_them_readable() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    let zip = |first: &str| {
        let len = [first.len() as u8, 0, 0, 0];
        [&b"PK\x03\x04"[..], &[0; 22], &len, first.as_bytes()].concat()
    };
    let none = "the folder holds no model.safetensors.index.json and no .safetensors file; ";
    for (i, (name, bytes, what)) in [
        ("pytorch_model.bin", zip("archive/data.pkl"), "a PyTorch checkpoint, a zip archive of a pickle; this makes one: python3 -c 'import sys, torch;"),
        ("pytorch_model-00001-of-00002.bin", b"\x80\x02}q\x00X\x01\0\0".to_vec(), "a Python pickle, as PyTorch writes them; this makes one: python3"),
        ("weights.data", b"GGUF\x03\0\0\0\x01\0\0\0".to_vec(), "a GGUF file, which is quantized already if it is not F32 or F16; "),
        ("onnx/model.onnx", b"\x08\x08\x12\x07pytorch".to_vec(), "an ONNX file; this makes one: python3 -c 'import sys, onnx;"),
        ("vad.jit", zip("vad/data/0"), "a TorchScript archive; this makes one: python3 -c 'import sys, torch; "),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n\0\0".to_vec(), "an HDF5 file; this makes one: "),
        ("model.npz", zip("w.npy"), "a NumPy archive; this makes one: "),
        ("flax_model.msgpack", b"\x82\xa4bert\x81".to_vec(), "a Flax checkpoint, in MessagePack; this makes one: "),
        ("model.bin", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a Git LFS pointer; the file itself was not fetched; this helps: git lfs pull --include "),
    ].into_iter().enumerate() {
        let folder = format!("m{i}");
        write(at(&folder).join("config.json"), "{}");
        write(at(&folder).join(name), &bytes);
        let what = format!("{folder}: {none}{name} in it is {what}");
        refused(dir.path(), &format!("compress {folder} -o out --preset int8"), &what);
        // The command names the file as it is to be found.
        refused(dir.path(), &format!("plan {folder} --preset int8"), &format!(" {folder}/{name}"));
    }
    write(at("empty/config.json"), "{}");
    refused(dir.path(), "plan empty --preset int8", "no .safetensors file\n");
    // A file, with a name that a shell would take apart.
    write(at("it's.bin"), zip("archive/data.pkl"));
    let done = tersor()
        .args(["inspect", "it's.bin", "--device", "cpu"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.trim_end().ends_with(r"' 'it'\''s.bin' 'it'\''s.safetensors'"), "{said}");
    // Beside weights: whatever it is called.
    weights(at("both/model.safetensors"), DType::F32, &["a.weight"]);
    write(at("both/quantized"), b"GGUF\x03\0\0\0\x01\0\0\0");
    write(at("both/spiece.model"), b"\x0a\x0e\x0a\x05<unk>");
    let made = report(dir.path(), "compress both -o small --preset int8");
    assert_eq!(
        warnings(&made),
        [
            "quantized is left out: it holds weights in another format: it is a GGUF file, which is quantized already if it is not F32 or F16"
        ]
    );
    assert_eq!(
        tree(&at("small")).into_keys().collect::<Vec<_>>(),
        ["model.safetensors", "spiece.model"]
    );
}

#[test]
fn an_output_is_put_where_it_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    weights(at("a.safetensors"), DType::F32, &["a.weight"]);
    weights(at("model/model.safetensors"), DType::F32, &["a.weight"]);
    // A file into a folder, of which the parents are made.
    fs::create_dir(at("there")).unwrap();
    for output in ["there", "new/er/", "there/b.safetensors", "x/y/z"] {
        report(dir.path(), &format!("compress a.safetensors -o {output} --preset int8"));
    }
    for made in ["there/a.safetensors", "new/er/a.safetensors", "there/b.safetensors", "x/y/z"] {
        assert!(at(made).is_file(), "{made}");
    }
    refused(
        dir.path(),
        "compress a.safetensors -o there --preset int8",
        "there/a.safetensors exists already",
    );
    refused(
        dir.path(),
        "compress a.safetensors -o . --preset int8",
        "./a.safetensors is the input itself",
    );
    report(dir.path(), "decompress there/b.safetensors -o back/");
    assert!(at("back/b.safetensors").is_file());
    report(dir.path(), "compress model -o p/q/out --preset int8");
    assert!(at("p/q/out/model.safetensors").is_file());
    report(dir.path(), "compress model -o r/s/out --preset int8 --resume");
    // Beside the recipe, which it spares.
    write(
        at("r/mine.toml"),
        "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"affine\", bits = 8 }\n",
    );
    report(dir.path(), "compress a.safetensors -o r --recipe r/mine.toml");
    assert!(at("r/a.safetensors").is_file());
    // What is not made leaves no folders either, nor what is found wanting when it is there.
    let far = run(dir.path(), "compress a.safetensors -o f/g/h --preset int4 --max-error 0.0001");
    assert_eq!((far.status.code(), at("f").exists()), (Some(1), false));
    write(at("bad.toml"), "version = 1\n[[rule]]\nmatch = \"nothing\"\nkeep = true\n");
    for input in ["a.safetensors", "model"] {
        refused(
            dir.path(),
            &format!("compress {input} -o v/w/out --recipe bad.toml"),
            "no rule matches",
        );
    }
    for output in [
        "-",
        "x.safetensors",
        "new/x.SAFETENSORS",
        "model/small",
        "model/new/small",
        "model/../model/x",
    ] {
        let why = match output {
            "-" => {
                "-o -: an output is written, read again and only then put in its place, which a pipe is not; name a file"
            }
            "x.safetensors" => {
                "x.safetensors is the name of a file, and model a folder, which becomes a folder; name a folder"
            }
            "new/x.SAFETENSORS" => "is the name of a file",
            _ => {
                "lies in the input model, of which it would be a part the next time; name an output outside of it"
            }
        };
        refused(dir.path(), &format!("compress model -o {output} --preset int8"), why);
    }
    refused(&at("model"), "compress . -o small --preset int8", "small lies in the input .,");
    refused(dir.path(), "compress a.safetensors -o - --preset int8", "-o -: ");
    refused(dir.path(), "decompress p/q/out -o p/q/out/back", "lies in the input p/q/out");
    // A folder that is called so is one.
    fs::create_dir(at("odd.safetensors")).unwrap();
    report(dir.path(), "compress model -o odd.safetensors --preset int8 --force");
}

#[test]
fn an_index_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    weights(at("model/one.safetensors"), DType::F32, &["b.weight", "d.weight", "norm.weight"]);
    weights(at("model/two.safetensors"), DType::F32, &["a.weight", "c.weight"]);
    let order = ["d.weight", "a.weight", "norm.weight", "c.weight", "b.weight"];
    let shard = |t: &str| {
        if ["a.weight", "c.weight"].contains(&t) { "two.safetensors" } else { "one.safetensors" }
    };
    index(at("model/model.safetensors.index.json"), &order.map(|t| (t, shard(t))));
    write(at("model/.gitattributes"), "*.safetensors filter=lfs\n");
    let listed = |folder: &str| {
        let text = fs::read_to_string(at(folder).join("model.safetensors.index.json")).unwrap();
        let lines = text.lines().filter(|l| l.contains(".safetensors\""));
        lines.map(|l| l.trim().split('"').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (job, out) in [
        ("--preset int8 --resume", "out"),
        ("--preset int8", "again"),
        ("--preset coded4", "coded"),
    ] {
        report(dir.path(), &format!("compress model -o {out} {job}"));
        let mut tensors: Vec<_> = listed(out)
            .iter()
            .map(|n| {
                let end = n.find(".weight").unwrap() + ".weight".len();
                n[..end].to_owned()
            })
            .collect();
        tensors.dedup();
        assert_eq!(tensors, order, "{:?}", listed(out));
        report(dir.path(), &format!("decompress {out} -o {out}-back"));
        assert_eq!(listed(&format!("{out}-back")), order);
        assert!(at(out).join(".gitattributes").is_file());
    }
    assert_eq!(tree(&at("out")), tree(&at("again")));
    // Another order is another index, and any other text is none of ours.
    let path = at("out/model.safetensors.index.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("    \"", "   \"")).unwrap();
    let done = run(dir.path(), "verify out");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(1) && said.contains("its text: digest mismatch"), "{said}");
}

#[test]
fn a_single_file_reads_the_config_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    weights(at("model/part.safetensors"), DType::F32, &["table.weight"]);
    let method = || {
        let planned = report(dir.path(), "plan model/part.safetensors --preset int4");
        planned["tensors"][0]["method"].as_str().unwrap().to_owned()
    };
    assert_eq!(method(), "int4 per channel");
    write(at("model/config.json"), r#"{"vocab_size": 64}"#);
    assert_eq!(method(), "int8 per channel");
    write(at("model/config.json"), r#"{"quantization_config": {"bits": 4}}"#);
    assert_eq!(method(), "kept");
}
