//! Plain text tables, for terminals of 80 columns.

pub use tersor::report::figures::{bits, bytes, in_unit_of, number, shape};
use unicode_width::UnicodeWidthStr;

/// What a terminal shows in a line, if nothing else is known.
pub const WIDTH: usize = 80;

pub type Rows = Vec<Vec<String>>;

/// The columns that a text takes in a terminal: two for a character of Chinese, Japanese or Korean.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Columns as wide as their longest cell. A column whose cells below its first are numbers is aligned right, others left.
pub fn table(rows: &[Vec<String>]) -> String {
    lines(rows, 0)
}

/// The same of the columns from `first` on.
fn lines(rows: &[Vec<String>], first: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |c: usize| rows.iter().filter_map(move |r| r.get(c));
    let number = |s: &String| s.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let widths: Vec<usize> =
        (0..columns).map(|c| cells(c).map(|s| width(s)).max().unwrap_or(0)).collect();
    let right: Vec<bool> = (0..columns)
        .map(|c| c > 0 && cells(c).skip(1).all(|s| s.is_empty() || number(s)))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate().skip(first) {
            let pad = " ".repeat(widths[c] - width(cell));
            line += if c == first { "" } else { "  " };
            line += &if right[c] { format!("{pad}{cell}") } else { format!("{cell}{pad}") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// The same within [`WIDTH`]: a first cell that is too long for what the others leave of a line has one of its own.
pub fn narrow(rows: &[Vec<String>]) -> String {
    let rest = lines(rows, 1);
    let longest = |lines: &mut dyn Iterator<Item = usize>| lines.max().unwrap_or(0);
    let taken = longest(&mut rest.lines().map(width)) + 2;
    let left = WIDTH.saturating_sub(taken);
    let fits = |row: &&Vec<String>| row.first().is_none_or(|first| width(first) <= left);
    let first = longest(&mut rows.iter().filter(fits).filter_map(|r| Some(width(r.first()?))));
    // Aligned with one another, the first cell aside.
    let mut out = String::new();
    for (row, rest) in rows.iter().zip(rest.lines()) {
        let name = row.first().map_or("", String::as_str);
        match fits(&row) {
            true => {
                let pad = " ".repeat(first - width(name));
                out += format!("{name}{pad}  {rest}").trim_end();
            }
            false => {
                let pad = " ".repeat(first);
                out += &format!("{}\n", shortened(name, WIDTH));
                out += format!("{pad}  {rest}").trim_end();
            }
        }
        out.push('\n');
    }
    out
}

/// A text that takes no more than so many columns: the middle of a longer one is left out.
pub fn shortened(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.into();
    }
    let half = columns.saturating_sub(1) / 2;
    let start: String = taken(text.chars(), half).collect();
    let end: Vec<char> = taken(text.chars().rev(), half).collect();
    format!("{start}…{}", end.into_iter().rev().collect::<String>())
}

/// The first characters of some, as many as so many columns hold.
fn taken(chars: impl Iterator<Item = char>, columns: usize) -> impl Iterator<Item = char> {
    let mut room = columns;
    chars.take_while(move |c| {
        let needed = width(c.encode_utf8(&mut [0; 4]));
        let fits = needed <= room;
        room -= needed.min(room);
        fits
    })
}

/// A name from a file, safe to print and not too long.
pub fn name(name: &str) -> String {
    let quoted = tersor::format::quoted(name);
    quoted[1..quoted.len() - 1].to_owned()
}

/// The titles of a table.
pub fn head(cells: &[&str]) -> Rows {
    vec![cells.iter().map(|c| (*c).to_owned()).collect()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(names: &[&str]) -> Rows {
        let row = |name: &&str| vec![(*name).to_owned(), "F32".into(), "12".into()];
        names.iter().map(row).collect()
    }

    #[test]
    fn columns_are_aligned_by_what_a_terminal_shows() {
        let table = table(&rows(&["层.权重", "w"]));
        assert_eq!(table, "层.权重  F32  12\nw        F32  12\n");
        assert_eq!(shortened("层层层层", 5), "层…层");
        assert_eq!(shortened("abcdefgh", 5), "ab…gh");
    }

    #[test]
    fn a_long_name_has_a_line_of_its_own() {
        let (long, longer) = ("a".repeat(75), "b".repeat(100));
        let table = narrow(&rows(&["w", &long, &longer]));
        assert!(table.lines().all(|line| width(line) <= WIDTH), "{table}");
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[..3], ["w  F32  12", &long, "   F32  12"]);
        assert!(lines[3].contains('…') && lines[4] == "   F32  12");
    }
}
