use crate::cli::{json, say, table};
use clap::{Args, Subcommand};
use tersor::{
    Result,
    recipe::{MINILM_BYTES, Preset, SHIPPED},
};

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_long_help = "Examples:
  tersor presets
  tersor presets show int4
  tersor presets show int4 > mine.toml     # a recipe of your own to start from
  tersor presets --json"
)]
pub struct Presets {
    #[command(subcommand)]
    command: Option<PresetsCommand>,
    /// Print one JSON object on stdout and nothing else
    #[arg(short, long)]
    pub json: bool,
}

#[derive(Subcommand)]
enum PresetsCommand {
    /// Print the recipe of a preset, as it ships
    Show {
        /// Which
        name: String,
    },
}

impl Presets {
    pub fn run(self) -> Result<u8> {
        match (self.command, self.json) {
            (Some(PresetsCommand::Show { name }), _) => say(Preset::named(&name)?.text)?,
            (None, true) => {
                let object = serde_json::json!({"ok": true, "presets": SHIPPED});
                say(&json::object("presets", &object)?)?;
            }
            (None, false) => say(&listed())?,
        }
        Ok(0)
    }
}

fn listed() -> String {
    let head = ["preset", "bits", "for", "MiniLM", "ratio", "error"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(SHIPPED.iter().map(|p| {
        vec![
            p.name.into(),
            asked(p),
            p.purpose.into(),
            format!("{:.1} MB", p.minilm.bytes as f64 / 1e6),
            format!("{:.2}x", MINILM_BYTES as f64 / p.minilm.bytes as f64),
            match p.minilm.rel_error {
                0.0 => "0".into(),
                error => format!("{error:.4}"),
            },
        ]
    }));
    format!(
        "{}
bits: of a weight, in parentheses of an embedding; or which weights survive
MiniLM: all-MiniLM-L6-v2, {} of F32, measured (benches/record/); error: the
largest ‖W-Q‖ / ‖W‖ of a tensor, without training again

`tersor presets show NAME` prints a preset's recipe.
",
        table::table(&rows),
        table::bytes(MINILM_BYTES)
    )
}

/// What it asks for.
fn asked(preset: &Preset) -> String {
    match (preset.bits, preset.embedding_bits, preset.survivors) {
        (Some(bits), Some(of_embeddings), _) => format!("{bits} ({of_embeddings})"),
        (Some(bits), None, _) => bits.to_string(),
        (None, _, Some(survivors)) => survivors.into(),
        (None, _, None) => "all".into(),
    }
}
