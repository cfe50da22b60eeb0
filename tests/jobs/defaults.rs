//! What jobs make of the defaults, and say of it.

use crate::support::{noise, words_of, write_checkpoint};
use serde_json::Value;
use std::{fs, path::Path, process::Command};
use tersor::DType;

/// Standard output as JSON, and standard error.
fn tersor(args: &[&str]) -> (Value, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_tersor"))
        .args(args)
        .args(["--json", "--device", "cpu"])
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{args:?}: {said}");
    (serde_json::from_slice(&out.stdout).unwrap(), said)
}

fn tensor<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap()
}

/// Values that are about normal, of deviation 1: a sum of twelve.
fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut sum = vec![0.0; n];
    for i in 0..12 {
        noise(12 * seed + i, n).iter().zip(&mut sum).for_each(|(x, sum)| *sum += x / 2.0);
    }
    sum
}

/// A matrix of rows whose columns have different scales: 1, 1/2, ... 1/2048, and again.
fn columns(seed: u64, shape: &[usize]) -> Vec<u32> {
    let values = normal(seed, shape.iter().product());
    let scaled = values.iter().enumerate().map(|(i, x)| x / (1 << (i % shape[1] % 12)) as f32);
    words_of(DType::F32, &scaled.collect::<Vec<_>>())
}

#[test]
fn the_columns_of_gpt2_have_scales_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let [model, out, recipe] = ["model.safetensors", "out", "recipe.toml"].map(|n| {
        let path = dir.path().join(n);
        path.to_str().unwrap().to_owned()
    });
    let of = |name: &'static str, seed, shape: [usize; 2]| {
        (name, DType::F32, shape.to_vec(), columns(seed, &shape))
    };
    write_checkpoint(
        Path::new(&model),
        &[
            of("h.0.attn.c_attn.weight", 1, [128, 384]),
            of("h.0.attn.c_proj.weight", 2, [128, 128]),
            of("h.0.mlp.c_fc.weight", 3, [128, 512]),
            of("h.0.mlp.c_proj.weight", 4, [512, 128]),
            of("h.0.other.weight", 5, [128, 384]),
        ],
    );
    let int8 = ["compress", &model, "-o", &out, "--force", "--preset", "int8"];
    let error = |report: &Value, name: &str| tensor(report, name)["rel_error"].as_f64().unwrap();
    let layers = [
        "h.0.attn.c_attn.weight",
        "h.0.attn.c_proj.weight",
        "h.0.mlp.c_fc.weight",
        "h.0.mlp.c_proj.weight",
    ];
    for (config, why) in [
        (None, "the shapes of c_attn and c_fc say"),
        (Some("gpt2"), "config.json says gpt2"),
        (Some("decision_transformer"), "config.json says decision_transformer"),
    ] {
        if let Some(model_type) = config {
            let text = serde_json::json!({ "model_type": model_type }).to_string();
            fs::write(dir.path().join("config.json"), text).unwrap();
        }
        let (report, _) = tersor(&int8);
        for name in layers {
            let method = tensor(&report, name)["method"].as_str().unwrap();
            assert_eq!(method, format!("int8 per channel, columns, as {why}"));
            let found = error(&report, name);
            assert!((0.004..0.009).contains(&found), "{name}: {found}");
        }
        // One that is not of these layers has its rows as channels, and the error that follows.
        let other = tensor(&report, "h.0.other.weight");
        assert_eq!(other["method"], "int8 per channel");
        assert!(error(&report, "h.0.other.weight") > 0.012);
        tersor(&["verify", &out, "--against", &model]);
        let (plan, _) = tersor(&["plan", &model, "--preset", "int8"]);
        assert_eq!(tensor(&plan, layers[0])["method"], tensor(&report, layers[0])["method"]);
    }
    // A recipe without defaults goes by rows.
    let text = "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"affine\", bits = 8 }\n";
    fs::write(&recipe, text).unwrap();
    let (report, _) = tersor(&["compress", &model, "-o", &out, "--force", "--recipe", &recipe]);
    for name in layers {
        assert_eq!(tensor(&report, name)["method"], "int8 per channel");
        assert!(error(&report, name) > 0.01, "{name}: {}", error(&report, name));
    }
}

#[test]
fn pruning_half_of_a_network_is_said_to_hurt_it_unless_it_was_pruned_before() {
    let dir = tempfile::tempdir().unwrap();
    let [model, out] = ["model.safetensors", "out"].map(|n| {
        let path = dir.path().join(n);
        path.to_str().unwrap().to_owned()
    });
    let write = |zeros: usize| {
        let matrix = |name: &'static str, seed| {
            let mut values = noise(seed, 4096);
            values.iter_mut().step_by(2).take(zeros / 2).for_each(|v| *v = 0.0);
            (name, DType::F32, vec![64, 64], words_of(DType::F32, &values))
        };
        let tensors = [matrix("a.weight", 1), matrix("b.weight", 2), matrix("embed.weight", 3)];
        write_checkpoint(Path::new(&model), &tensors);
    };
    let of = |job: &[&str], preset: &str| tersor(&[job, &["--preset", preset]].concat());
    let compress = ["compress", &model, "-o", &out, "--force"];
    let dense = "2 tensors lose up to 50 % of the weights: a network that is not trained again with these at zero does much worse";
    let maybe = dense.replace("weights:", "weights, unless the network was pruned before:");
    for preset in ["deep", "weightless"] {
        write(0);
        let (report, said) = of(&compress, preset);
        assert_eq!(report["warnings"], serde_json::json!([dense]), "{preset}");
        assert_eq!(said.matches(dense).count(), 1, "{said}");
        assert_eq!(tensor(&report, "embed.weight")["reason"], "it is an embedding");
        assert_eq!(of(&["plan", &model], preset).1.matches(&maybe).count(), 1);
        // Half of the weights are zero already.
        write(4096);
        let (report, said) = of(&compress, preset);
        assert_eq!((&report["warnings"], said.as_str()), (&serde_json::json!([]), ""), "{preset}");
    }
    // Presets that prune nothing do not speak of it.
    assert_eq!(of(&compress, "int8").1, "");
    assert_eq!(of(&["plan", &model], "int8").1, "");
}
