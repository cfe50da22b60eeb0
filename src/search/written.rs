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
    let limit = match ask.target {
        Target::Error(limit) => Some(limit),
        Target::Size(_) | Target::BitsPerWeight(_) => ask.additions.max_error,
    };
    let flags: Vec<String> = ask
        .additions
        .keep
        .iter()
        .map(|glob| format!("--keep {glob}"))
        .chain(ask.additions.set.iter().map(|(glob, preset)| format!("--set {glob}={preset}")))
        .collect();
    if !flags.is_empty() {
        let flags = crate::quote::printable(&flags.join(" "));
        _ = writeln!(text, "# With {flags}, which it has rules for: it is used without them.");
    }
    text.push_str("version = 1\n");
    for (i, t) in checkpoint.tensors.iter().enumerate() {
        let lossless = Way::lossless();
        let (way, view) = match (model.part_of.get(&i), model.coded.get(&i)) {
            _ if model.by_flags.contains_key(&i) => {
                let (way, view) = &model.by_flags[&i];
                (way, *view)
            }
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
        // What matches this name alone. Globs have no way to write what escapes their own.
        let (key, name) = match t.name.contains('\\') {
            true => ("regex", regex::escape(&t.name)),
            false => ("match", globset::escape(&t.name)),
        };
        _ = writeln!(text, "\n[[rule]]\n{key} = {}", toml::Value::String(name));
        let lines = way.text(STATES);
        if view.axis == 1 && !lines.contains("axis = ") {
            _ = writeln!(text, "axis = 1");
        }
        text.push_str(&lines);
        text.push('\n');
        if let Some(limit) = limit {
            _ = writeln!(text, "max_rel_error = {limit:?}");
        }
    }
    text.push_str(
        "\n[[rule]]\nmatch = \"*\"          # as presets do\nkeep = true\nwhy = \"presets keep it, a flag does, or it is best so\"\noptional = true\n",
    );
    text
}
