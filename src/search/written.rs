//! What was found, as a recipe.

use crate::{
    format::Checkpoint,
    search::{
        Ask, Target,
        parts::Model,
        ways::{STATES, Way},
    },
};
use std::fmt::Write;

/// The recipe of these ways, one for every part. A rule names its tensor, so that it says nothing of others.
pub fn written(checkpoint: &Checkpoint, model: &Model, ways: &[Way], ask: &Ask) -> String {
    let mut text =
        format!("# Found by tersor {} for {}.\n", env!("CARGO_PKG_VERSION"), ask.target.flag());
    let flags: Vec<String> = ask
        .additions
        .keep
        .iter()
        .map(|glob| format!("--keep {glob}"))
        .chain(ask.additions.set.iter().map(|(glob, preset)| format!("--set {glob}={preset}")))
        .collect();
    if !flags.is_empty() {
        let flags = crate::quote::printable(&flags.join(" "));
        _ = writeln!(
            text,
            "# It is for use with {flags}: of the tensors of these it says nothing."
        );
    }
    text.push_str("version = 1\n");
    for (i, t) in checkpoint.tensors.iter().enumerate() {
        if model.by_flags[i] {
            continue;
        }
        let lossless = Way::lossless();
        let (way, view) = match (model.part_of.get(&i), model.coded.get(&i)) {
            (Some(part), _) => {
                let part_view = model.parts[*part].members[0].view;
                (&ways[*part], part_view)
            }
            (None, Some(view)) => (&lossless, *view),
            (None, None) => continue,
        };
        if *way == Way::Keep {
            continue;
        }
        // A glob that is this name.
        let name = toml::Value::String(globset::escape(&t.name));
        _ = writeln!(text, "\n[[rule]]\nmatch = {name}");
        let lines = way.text(STATES);
        if view.axis == 1 && !lines.contains("axis = ") {
            _ = writeln!(text, "axis = 1");
        }
        text.push_str(&lines);
        text.push('\n');
        if let (Target::Error(limit), Some(_)) = (ask.target, model.part_of.get(&i)) {
            _ = writeln!(text, "max_rel_error = {limit:?}");
        }
    }
    text.push_str(
        "\n[[rule]]\nmatch = \"*\"          # as presets do\nkeep = true\nwhy = \"presets keep it too\"\noptional = true\n",
    );
    text
}
