//! Text from files in messages: names and paths are data, and may hold what a terminal would obey.

use std::path::Path;

/// A name from a file, for a message: escaped and cut.
pub fn quoted(name: &str) -> String {
    let mut text: String = name.chars().take(100).flat_map(char::escape_debug).collect();
    if name.chars().nth(100).is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
}

/// A path for a message: as it is, but for characters that would move the cursor or turn the text around.
pub fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// How many of a list are named in a message: one over many tensors is a line for each rule.
pub const NAMED: usize = 3;

/// The first of so many, [`NAMED`] at most, and how many more there are: `a, b, c and 4 more`.
pub fn examples<'a>(all: impl IntoIterator<Item = &'a str>, count: usize) -> String {
    let shown: Vec<&str> = all.into_iter().take(NAMED).collect();
    match count - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Text for a message whose control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if obeyed(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// What serde_json says about a file, which may quote it at any length.
pub(super) fn json_error(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let mut start: String = text.chars().take(300).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    printable(&start)
}
