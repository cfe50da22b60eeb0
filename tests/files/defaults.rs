//! What the defaults make of published checkpoints: of every kind of tensor its name and its shape, and what becomes of it.

use crate::support::write_checkpoint;
use std::{
    fs::{self, File},
    path::Path,
};
use tersor::{
    DType::{self, F32, I64},
    format::{Checkpoint, Entry, Preface, digest, write_header},
    plan::{Plan, PlannedTensor},
    recipe::{DEFAULTS, PRESETS, Recipe},
};

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug)]
enum Becomes {
    /// Kept, for this reason.
    Kept(&'static str),
    /// A table with a row for each token: 8 bits of int4.
    Embedding,
    /// A matrix of rows.
    Matrix,
    /// A matrix of columns, for this reason.
    Columns(&'static str),
}
use Becomes::{Columns, Embedding, Kept, Matrix};

const ROUTER: Becomes = Kept("it routes tokens to experts");
const NORM: Becomes = Kept("it is a norm");
const DYNAMICS: Becomes = Kept("it sets the dynamics of a recurrence");
const POSITIONS: Becomes = Kept("it is a positional table");
const TOKEN: Becomes = Kept("it is a token of every input");
const MASK: Becomes = Kept("it is a mask or a constant");
const POOLER: Becomes = Kept("it pools a sequence");
const CLASSES: Becomes = Kept("it scores classes");
const FLAT: Becomes = Kept("it has fewer than 2 dimensions");
const TINY: Becomes = Kept("it has fewer than 1024 elements");
const NO_WEIGHTS: Becomes = Kept("I64 holds no weights");
const GPT2: Becomes = Columns("columns, as config.json says gpt2");
const SHAPES: Becomes = Columns("columns, as the shapes of c_attn and c_fc say");

type Tensor = (&'static str, &'static [u64], Becomes);

/// Models as they are published: what they are, their config.json, and tensors of every kind.
const MODELS: &[(&str, &str, &[Tensor])] = &[
    (
        "GPT-2",
        r#"{"model_type":"gpt2","n_embd":768,"vocab_size":50257}"#,
        &[
            ("wte.weight", &[50257, 768], Embedding),
            ("wpe.weight", &[1024, 768], POSITIONS),
            ("h.0.ln_1.weight", &[768], NORM),
            ("h.0.attn.bias", &[1, 1, 1024, 1024], MASK),
            ("h.0.attn.c_attn.weight", &[768, 2304], GPT2),
            ("h.0.attn.c_attn.bias", &[2304], FLAT),
            ("h.0.attn.c_proj.weight", &[768, 768], GPT2),
            ("h.0.mlp.c_fc.weight", &[768, 3072], GPT2),
            ("h.0.mlp.c_proj.weight", &[3072, 768], GPT2),
            ("h.0.crossattention.q_attn.weight", &[768, 768], GPT2),
            ("ln_f.weight", &[768], NORM),
            ("score.weight", &[2, 768], CLASSES),
        ],
    ),
    (
        "GPT-2 without config.json",
        "",
        &[
            ("transformer.wte.weight", &[50257, 768], Embedding),
            ("transformer.h.0.attn.c_attn.weight", &[768, 2304], SHAPES),
            ("transformer.h.0.attn.c_proj.weight", &[768, 768], SHAPES),
            ("transformer.h.0.mlp.c_fc.weight", &[768, 3072], SHAPES),
            ("transformer.h.0.mlp.c_proj.weight", &[3072, 768], SHAPES),
            ("transformer.h.0.attn.masked_bias", &[], MASK),
            ("lm_head.weight", &[50257, 768], Embedding),
        ],
    ),
    (
        "StarCoder, whose layers have GPT-2's names and are stored the usual way",
        r#"{"model_type":"gpt_bigcode","n_embd":2048,"vocab_size":49280}"#,
        &[
            ("transformer.h.0.attn.c_attn.weight", &[2304, 2048], Matrix),
            ("transformer.h.0.attn.c_proj.weight", &[2048, 2048], Matrix),
            ("transformer.h.0.mlp.c_fc.weight", &[8192, 2048], Matrix),
            ("transformer.h.0.mlp.c_proj.weight", &[2048, 8192], Matrix),
        ],
    ),
    (
        "nanoGPT, which calls itself gpt2 and stores the usual way",
        r#"{"model_type":"gpt2"}"#,
        &[
            ("transformer.h.0.attn.c_attn.weight", &[2304, 768], Matrix),
            ("transformer.h.0.attn.c_proj.weight", &[768, 768], Matrix),
            ("transformer.h.0.mlp.c_fc.weight", &[3072, 768], Matrix),
            ("transformer.h.0.mlp.c_proj.weight", &[768, 3072], Matrix),
        ],
    ),
    (
        "Llama",
        r#"{"model_type":"llama","hidden_size":2048,"vocab_size":32000}"#,
        &[
            ("model.embed_tokens.weight", &[32000, 2048], Embedding),
            ("model.layers.0.input_layernorm.weight", &[2048], NORM),
            ("model.layers.0.mlp.gate_proj.weight", &[5632, 2048], Matrix),
            ("model.layers.0.mlp.down_proj.weight", &[2048, 5632], Matrix),
            ("model.layers.0.self_attn.q_proj.weight", &[2048, 2048], Matrix),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", &[32], MASK),
            ("model.norm.weight", &[2048], NORM),
            ("lm_head.weight", &[32000, 2048], Embedding),
        ],
    ),
    (
        "Mixtral",
        r#"{"model_type":"mixtral","num_local_experts":8,"vocab_size":32000}"#,
        &[
            ("model.layers.0.block_sparse_moe.gate.weight", &[8, 4096], ROUTER),
            ("model.layers.0.block_sparse_moe.experts.0.w1.weight", &[14336, 4096], Matrix),
            ("model.layers.0.post_attention_layernorm.weight", &[4096], NORM),
        ],
    ),
    (
        "Qwen2-MoE, and norms of heads as Chameleon has them",
        r#"{"model_type":"qwen2_moe","num_experts":60,"vocab_size":151936}"#,
        &[
            ("model.layers.0.mlp.gate.weight", &[60, 2048], ROUTER),
            ("model.layers.0.mlp.shared_expert_gate.weight", &[1, 2048], ROUTER),
            ("model.layers.0.mlp.shared_expert.gate_proj.weight", &[5632, 2048], Matrix),
            ("model.layers.0.mlp.experts.0.gate_proj.weight", &[1408, 2048], Matrix),
            ("model.layers.0.mlp.experts.gate_up_proj", &[60, 2048, 2816], Matrix),
            ("model.layers.0.self_attn.q_norm.weight", &[32, 128], NORM),
            ("model.layers.0.self_attn.q_proj.bias", &[2048], FLAT),
        ],
    ),
    (
        "DeepSeek",
        r#"{"model_type":"deepseek_v3","hidden_size":7168,"vocab_size":129280}"#,
        &[
            ("model.layers.3.mlp.gate.weight", &[256, 7168], ROUTER),
            ("model.layers.3.mlp.gate.e_score_correction_bias", &[256], ROUTER),
            ("model.layers.3.mlp.shared_experts.gate_proj.weight", &[2048, 7168], Matrix),
            ("model.layers.3.self_attn.kv_a_layernorm.weight", &[512], NORM),
            ("model.layers.3.self_attn.kv_b_proj.weight", &[32768, 512], Matrix),
        ],
    ),
    (
        "DeepSeek, its own names",
        "",
        &[
            ("embed.weight", &[129280, 7168], Embedding),
            ("head.weight", &[129280, 7168], Embedding),
            ("layers.3.ffn.gate.weight", &[256, 7168], ROUTER),
            ("layers.3.ffn.experts.0.w1.weight", &[2048, 7168], Matrix),
        ],
    ),
    (
        "Switch, gpt-oss, Granite",
        "",
        &[
            ("encoder.block.1.layer.1.mlp.router.classifier.weight", &[8, 768], ROUTER),
            ("model.layers.0.mlp.router.weight", &[32, 2880], ROUTER),
            ("model.layers.0.block_sparse_moe.router.layer.weight", &[32, 1024], ROUTER),
        ],
    ),
    (
        "Mamba",
        r#"{"model_type":"mamba","hidden_size":768,"vocab_size":50280}"#,
        &[
            ("backbone.embeddings.weight", &[50280, 768], Embedding),
            ("backbone.layers.0.mixer.A_log", &[1536, 16], DYNAMICS),
            ("backbone.layers.0.mixer.D", &[1536], DYNAMICS),
            ("backbone.layers.0.mixer.conv1d.weight", &[1536, 1, 4], DYNAMICS),
            ("backbone.layers.0.mixer.dt_bias", &[24], DYNAMICS),
            ("backbone.layers.0.mixer.dt_proj.weight", &[1536, 48], Matrix),
            ("backbone.layers.0.mixer.in_proj.weight", &[3072, 768], Matrix),
            ("backbone.layers.0.mixer.x_proj.weight", &[80, 1536], Matrix),
            ("backbone.layers.0.norm.weight", &[768], NORM),
        ],
    ),
    (
        "T5",
        r#"{"model_type":"t5","d_model":512,"vocab_size":32128}"#,
        &[
            ("shared.weight", &[32128, 512], Embedding),
            ("encoder.embed_tokens.weight", &[32128, 512], Embedding),
            ("encoder.block.0.layer.0.SelfAttention.q.weight", &[512, 512], Matrix),
            (
                "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                &[32, 8],
                POSITIONS,
            ),
            ("encoder.block.0.layer.0.layer_norm.weight", &[512], NORM),
            ("encoder.block.0.layer.1.DenseReluDense.wi.weight", &[2048, 512], Matrix),
        ],
    ),
    (
        "BERT",
        r#"{"model_type":"bert","hidden_size":768,"vocab_size":30522}"#,
        &[
            ("bert.embeddings.word_embeddings.weight", &[30522, 768], Embedding),
            ("bert.embeddings.position_embeddings.weight", &[512, 768], POSITIONS),
            ("bert.embeddings.token_type_embeddings.weight", &[2, 768], Embedding),
            ("bert.embeddings.LayerNorm.weight", &[768], NORM),
            ("bert.embeddings.position_ids", &[1, 512], NO_WEIGHTS),
            ("bert.encoder.layer.0.attention.output.dense.weight", &[768, 768], Matrix),
            ("bert.encoder.layer.0.output.dense.weight", &[768, 3072], Matrix),
            ("bert.pooler.dense.weight", &[768, 768], POOLER),
            ("classifier.weight", &[2, 768], CLASSES),
            ("cls.predictions.decoder.weight", &[30522, 768], Embedding),
            ("cls.predictions.transform.dense.weight", &[768, 768], Matrix),
            ("cls.seq_relationship.weight", &[2, 768], CLASSES),
        ],
    ),
    (
        "DINOv2 with registers",
        r#"{"model_type":"dinov2_with_registers","hidden_size":384}"#,
        &[
            ("embeddings.cls_token", &[1, 1, 384], TOKEN),
            ("embeddings.mask_token", &[1, 384], TOKEN),
            ("embeddings.register_tokens", &[1, 4, 384], TOKEN),
            ("embeddings.position_embeddings", &[1, 1370, 384], POSITIONS),
            ("embeddings.patch_embeddings.projection.weight", &[384, 3, 14, 14], Embedding),
            ("encoder.layer.0.attention.attention.query.weight", &[384, 384], Matrix),
            ("encoder.layer.0.norm1.weight", &[384], NORM),
            ("encoder.layer.0.layer_scale1.lambda1", &[384], FLAT),
            ("layernorm.weight", &[384], NORM),
        ],
    ),
    (
        "ViT of timm, and Swin",
        "",
        &[
            ("cls_token", &[1, 1, 768], TOKEN),
            ("pos_embed", &[1, 197, 768], POSITIONS),
            ("reg_token", &[1, 4, 768], TOKEN),
            ("blocks.0.attn.qkv.weight", &[2304, 768], Matrix),
            ("blocks.0.attn.relative_position_bias_table", &[729, 12], POSITIONS),
            ("blocks.0.attn_mask", &[64, 49, 49], MASK),
            ("head.weight", &[1000, 768], CLASSES),
        ],
    ),
    (
        "RWKV",
        "",
        &[
            ("emb.weight", &[50277, 1024], Embedding),
            ("head.weight", &[50277, 1024], Embedding),
            ("blocks.0.ln0.weight", &[1024], NORM),
            ("blocks.0.att.time_decay", &[1024], DYNAMICS),
            ("blocks.0.att.time_mix_k", &[1, 1, 1024], DYNAMICS),
            ("blocks.0.att.key.weight", &[1024, 1024], Matrix),
            ("blocks.0.ffn.value.weight", &[1024, 4096], Matrix),
        ],
    ),
    (
        "GPT-NeoX",
        r#"{"model_type":"gpt_neox","hidden_size":512,"vocab_size":50432}"#,
        &[
            ("gpt_neox.embed_in.weight", &[50304, 512], Embedding),
            ("embed_out.weight", &[50304, 512], Embedding),
            ("gpt_neox.layers.0.attention.bias", &[1, 1, 2048, 2048], MASK),
            ("gpt_neox.layers.0.attention.masked_bias", &[], MASK),
            ("gpt_neox.layers.0.attention.rotary_emb.inv_freq", &[8], MASK),
            ("gpt_neox.layers.0.attention.query_key_value.weight", &[1536, 512], Matrix),
            ("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", &[2048, 512], Matrix),
            ("gpt_neox.final_layer_norm.weight", &[512], NORM),
        ],
    ),
    (
        "Mistral's consolidated file",
        "",
        &[
            ("tok_embeddings.weight", &[32768, 4096], Embedding),
            ("output.weight", &[32768, 4096], Embedding),
            ("norm.weight", &[4096], NORM),
            ("layers.0.attention.wq.weight", &[4096, 4096], Matrix),
            ("layers.0.attention_norm.weight", &[4096], NORM),
            ("layers.0.feed_forward.gate.weight", &[8, 4096], ROUTER),
            ("layers.0.feed_forward.w1.weight", &[14336, 4096], Matrix),
            ("freqs_cis", &[4096, 64, 2], MASK),
        ],
    ),
    (
        "GGUF's names",
        "",
        &[
            ("token_embd.weight", &[151936, 2048], Embedding),
            ("output.weight", &[151936, 2048], Embedding),
            ("output_norm.weight", &[2048], NORM),
            ("blk.0.attn_norm.weight", &[2048], NORM),
            ("blk.0.attn_output.weight", &[2048, 2048], Matrix),
            ("blk.0.ffn_gate.weight", &[5632, 2048], Matrix),
            ("blk.0.ffn_gate_inp.weight", &[60, 2048], ROUTER),
        ],
    ),
    (
        "heads that config.json alone knows, and a size that is a layer's as well",
        r#"{"text_config":{"vocab_size":50000,"hidden_size":512,"tie_word_embeddings":true},
            "decoder":{"vocab_size":1536,"d_model":512}}"#,
        &[
            ("word_emb.weight", &[50176, 512], Embedding),
            ("readout.weight", &[50000, 512], Embedding),
            ("words.weight", &[50176, 512], Embedding),
            ("qkv.weight", &[1536, 512], Matrix),
        ],
    ),
    (
        "networks of images: their last layers have any name, and most of the weights",
        "",
        &[
            ("fc3.weight", &[100, 300], Matrix),
            ("fc.weight", &[1000, 512], Matrix),
            ("classifier.6.weight", &[1000, 4096], Matrix),
            ("output.weight", &[10, 512], Matrix),
            ("conv1d.weight", &[64, 64, 3], Matrix),
            ("layer1.0.bn1.running_mean", &[64], NORM),
            ("transformer_blocks.0.norm1.linear.weight", &[6912, 1152], Matrix),
            ("small.weight", &[10, 84], TINY),
        ],
    ),
];

/// A checkpoint of those tensors, whose file has a hole for data: none of it is read.
fn write(folder: &Path, tensors: &[Tensor], config: &str) -> Checkpoint {
    let mut at = 0;
    let entries: Vec<_> = tensors
        .iter()
        .map(|(name, shape, _)| {
            let dtype: DType = if name.ends_with("_ids") { I64 } else { F32 };
            let begin = at;
            at += dtype.bytes(shape.iter().product::<u64>() as usize) as u64;
            Entry { name: (*name).into(), dtype, shape: (*shape).into(), bytes: begin..at }
        })
        .collect();
    let path = folder.join("model.safetensors");
    let mut header = vec![0; 8];
    write_header(&mut header, Preface::default(), "", entries).unwrap();
    let length = header.len() as u64 - 8;
    header[..8].copy_from_slice(&length.to_le_bytes());
    fs::write(&path, &header).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(header.len() as u64 + at).unwrap();
    let config_path = folder.join("config.json");
    match config {
        "" => _ = fs::remove_file(config_path),
        text => fs::write(config_path, text).unwrap(),
    }
    Checkpoint::open(&path).unwrap()
}

fn planned(checkpoint: &Checkpoint, recipe: &Recipe) -> Vec<PlannedTensor> {
    Plan::new(checkpoint, recipe, 1 << 20, 2).unwrap().tensors(checkpoint, recipe)
}

#[test]
fn tensors_of_published_checkpoints_become_what_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let [int4, sparse, deep] = ["int4", "sparse24", "deep"].map(|p| Recipe::preset(p).unwrap());
    let mut seen = 0;
    for (model, config, tensors) in MODELS {
        let checkpoint = write(dir.path(), tensors, config);
        let table = |recipe| planned(&checkpoint, recipe);
        let (int4, sparse, deep) = (table(&int4), table(&sparse), table(&deep));
        for (name, shape, becomes) in *tensors {
            let case = format!("{model}: {name} {shape:?}");
            let of = |table: &[PlannedTensor]| {
                let t = table.iter().find(|t| t.name == *name).unwrap();
                (t.method.to_string(), t.reason.as_deref().unwrap_or("").to_owned())
            };
            let ((method, why), (_, why_sparse), (deeper, why_deep)) =
                (of(&int4), of(&sparse), of(&deep));
            match becomes {
                Kept(reason) => {
                    assert_eq!((method.as_str(), why.as_str()), ("kept", *reason), "{case}");
                    assert!(why_sparse == *reason, "{case}: {why_sparse}");
                }
                Embedding => {
                    assert!(method.starts_with("int8 per channel"), "{case}: {method} {why}");
                    assert_eq!(why_sparse, "it is an embedding", "{case}");
                    assert_eq!(why_deep, "it is an embedding", "{case}");
                }
                Matrix => {
                    assert!(method.starts_with("int4") && !method.contains("columns"), "{case}");
                    assert!(deeper.starts_with("density 0.5"), "{case}: {deeper} {why_deep}");
                }
                Columns(said) => {
                    assert!(
                        method.starts_with("int4") && method.ends_with(said),
                        "{case}: {method}"
                    );
                    assert!(deeper.contains(said), "{case}: {deeper}");
                }
            }
            seen += 1;
        }
    }
    assert!(seen > 120, "{seen}");
}

#[test]
fn without_defaults_a_recipe_is_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let body = "[[rule]]\nmatch = \"*\"\nmin_dims = 2\nquantize = { kind = \"affine\", bits = 8 }\n[[rule]]\nmatch = \"*\"\nkeep = true\n";
    let recipe = |top: &str| Recipe::parse(&format!("version = 1\n{top}{body}")).unwrap();
    let (without, with) = (recipe(""), recipe("defaults = true\n"));
    for (model, config, tensors) in MODELS {
        let checkpoint = write(dir.path(), tensors, config);
        for t in planned(&checkpoint, &without) {
            let case = format!("{model}: {} {:?}", t.name, t.shape);
            match t.shape.len() >= 2 && t.dtype != "I64" {
                // Whatever it is in its model. Rows of one weight do not become smaller.
                true => assert!(
                    ["int8 per channel", "kept"].contains(&&*t.method)
                        && t.reason.is_none_or(|why| &*why == "its treated form is not smaller"),
                    "{case}: {}",
                    t.method
                ),
                false => assert_eq!(t.method, "kept", "{case}"),
            }
        }
    }
    // What a resumed job compares: the digest that versions without defaults had, and another one with them.
    let treatment = |quantize: &str| {
        format!(
            r#"{{"axis":0,"prune":null,"quantize":{quantize},"encode":null,"importance":null,"nonfinite":"keep","max_rel_error":null}}"#
        )
    };
    let rule = |min_dims, quantize: &str| {
        let treatment = treatment(quantize);
        format!(
            r#"{{"pattern":"*","regex":false,"min_dims":{min_dims},"min_elements":0,"dtypes":[],"optional":false,"treatment":{treatment}}}"#
        )
    };
    let affine =
        r#"{"Affine":{"bits":8,"symmetric":true,"granularity":"Channel","objective":"range"}}"#;
    let text = format!("[{},{}]", rule(2, affine), rule(0, "null"));
    assert_eq!(without.digest().unwrap(), digest(text.as_bytes()));
    assert_ne!(with.digest().unwrap(), without.digest().unwrap());
    // The type of scales is in it where it is not the usual one.
    let scales = |name: &str| body.replace("bits = 8", &format!("bits = 8, scales = \"{name}\""));
    let [usual, halves] = ["f32", "bf16"].map(|name| {
        Recipe::parse(&format!("version = 1\n{}", scales(name))).unwrap().digest().unwrap()
    });
    let text = text.replace("\"range\"}", "\"range\",\"scales\":\"bf16\"}");
    assert_eq!([usual, halves], [without.digest().unwrap(), digest(text.as_bytes())]);
    let zero = body.replace("min_dims = 2", "min_dims = 2\naxis = 0");
    let zero = Recipe::parse(&format!("version = 1\ndefaults = true\n{zero}")).unwrap();
    assert_ne!(with.digest().unwrap(), zero.digest().unwrap(), "an axis that is given");
}

#[test]
fn a_rule_that_gives_its_axis_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, config, tensors) = MODELS[0];
    let checkpoint = write(dir.path(), tensors, config);
    for (axis, columns) in [("", true), ("axis = 0\n", false), ("axis = 1\n", false)] {
        let text = format!(
            "version = 1\ndefaults = true\n[[rule]]\nmatch = \"*.c_*.weight\"\n{axis}quantize = {{ kind = \"affine\", bits = 8 }}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
        );
        let table = planned(&checkpoint, &Recipe::parse(&text).unwrap());
        let t = table.iter().find(|t| t.name == "h.0.attn.c_attn.weight").unwrap();
        assert_eq!(t.method.contains("columns, as config.json says gpt2"), columns, "{axis}");
        // A scale for each row, or for each column.
        let scales = if axis == "axis = 0\n" { 768 } else { 2304 };
        assert_eq!(t.expected_bytes, 768 * 2304 + 4 * scales, "{axis}");
    }
}

#[test]
fn a_rule_that_the_defaults_leave_nothing_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let words = vec![0x3e12_3456; 4096];
    let path = dir.path().join("in.safetensors");
    write_checkpoint(&path, &[("mlp.router.weight", F32, vec![64, 64], words)]);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let text = "version = 1\ndefaults = true\n[[rule]]\nmatch = \"*router*\"\nquantize = { kind = \"binary\" }\n[[rule]]\nmatch = \"*\"\nkeep = true\n";
    let error = Plan::new(&checkpoint, &Recipe::parse(text).unwrap(), 1 << 20, 2).unwrap_err();
    let expected = "rule \"*router*\" matches no tensor that the defaults do not keep";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn every_preset_that_changes_weights_obeys_the_defaults() {
    for (name, _) in PRESETS {
        assert_eq!(Recipe::preset(name).unwrap().defaults, name != "lossless", "{name}");
    }
    // They are no recipe: nothing in them treats.
    assert!(Recipe::parse(DEFAULTS).is_err());
}
