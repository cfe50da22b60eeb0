//! Pipelines: every module of one is compressed, and comes back. The binary is run, as a user would.

use crate::{
    folders::{index, names, refused, report, run, warnings, weights, write},
    resume::stop,
    support::{noise, tree, words_of, write_checkpoint},
};
use serde_json::{Value, json};
use std::{fs, path::Path};
use tersor::{DType, format::Checkpoint};

#[track_caller]
fn same_weights(a: &Path, b: &Path) {
    let [a, b] = [a, b].map(|p| Checkpoint::open(p).unwrap());
    assert_eq!(a.tensors.len(), b.tensors.len());
    for (s, t) in a.tensors.iter().zip(&b.tensors) {
        let [mut x, mut y] = [vec![0; s.bytes as usize], vec![0; t.bytes as usize]];
        a.read_at(s.file, s.offset(), &mut x).unwrap();
        b.read_at(t.file, t.offset(), &mut y).unwrap();
        assert!(s.name == t.name && x == y, "{}", s.name);
    }
}

/// A pipeline with a sharded module, one of two precisions, two with the same names, and one without weights.
pub(super) fn diffusers(root: &Path) {
    let unet = root.join("unet");
    let shard = |i| format!("diffusion_pytorch_model-0000{i}-of-00002.safetensors");
    weights(unet.join(shard(1)), DType::F32, &["conv_in.weight", "mid.0.to_q.weight"]);
    weights(unet.join(shard(2)), DType::F32, &["conv_out.weight", "up.0.to_k.weight"]);
    index(
        unet.join("diffusion_pytorch_model.safetensors.index.json"),
        &[
            ("up.0.to_k.weight", &shard(2)),
            ("conv_in.weight", &shard(1)),
            ("conv_out.weight", &shard(2)),
            ("mid.0.to_q.weight", &shard(1)),
        ],
    );
    for text in ["text_encoder", "text_encoder_2"] {
        let names = ["layers.0.self_attn.q_proj.weight", "layers.0.mlp.fc1.weight"];
        weights(root.join(text).join("model.safetensors"), DType::F32, &names);
        weights(root.join(text).join("model.fp16.safetensors"), DType::F16, &names);
    }
    weights(root.join("vae/diffusion_pytorch_model.safetensors"), DType::F32, &["encoder.weight"]);
    // Somebody else's.
    write(root.join("modules.json"), "{}");
    for module in ["unet", "text_encoder", "text_encoder_2", "vae"] {
        write(root.join(module).join("config.json"), "{}");
    }
    write(root.join("scheduler/scheduler_config.json"), "{}");
    weights(root.join("sd_xl.safetensors"), DType::F32, &["model.diffusion_model.weight"]);
    weights(root.join("extra/adapter.safetensors"), DType::F32, &["lora.weight"]);
    let module = |library: &str| json!([library, "Model"]);
    let listed = json!({
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros": true,
        "scheduler": module("diffusers"),
        "text_encoder": module("transformers"),
        "text_encoder_2": module("transformers"),
        "unet": module("diffusers"),
        "vae": module("diffusers"),
        "image_encoder": [null, null],
    });
    write(root.join("model_index.json"), listed.to_string());
}

const PIPELINE: [&str; 9] = [
    "text_encoder/layers.0.mlp.fc1.weight",
    "text_encoder/layers.0.self_attn.q_proj.weight",
    "text_encoder_2/layers.0.mlp.fc1.weight",
    "text_encoder_2/layers.0.self_attn.q_proj.weight",
    "unet/conv_in.weight",
    "unet/mid.0.to_q.weight",
    "unet/conv_out.weight",
    "unet/up.0.to_k.weight",
    "vae/encoder.weight",
];

#[test]
fn every_module_of_a_pipeline_is_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    diffusers(&at("sdxl"));
    let made = report(dir.path(), "compress sdxl -o out --preset int8");
    let mut found = names(&made);
    found.sort();
    let mut expected = PIPELINE;
    expected.sort();
    assert_eq!(found, expected);
    assert!(made["tensors"].as_array().unwrap().iter().all(|t| t["method"] == "int8 per channel"));
    let other =
        "it belongs to the same weights in another precision; --variant fp16 takes it instead";
    assert_eq!(
        warnings(&made),
        [
            "sd_xl.safetensors is left out: model_index.json does not name it; compress it by itself",
            &format!("text_encoder/model.fp16.safetensors is left out: {other}"),
            &format!("text_encoder_2/model.fp16.safetensors is left out: {other}"),
            "extra/adapter.safetensors is carried bit for bit: it is no part of the checkpoint itself",
        ]
    );
    // What is reported adds up.
    let bytes = |list: &Value| {
        list.as_array().unwrap().iter().map(|x| x["bytes"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(
        bytes(&made["tensors"]) + bytes(&made["overhead"]),
        made["output_bytes"].as_u64().unwrap()
    );
    let on_disk: u64 = tree(&at("out")).values().map(|b| b.len() as u64).sum();
    assert_eq!(on_disk, made["output_bytes"].as_u64().unwrap());
    // Each module is an archive that stands alone, with its own names, which any reader sees.
    report(&at("out"), "verify unet");
    let encoder = fs::read(at("out/text_encoder/model.safetensors")).unwrap();
    let encoder = safetensors::SafeTensors::deserialize(&encoder).unwrap();
    assert!(encoder.names().contains(&"layers.0.mlp.fc1.weight.codes"), "{:?}", encoder.names());

    let verified = report(dir.path(), "verify out --against sdxl");
    assert_eq!(names(&verified), names(&made));
    let restored = report(dir.path(), "decompress out -o back");
    assert_eq!(names(&restored), names(&made));
    let mut expected: Vec<_> = tree(&at("sdxl")).into_keys().collect();
    expected.retain(|p| !p.contains("fp16") && p != "sd_xl.safetensors");
    for folder in ["out", "back"] {
        assert_eq!(tree(&at(folder)).into_keys().collect::<Vec<_>>(), expected);
    }
    report(dir.path(), "compress sdxl -o exact --preset lossless");
    report(dir.path(), "decompress exact -o exactly");
    same_weights(&at("exactly"), &at("sdxl"));
    // A module is named before a slash, or not at all.
    let planned = report(dir.path(), "plan sdxl --preset int8 --keep vae/* --set *.mlp.*=int4");
    let of = |name: &str| {
        let all = planned["tensors"].as_array().unwrap();
        all.iter().find(|t| t["name"] == name).unwrap()["method"].as_str().unwrap().to_owned()
    };
    assert_eq!(of("vae/encoder.weight"), "kept");
    assert_eq!(of("text_encoder_2/layers.0.mlp.fc1.weight"), "int4 per channel");
    assert_eq!(of("unet/conv_in.weight"), "int8 per channel");
    let said = String::from_utf8(run(dir.path(), "plan sdxl --preset int8 -q").stderr).unwrap();
    assert!(said.contains("sd_xl.safetensors is left out"), "{said}");
    assert_eq!(names(&report(dir.path(), "inspect sdxl")).len(), 9);
    // Again, over the old one, with a shard of another number of them.
    write(at("out/unet/diffusion_pytorch_model.safetensors"), "x");
    report(dir.path(), "compress sdxl -o out --preset int8 --force");
    write(at("out/unet/notes.txt"), "x");
    refused(
        dir.path(),
        "compress sdxl -o out --preset int8 --force",
        "unet/notes.txt in it is no part",
    );
}

#[test]
fn a_flipped_bit_of_a_module_is_found_and_its_config_counts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    diffusers(&at("sdxl"));
    write(at("sdxl/vae/config.json"), r#"{"quantization_config": {"quant_method": "gptq"}}"#);
    write(at("sdxl/text_encoder/config.json"), r#"{"vocab_size": 64}"#);
    let made = report(dir.path(), "compress sdxl -o out --preset int4");
    let of = |name: &str| {
        let all = made["tensors"].as_array().unwrap();
        all.iter().find(|t| t["name"] == name).unwrap()["method"].as_str().unwrap().to_owned()
    };
    // Quantized already, embeddings by their number of rows; neither in the other modules.
    assert_eq!(of("vae/encoder.weight"), "kept");
    assert_eq!(of("text_encoder/layers.0.mlp.fc1.weight"), "int8 per channel");
    assert_eq!(of("text_encoder_2/layers.0.mlp.fc1.weight"), "int4 per channel");
    let marked = "already quantized: quantization_config in vae/config.json, gptq: 1 tensor is carried as it is";
    assert!(warnings(&made).contains(&marked), "{:?}", warnings(&made));
    for file in [
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        let path = at("out").join(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(&path, bad).unwrap();
        let done = run(dir.path(), "verify out");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(1) && said.contains(file), "{said}");
        fs::write(&path, good).unwrap();
    }
    write(at("sdxl/model_index.json"), r#"{"../sdxl": ["a", "b"]}"#);
    refused(
        dir.path(),
        "plan sdxl --preset int8",
        "module \"../sdxl\", expected a folder within this one",
    );
}

#[test]
fn an_interrupted_pipeline_goes_on_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    diffusers(&at("sdxl"));
    let words = words_of(DType::F32, &noise(7, 1 << 20));
    write_checkpoint(
        &at("sdxl/vae/diffusion_pytorch_model.safetensors"),
        &[("encoder.weight", DType::F32, vec![1024, 1024], words)],
    );
    report(dir.path(), "compress sdxl -o whole --preset palette8");
    let job = "compress sdxl -o out --preset palette8 --resume --threads 1 --device cpu --json";
    stop(dir.path(), job, 3, "KILL");
    assert!(at("out.partial/output/unet").is_dir() && !at("out").exists(), "it was too quick");
    write(at("out.partial/output/unet/half.safetensors"), "torn");
    write(at("out.partial/output/scheduler/scheduler_config.json"), "torn");
    let resumed = report(dir.path(), job.strip_suffix(" --device cpu --json").unwrap());
    assert!(resumed["resumed_files"].as_u64().unwrap() >= 3, "{resumed}");
    assert_eq!(tree(&at("out")), tree(&at("whole")));
    assert!(!at("out.partial").exists());
}

#[test]
fn modules_of_sentence_transformers_are_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    let modules = |paths: &[&str]| {
        let all: Vec<_> = paths.iter().map(|p| json!({"path": p, "type": "a.b"})).collect();
        json!(all).to_string()
    };
    // The transformer at the root, or in a folder of its own; pooling has no weights, and one dense layer is an old pickle.
    for (model, transformer) in [("root", ""), ("own", "0_Transformer")] {
        let root = at(model);
        weights(
            root.join(transformer).join("model.safetensors"),
            DType::F32,
            &["embeddings.word_embeddings.weight", "layer.0.weight"],
        );
        write(root.join("1_Pooling/config.json"), "{}");
        weights(root.join("2_Dense/model.safetensors"), DType::F32, &["linear.weight"]);
        write(root.join("3_Dense/pytorch_model.bin"), "PK");
        write(
            root.join("modules.json"),
            modules(&[transformer, "1_Pooling", "2_Dense", "3_Dense"]),
        );
        let made = report(dir.path(), &format!("compress {model} -o {model}-small --preset int8"));
        let prefix = if transformer.is_empty() { "" } else { "0_Transformer/" };
        let mut found = names(&made);
        found.sort();
        let expected = [
            "2_Dense/linear.weight".to_owned(),
            format!("{prefix}embeddings.word_embeddings.weight"),
            format!("{prefix}layer.0.weight"),
        ];
        let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(
            warnings(&made),
            [
                "3_Dense/pytorch_model.bin is carried bit for bit: it is no part of the checkpoint itself"
            ]
        );
        report(dir.path(), &format!("verify {model}-small --against {model}"));
        report(dir.path(), &format!("decompress {model}-small -o {model}-back"));
        let keys = |p: String| tree(&at(&p)).into_keys().collect::<Vec<_>>();
        assert_eq!(keys(format!("{model}-back")), keys(model.into()));
    }
}
