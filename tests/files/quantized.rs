//! Checkpoints that are quantized already: what is codes, and what only looks like them.

use crate::support::{CPU, options, splitmix64, write_checkpoint};
use std::{collections::BTreeSet, fs, path::Path};
use tersor::{
    DType::{self, BF16, Bool, F4, F8E4M3, F8E8M0, F16, F32, I8, I16, I32, I64, U8, U32},
    format::{Checkpoint, already_quantized},
    pipeline::{compress, decompress},
    plan::{Action, Plan},
    recipe::Recipe,
};

pub type Kind = (DType, &'static [usize]);

/// Treats whatever it may.
const EVERYTHING: &str = r#"version = 1
[[rule]]
match = "*"
quantize = { kind = "affine", bits = 4, symmetric = true, granularity = "tensor", objective = "range" }
"#;

pub fn write(path: &Path, tensors: &[(&str, Kind)]) {
    let tensor = |(name, (dtype, shape)): &(&'static str, Kind)| {
        let elements: usize = shape.iter().product();
        let words = vec![0x3e12_3456; tersor::words(*dtype, elements)];
        (*name, *dtype, shape.to_vec(), words)
    };
    // The crate wants names that live as long as the test.
    let owned: Vec<(&'static str, Kind)> =
        tensors.iter().map(|(n, k)| (&*n.to_string().leak(), *k)).collect();
    let all: Vec<_> = owned.iter().map(tensor).collect();
    write_checkpoint(path, &all);
}

/// The names of what is carried because it is quantized already, and what is said of them.
pub fn carried(path: &Path) -> (BTreeSet<String>, Option<String>) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let plan = Plan::new(&checkpoint, &Recipe::parse(EVERYTHING).unwrap(), 1 << 20, 2).unwrap();
    let found = already_quantized(&checkpoint).unwrap();
    let mut names = BTreeSet::new();
    for ((t, step), reason) in checkpoint.tensors.iter().zip(&plan.steps).zip(&found.reasons) {
        let said = match &step.action {
            Action::Keep(why) => why.contains("already quantized"),
            Action::Treat(_) => false,
        };
        assert_eq!(said, reason.is_some(), "{}", t.name);
        if said {
            names.insert(t.name.clone());
        }
    }
    let remark = found.remark(names.len());
    assert_eq!(remark.is_some(), !names.is_empty());
    assert_eq!(plan.remarks, Vec::from_iter(remark.clone()));
    (names, remark)
}

/// What every case has beside its module.
const PLAIN: [(&str, Kind); 4] = [
    ("model.embed_tokens.weight", (BF16, &[64, 128])),
    ("model.layers.0.input_layernorm.weight", (BF16, &[128])),
    ("model.layers.0.mlp.gate.weight", (BF16, &[64, 128])),
    ("lm_head.weight", (BF16, &[64, 128])),
];

const Q: &str = "model.layers.0.self_attn.q_proj.";

#[test]
fn every_published_layout_of_codes_is_carried_whole() {
    let layouts: &[(&str, &[(&str, Kind)])] = &[
        (
            "packed codes of MLX",
            &[
                ("weight", (U32, &[64, 16])),
                ("scales", (BF16, &[64, 2])),
                ("biases", (BF16, &[64, 2])),
                ("bias", (BF16, &[64])),
            ],
        ),
        ("packed codes of MLX", &[("weight", (U32, &[64, 16])), ("scales", (U8, &[64, 4]))]),
        (
            "packed codes of MLX",
            &[
                ("weight", (U32, &[1, 16])),
                ("scales", (BF16, &[1, 2])),
                ("biases", (BF16, &[1, 2])),
            ],
        ),
        (
            "packed codes of compressed-tensors",
            &[
                ("weight_packed", (I32, &[64, 16])),
                ("weight_scale", (BF16, &[64, 1])),
                ("weight_shape", (I64, &[2])),
                ("weight_zero_point", (I32, &[8, 1])),
                ("bias", (BF16, &[64])),
            ],
        ),
        (
            "packed codes of compressed-tensors",
            &[
                ("weight_packed", (U8, &[64, 64])),
                ("weight_scale", (F8E4M3, &[64, 8])),
                ("weight_global_scale", (F32, &[1])),
            ],
        ),
        (
            "integer codes",
            &[
                ("weight", (I8, &[4096, 32])),
                ("weight_scale", (F32, &[4096, 1])),
                ("bias", (F32, &[4096])),
            ],
        ),
        ("integer codes", &[("weight", (I8, &[1, 4096])), ("weight_scale", (F32, &[1, 1]))]),
        (
            "integer codes",
            &[
                ("weight", (I8, &[64, 128])),
                ("weight_scale", (BF16, &[64, 4])),
                ("input_scale", (F32, &[1])),
            ],
        ),
        (
            "codes of torchao",
            &[
                ("_weight_qdata", (I8, &[64, 128])),
                ("_weight_scale", (F32, &[64, 32])),
                ("_weight_zero_point", (I8, &[64, 32])),
            ],
        ),
        (
            "codes of torchao",
            &[("_weight_qdata", (F8E4M3, &[64, 128])), ("_weight_scale", (F32, &[64, 1]))],
        ),
        (
            "codes of HQQ",
            &[
                ("W_q", (U8, &[32, 128])),
                ("scale", (F16, &[128, 1])),
                ("zero", (F16, &[128, 1])),
                ("nbits", (I64, &[])),
                ("shape", (I64, &[2])),
            ],
        ),
        (
            "codes of quanto",
            &[
                ("weight._data", (I8, &[64, 128])),
                ("weight._scale", (BF16, &[64, 1])),
                ("input_scale", (BF16, &[])),
                ("bias", (BF16, &[64])),
            ],
        ),
        (
            "codes of quanto",
            &[
                ("weight._data._data", (U8, &[32, 128])),
                ("weight._scale", (BF16, &[64, 1])),
                ("weight._shift", (BF16, &[64, 1])),
            ],
        ),
        (
            "codes of AQLM",
            &[
                ("codes", (I16, &[64, 16, 1])),
                ("codebooks", (F16, &[1, 256, 1, 8])),
                ("scales", (F16, &[64, 1, 1, 1])),
            ],
        ),
        (
            "packed integers of GPTQ or AWQ",
            &[
                ("qweight", (I32, &[16, 64])),
                ("qzeros", (I32, &[1, 8])),
                ("scales", (F16, &[1, 64])),
                ("g_idx", (I32, &[128])),
                ("bias", (F16, &[64])),
            ],
        ),
        (
            "4-bit codes of bitsandbytes",
            &[
                ("weight", (U8, &[4096, 1])),
                ("weight.absmax", (U8, &[128])),
                ("weight.quant_map", (F32, &[16])),
                ("weight.nested_absmax", (F32, &[1])),
                ("weight.nested_quant_map", (F32, &[256])),
                ("weight.quant_state.bitsandbytes__nf4", (U8, &[80])),
                ("bias", (F16, &[64])),
            ],
        ),
        (
            "8-bit integers of bitsandbytes",
            &[("weight", (I8, &[64, 128])), ("SCB", (F32, &[64])), ("weight_format", (U8, &[]))],
        ),
        (
            "FP8 with scales",
            &[
                ("weight", (F8E4M3, &[64, 128])),
                ("weight_scale_inv", (F32, &[1, 1])),
                ("bias", (BF16, &[64])),
            ],
        ),
        (
            "FP8 with scales",
            &[
                ("weight", (F8E4M3, &[64, 128])),
                ("weight_scale", (F32, &[])),
                ("input_scale", (F32, &[])),
            ],
        ),
        ("FP8 with scales", &[("weight", (F8E4M3, &[64, 128])), ("weight_scale", (U8, &[64, 4]))]),
        (
            "codes of ComfyUI",
            &[
                ("weight", (F8E4M3, &[64, 128])),
                ("scale_weight", (F32, &[1])),
                ("scale_input", (F32, &[1])),
            ],
        ),
        (
            "codes of ComfyUI",
            &[
                ("weight", (U8, &[64, 64])),
                ("weight_scale", (F8E4M3, &[128, 8])),
                ("weight_scale_2", (F32, &[])),
                ("comfy_quant", (U8, &[19])),
            ],
        ),
        (
            "blocks of MXFP4",
            &[
                ("gate_up_proj_blocks", (U8, &[2, 64, 4, 16])),
                ("gate_up_proj_scales", (U8, &[2, 64, 4])),
                ("gate_up_proj_bias", (BF16, &[2, 64])),
                ("down_proj_blocks", (U8, &[2, 64, 4, 16])),
                ("down_proj_scales", (U8, &[2, 64, 4])),
                ("down_proj_bias", (BF16, &[2, 64])),
            ],
        ),
        (
            "integer codes",
            &[
                ("weight", (U8, &[64, 64])),
                ("weight_scale", (F8E4M3, &[64, 8])),
                ("weight_scale_2", (F32, &[])),
                ("input_scale", (F32, &[])),
            ],
        ),
        (
            "floats of less than a byte",
            &[
                ("weight", (F4, &[64, 128])),
                ("weight_scale", (F8E8M0, &[64, 4])),
                ("bias", (BF16, &[64])),
            ],
        ),
        (
            "integer codes",
            &[("qtrellis", (I16, &[8, 8, 48])), ("suh", (F16, &[128])), ("svh", (F16, &[128]))],
        ),
        (
            "integer codes",
            &[("Qidxs", (I64, &[64, 16])), ("SU", (F16, &[128])), ("Wscale", (F32, &[]))],
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (i, (words, members)) in layouts.iter().enumerate() {
        let path = dir.path().join(format!("{i}.safetensors"));
        let module: Vec<_> = members.iter().map(|(n, k)| (format!("{Q}{n}"), *k)).collect();
        let mut all: Vec<_> = module.iter().map(|(n, k)| (n.as_str(), *k)).collect();
        all.extend(PLAIN);
        write(&path, &all);
        let (names, remark) = carried(&path);
        let expected: BTreeSet<_> = module.iter().map(|(n, _)| n.clone()).collect();
        assert_eq!(names, expected, "{i}: {words}");
        let n = expected.len();
        assert_eq!(
            remark.unwrap(),
            format!("already quantized: {words}: {n} tensors are carried as they are"),
            "{i}"
        );
    }
}

#[test]
fn names_without_a_dot_find_their_partners() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.safetensors");
    let found = |tensors: &[(&str, Kind)]| {
        write(&path, tensors);
        Vec::from_iter(carried(&path).0)
    };
    let other: (&str, Kind) = ("other", (F32, &[64, 64]));
    assert_eq!(
        found(&[("w", (I8, &[64, 64])), ("w_scale", (F32, &[64, 1])), other]),
        ["w", "w_scale"]
    );
    let alone = [
        ("weight", (U32, &[64usize, 16] as &[_])),
        ("scales", (F16, &[64, 2])),
        ("biases", (F16, &[64, 2])),
    ];
    assert_eq!(found(&[alone[0], alone[1], alone[2], other]), ["biases", "scales", "weight"]);
    let bnb: [(&str, Kind); 2] = [("weight", (U8, &[64, 1])), ("weight.absmax", (F32, &[64, 64]))];
    assert_eq!(found(&[bnb[0], bnb[1], other]), ["weight", "weight.absmax"]);
}

/// The buffers and the names of scales that plain checkpoints have, in modules with weights that must be treated.
#[test]
fn what_only_looks_like_codes_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.safetensors");
    let w: Kind = (F32, &[64, 64]);
    let plain: &[&[(&str, Kind)]] = &[
        // BERT, RoBERTa
        &[
            ("embeddings.position_ids", (I64, &[1, 512])),
            ("embeddings.token_type_ids", (I64, &[1, 512])),
            ("embeddings.word_embeddings.weight", w),
            ("embeddings.w", w),
        ],
        // GPT-2, GPT-NeoX: masks as bytes, as booleans and as floats, with and without leading ones
        &[
            ("h.0.attn.bias", (U8, &[1, 1, 64, 64])),
            ("h.0.attn.masked_bias", (F32, &[])),
            ("h.0.attn.c_attn.weight", w),
            ("h.0.attn.w", w),
        ],
        &[("h.0.attn.bias", (Bool, &[64, 64])), ("h.0.attn.w", w)],
        &[("h.0.attn.causal_mask", (U8, &[64, 64])), ("h.0.attn.w", w)],
        // CLIP, with the scale of its logits
        &[
            ("vision_model.embeddings.position_ids", (I64, &[1, 50])),
            ("vision_model.embeddings.class_embedding", (F32, &[64])),
            ("vision_model.embeddings.position_embedding.weight", w),
            ("logit_scale", (F32, &[])),
            ("text_projection", w),
        ],
        // Swin and Swin v2
        &[
            ("attn.relative_position_index", (I64, &[49, 49])),
            ("attn.relative_position_bias_table", (F32, &[169, 32])),
            ("attn.logit_scale", (F32, &[3, 1, 1])),
        ],
        &[
            ("attn.relative_position_index", (I32, &[49, 49])),
            ("attn.relative_position_bias_table", (F32, &[169, 32])),
        ],
        // Batch norms, and fake quantizers of training
        &[("bn.num_batches_tracked", (I64, &[])), ("bn.weight", (F32, &[64])), ("bn.w", w)],
        &[
            ("l.weight", w),
            ("l.weight_fake_quant.scale", (F32, &[1])),
            ("l.weight_fake_quant.zero_point", (I32, &[1])),
            ("l.weight_fake_quant.fake_quant_enabled", (U8, &[1])),
        ],
        // Whisper and SmolLM2 have nothing but floats; norms of other frameworks call their weight a scale
        &[
            ("model.encoder.embed_positions.weight", w),
            ("model.norm.scale", (F32, &[64])),
            ("model.layers.0.layer_scale1.scales", (F32, &[64])),
        ],
        // Caches of keys and values have scales of their own, beside plain weights
        &[
            ("self_attn.k_proj.k_scale", (F32, &[])),
            ("self_attn.k_proj.weight", w),
            ("l.weight_scale", (F32, &[])),
            ("l.weight", w),
        ],
        // FP8 without a scale
        &[
            ("l.weight", (F8E4M3, &[64, 64])),
            ("key_norm.scale", (F8E4M3, &[64])),
            ("m.weight", (BF16, &[64, 64])),
        ],
        // What vector quantizers of sound and images have, which are weights
        &[("quantizer.codebooks", w), ("model.res_blocks", w)],
        // A table of integers at the root of a model, whose modules are below it
        &[("model.table", (I32, &[64, 64])), ("model.layers.0.weight", w)],
    ];
    for (i, tensors) in plain.iter().enumerate() {
        write(&path, tensors);
        let (mut names, remark) = carried(&path);
        names.remove("model.table");
        assert_eq!(names, BTreeSet::new(), "{i}: {remark:?}");
    }
}

#[test]
fn the_partners_may_be_in_another_shard() {
    let dir = tempfile::tempdir().unwrap();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index = dir.path().join("model.safetensors.index.json");
    let cases: [[Vec<(&str, Kind)>; 2]; 3] = [
        [
            vec![("a.weight", (F8E4M3, &[64, 64])), ("b.weight", (BF16, &[64, 64]))],
            vec![("a.weight_scale_inv", (F32, &[1, 1])), ("b.bias", (BF16, &[64]))],
        ],
        [
            vec![("a.weight", (U32, &[64, 8])), ("b.weight", (BF16, &[64, 64]))],
            vec![("a.scales", (BF16, &[64, 1])), ("a.biases", (BF16, &[64, 1]))],
        ],
        [
            vec![("a.qweight", (I32, &[8, 64])), ("b.weight", (BF16, &[64, 64]))],
            vec![("a.scales", (F16, &[1, 64])), ("a.perm", (F16, &[64, 64]))],
        ],
    ];
    let of = |case: &[(&str, Kind)]| -> BTreeSet<String> {
        case.iter().map(|(n, _)| n.to_string()).filter(|n| n.starts_with("a.")).collect()
    };
    for case in &cases {
        let mut map = serde_json::Map::new();
        for (shard, tensors) in shards.iter().zip(case) {
            write(&dir.path().join(shard), tensors);
            map.extend(tensors.iter().map(|(n, _)| (n.to_string(), (*shard).into())));
        }
        let text = serde_json::json!({ "weight_map": map }).to_string();
        fs::write(&index, text).unwrap();
        let all = &of(&case[0]) | &of(&case[1]);
        assert_eq!(carried(dir.path()).0, all);
        // Each alone: with the index, by their numbers, and with the index where the other is not there.
        for there in [true, false] {
            for (shard, tensors) in shards.iter().zip(case) {
                assert_eq!(carried(&dir.path().join(shard)).0, of(tensors), "{shard}, {there}");
            }
            if there {
                fs::rename(&index, dir.path().join("index")).unwrap();
            }
        }
        fs::rename(dir.path().join("index"), &index).unwrap();
        for (i, shard) in shards.iter().enumerate() {
            let (other, aside) = (dir.path().join(shards[1 - i]), dir.path().join("aside"));
            fs::rename(&other, &aside).unwrap();
            // What is only known by name tells of codes where a name does.
            if case[0][0].0 != "a.qweight" || i == 0 {
                assert_eq!(carried(&dir.path().join(shard)).0, of(&case[i]), "{shard} alone");
            }
            fs::rename(&aside, &other).unwrap();
        }
    }
}

#[test]
fn a_mark_speaks_for_the_whole_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    write(&file, &PLAIN);
    let with = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let found = [dir.path(), &file].map(|p| {
            let (names, remark) = carried(p);
            assert!(names.is_empty() || names.len() == 4, "{text}: {names:?}");
            remark
        });
        assert_eq!(
            found[0], found[1],
            "{text}: a file that is named alone has the same config.json"
        );
        fs::remove_file(path).unwrap();
        found.into_iter().next().unwrap()
    };
    for (name, text, said) in [
        (
            "config.json",
            r#"{"quantization_config":{"quant_method":"gptq","bits":4}}"#,
            "quantization_config in config.json, gptq, 4 bits",
        ),
        (
            "config.json",
            r#"{"quantization_config":{"x":[1]}}"#,
            "quantization_config in config.json",
        ),
        (
            "config.json",
            r#"{"quantization":{"group_size":64,"bits":4}}"#,
            "quantization in config.json, 4 bits",
        ),
        (
            "config.json",
            r#"{"text_config":{"quantization_config":{"quant_method":"fp8"}}}"#,
            "quantization_config in config.json, fp8",
        ),
        (
            "config.json",
            r#"{"compression_config":{"format":"x"}}"#,
            "compression_config in config.json",
        ),
        (
            "config.json",
            r#"{"quantization_config":{"quant_method":"\u001b[31m"}}"#,
            r"quantization_config in config.json, \u{1b}[31m",
        ),
        (
            "hf_quant_config.json",
            r#"{"producer":{},"quantization":{"quant_algo":"NVFP4"}}"#,
            "quantization in hf_quant_config.json, NVFP4",
        ),
    ] {
        let all = format!("already quantized: {said}: 4 tensors are carried as they are");
        assert_eq!(with(name, text), Some(all), "{text}");
    }
    for text in [
        r#"{"quantization_config":null}"#,
        r#"{"quantization":{"codebooks":8}}"#,
        r#"{"quantization":"none"}"#,
        r#"{"quantization":false,"architectures":["quantization_config"]}"#,
    ] {
        assert_eq!(with("config.json", text), None, "{text}");
    }
    for text in ["[]", "{", r#"{"quantization_config":1,"quantization_config":null}"#] {
        fs::write(dir.path().join("config.json"), text).unwrap();
        assert!(already_quantized(&Checkpoint::open(&file).unwrap()).is_err(), "{text}");
    }
    // As deep as it may, in time.
    let deep = format!("{}1{}", r#"{"a":"#.repeat(2_000_000), "}".repeat(2_000_000));
    assert_eq!(with("config.json", &deep), None);
    // In the metadata of the file.
    let view = |key: &str, value: &str| {
        let data = vec![0; 64 * 64 * 4];
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 64], &data);
        let metadata = [(key.to_owned(), value.to_owned())].into();
        safetensors::serialize_to_file([("l.weight", view.unwrap())], Some(metadata), &file)
            .unwrap();
        carried(&file).1
    };
    let layers = r#"{"format_version":"1.0","layers":{"l":{"format":"int8_tensorwise"}}}"#;
    assert_eq!(
        view("_quantization_metadata", layers).unwrap(),
        r#"already quantized: _quantization_metadata in the metadata of "model.safetensors": 1 tensor is carried as it is"#
    );
    assert!(view("quantization_config", r#"{"method":"svdquant"}"#).is_some());
    for (key, value) in
        [("quantization_config", "null"), ("quantization", "none"), ("format", "mlx")]
    {
        assert_eq!(view(key, value), None, "{key}");
    }
}

/// The handed case: triples of MLX, as a file and as a folder, through every kind of preset.
#[test]
fn codes_scales_and_biases_come_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, file) = (dir.path().join("model"), dir.path().join("model/model.safetensors"));
    fs::create_dir(&folder).unwrap();
    let l = |part: &str| -> &'static str { format!("model.layers.0.mlp.down_proj.{part}").leak() };
    let noise = |seed, n, dtype| crate::support::words_of(dtype, &crate::support::noise(seed, n));
    let all = vec![
        (
            l("weight"),
            U32,
            vec![256, 128],
            crate::support::words_of(F32, &crate::support::noise(1, 256 * 128)),
        ),
        (l("scales"), BF16, vec![256, 16], noise(2, 256 * 16, BF16)),
        (l("biases"), BF16, vec![256, 16], noise(3, 256 * 16, BF16)),
    ];
    write_checkpoint(&file, &all);
    let whole = fs::read(&file).unwrap();
    let [packed, back] = ["packed", "back"].map(|n| dir.path().join(n));
    let data = |path: &Path| {
        let c = Checkpoint::open(path).unwrap();
        let len = fs::metadata(&c.files[0].path).unwrap().len() - c.files[0].data_start;
        let mut bytes = vec![0; len as usize];
        c.read_at(0, c.files[0].data_start, &mut bytes).unwrap();
        (c.tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>(), bytes)
    };
    for preset in ["int8", "int4", "palette4", "deep"] {
        let recipe = Recipe::preset(preset).unwrap();
        let report = compress(&file, &packed, &recipe, &options(&CPU)).unwrap();
        let warnings = [
            "already quantized: packed codes of MLX: 3 tensors are carried as they are",
            "nothing is changed: all 3 tensors are kept: already quantized: packed codes of MLX; `tersor plan MODEL` shows what each preset would do",
        ];
        assert_eq!(report.warnings, warnings);
        decompress(&packed, &back, &options(&CPU)).unwrap();
        assert!(data(&back) == data(&file), "{preset}");
    }
    fs::write(folder.join("config.json"), r#"{"quantization":{"group_size":64,"bits":4}}"#)
        .unwrap();
    let [packed, back] = ["packed folder", "back folder"].map(|n| dir.path().join(n));
    let report = compress(&folder, &packed, &Recipe::preset("int8").unwrap(), &options(&CPU));
    let said = "already quantized: packed codes of MLX (quantization in config.json, 4 bits): 3 tensors are carried as they are";
    assert_eq!(report.unwrap().warnings[0], said);
    decompress(&packed, &back, &options(&CPU)).unwrap();
    assert!(data(&back) == data(&folder) && whole.len() > 70_000);
}

/// Writes whatever words, as many as the elements take.
fn write_words(path: &Path, tensors: &[(&'static str, Kind)], word: impl Fn(u64) -> u32) {
    let tensor = |(seed, (name, (dtype, shape))): (u64, &(&'static str, Kind))| {
        let elements: usize = shape.iter().product();
        let words = splitmix64(seed).take(tersor::words(*dtype, elements)).map(&word);
        (*name, *dtype, shape.to_vec(), words.collect())
    };
    write_checkpoint(path, &(0..).zip(tensors).map(tensor).collect::<Vec<_>>());
}

#[test]
fn what_is_lossless_treats_codes_and_scales_as_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let [input, small, back] =
        ["in.safetensors", "small", "back"].map(|name| dir.path().join(name));
    let tensors: &[(&'static str, Kind)] = &[
        ("a.weight", (F8E4M3, &[128, 256])),
        ("a.weight_scale_inv", (F32, &[128, 2])),
        ("b.qweight", (I32, &[64, 64])),
        ("b.qzeros", (I32, &[8, 8])),
        ("b.scales", (F16, &[8, 64])),
        ("c.blocks", (U8, &[8, 16, 16])),
        ("c.scales", (F8E8M0, &[8, 64])),
        ("d.weight", (F4, &[64, 64])),
        ("ids", (I64, &[1, 512])),
    ];
    // Patterns of which few are common, as those of weights; NaN of FP8 among them.
    let common = |z: u64| {
        let byte = |i: u32| {
            let (z, i) = (z >> (16 * i), 8 * i);
            (if z % 97 == 0 { 0x7f } else { 0x30 + (z % 7) as u32 + (z >> 8 & 0x80) as u32 }) << i
        };
        (0..4).map(byte).sum()
    };
    write_words(&input, tensors, common);
    let recipe = Recipe::preset("lossless").unwrap();
    let report = compress(&input, &small, &recipe, &options(&CPU)).unwrap();
    assert_eq!(report.warnings, [""; 0]);
    for t in &report.tensors {
        let reason = match t.name.as_str() {
            "b.qzeros" => Some("it has fewer than 256 elements"),
            "d.weight" => Some("F4 elements are no whole bytes"),
            _ => None,
        };
        assert_eq!(t.reason.as_deref(), reason, "{}", t.name);
        assert_eq!((t.error.mse, t.error.rel_error), (Some(0.0), Some(0.0)), "{}", t.name);
        // Whether a code is zero says nothing of a weight.
        let float = [F8E4M3, F16, F32].iter().any(|d| d.name() == t.dtype);
        assert_eq!(t.density.is_some(), float, "{}", t.name);
        if t.name == "a.weight" {
            assert!(t.bits_per_weight < 6.7, "{}", t.bits_per_weight);
        }
    }
    assert!(report.ratio > 1.2, "{}", report.ratio);
    decompress(&small, &back, &options(&CPU)).unwrap();
    let data = |path: &Path| {
        let checkpoint = Checkpoint::open(path).unwrap();
        let read = |t: &tersor::TensorInfo| {
            let mut bytes = vec![0; t.bytes as usize];
            checkpoint.read_at(t.file, t.offset(), &mut bytes).unwrap();
            (t.name.clone(), t.dtype, t.shape.clone(), bytes)
        };
        checkpoint.tensors.iter().map(read).collect::<Vec<_>>()
    };
    assert!(data(&input) == data(&back), "every bit is back");
    // A mark in config.json is no obstacle either, nor is a rule that would change bits of others.
    fs::write(dir.path().join("config.json"), r#"{"quantization_config":{"bits":4}}"#).unwrap();
    let mixed = "version = 1\n[[rule]]\nmatch = \"a.*\"\nencode = \"auto\"\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"affine\", bits = 4 }\n";
    let report = compress(&input, &small, &Recipe::parse(mixed).unwrap(), &options(&CPU)).unwrap();
    let kept = report.tensors.iter().filter(|t| t.method.is_kept()).count();
    assert_eq!(kept, 7);
    let first = &report.warnings[0];
    assert!(
        first.starts_with("already quantized: ")
            && first.ends_with("7 tensors are carried as they are"),
        "{first}"
    );
}
