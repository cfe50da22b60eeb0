//! Sentence embeddings from a BERT encoder in a Hugging Face folder, or from a tersor archive of it.
//!
//! `cargo run --release --example embed -- --model FOLDER "a sentence" "another" [--json]`

use clap::Parser;
use std::path::PathBuf;
use tersor::{
    Backend, Device, Error, Result,
    nn::{Arithmetic, Bert},
};

/// Prints a line of numbers for every sentence.
#[derive(Parser)]
struct Options {
    /// A folder with config.json, tokenizer.json and the weights, original or compressed.
    #[arg(long)]
    model: PathBuf,
    /// An array of arrays instead of lines.
    #[arg(long)]
    json: bool,
    /// auto, cpu or gpu.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Takes activations as f32 also where the weights are 8-bit codes.
    #[arg(long)]
    float: bool,
    #[arg(required = true)]
    sentences: Vec<String>,
}

fn main() {
    if let Err(e) = run(Options::parse()) {
        eprintln!("error: {e}");
        std::process::exit(2);
    }
}

fn run(options: Options) -> Result<()> {
    let device = match options.device.as_str() {
        "auto" => Device::Auto,
        "cpu" => Device::Cpu,
        "gpu" => Device::Gpu,
        other => return Err(Error::Usage(format!("--device {other}: expected auto, cpu or gpu"))),
    };
    let on = Backend::open(device)?;
    let arithmetic = if options.float { Arithmetic::Float } else { Arithmetic::Mixed };
    let bert = Bert::load(&options.model, &on, arithmetic)?;
    let path = options.model.join("tokenizer.json");
    let unreadable = |e: tokenizers::Error| Error::format(&path, e.to_string());
    let mut tokenizer = tokenizers::Tokenizer::from_file(&path).map_err(unreadable)?;
    // The file may ask for padding or cutting to some length; here a sentence has the tokens it has.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(unreadable)?;
    let tokens = options.sentences.iter().map(|s| tokenizer.encode(s.as_str(), true));
    let tokens = tokens.collect::<std::result::Result<Vec<_>, _>>().map_err(unreadable)?;
    let ids: Vec<&[u32]> = tokens.iter().map(|t| t.get_ids()).collect();
    let (int8, all) = bert.int8_layers();
    eprintln!(
        "{}: weights take {:.1} MB; {int8} of {all} dense layers multiply integers",
        on.name(),
        bert.bytes() as f64 / 1e6
    );
    let embeddings = bert.embed(&on, &ids)?;
    if options.json {
        let json = serde_json::to_string(&embeddings).expect("numbers are JSON");
        println!("{json}");
        return Ok(());
    }
    for embedding in embeddings {
        let numbers: Vec<String> = embedding.iter().map(f32::to_string).collect();
        println!("{}", numbers.join(" "));
    }
    Ok(())
}
