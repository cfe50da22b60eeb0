//! Tables, of which that of the tensors is sorted by the script.

use crate::page::html::{broken, text};

/// A column.
pub struct Column {
    /// What a page's address calls it; nothing where it cannot be asked for.
    pub key: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What its cells are.
    pub kind: Kind,
}

/// What the cells of a column are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text of a word or so.
    Text,
    /// Text that may take lines.
    Words,
    /// Numbers, or `-`.
    Number,
}

/// A column of text.
pub const fn words(key: &'static str, title: &'static str, kind: Kind) -> Column {
    Column { key, title, kind }
}

/// A column of numbers.
pub const fn number(key: &'static str, title: &'static str) -> Column {
    Column { key, title, kind: Kind::Number }
}

/// A table whose rows have a name first; cells are escaped. `id`: that of the one that is sorted.
pub fn table(
    out: &mut String,
    id: Option<&str>,
    caption: &str,
    columns: &[Column],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let id = id.map_or(String::new(), |id| format!(" id=\"{id}\""));
    *out += &format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table{id} aria-label=\"{caption}\">\n<thead><tr>"
    );
    for Column { key, title, kind } in columns {
        let class = if *kind == Kind::Number { " class=\"n\"" } else { "" };
        let key = if key.is_empty() { String::new() } else { format!(" data-key=\"{key}\"") };
        *out += &format!("<th scope=\"col\"{class}{key}>{title}</th>");
    }
    *out += "</tr></thead>\n<tbody>\n";
    for row in rows {
        *out += "<tr>";
        for (i, (cell, column)) in row.iter().zip(columns).enumerate() {
            if i == 0 {
                *out += &format!("<th scope=\"row\" class=\"name\">{}</th>", broken(cell));
                continue;
            }
            let cell = text(cell);
            *out += &match column.kind {
                Kind::Number => format!("<td class=\"n\">{cell}</td>"),
                Kind::Words => format!("<td class=\"w\">{cell}</td>"),
                Kind::Text => format!("<td>{cell}</td>"),
            };
        }
        *out += "</tr>\n";
    }
    *out += "</tbody></table></div>\n";
}
