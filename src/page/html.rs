//! Pieces of HTML: text of untrusted names, figures, and the frame around all.

use crate::quote::printable;

/// Characters of a name that are shown, at most.
const LONGEST_NAME: usize = 160;
/// Characters of any other text.
const LONGEST: usize = 4000;

/// A name from a file, harmless wherever it stands: in an element, or in a quoted attribute. What a terminal would obey, or what
/// turns the text around, is escaped; a long one is cut.
pub fn name(name: &str) -> String {
    escaped(&printable(&cut(name, LONGEST_NAME)))
}

/// A name in an element of its own, whose lines end at its dots rather than anywhere.
pub fn named(text: &str) -> String {
    let mut out = String::from("<span class=\"name\">");
    out += &broken(text);
    out + "</span>"
}

/// A name for an element that is its own: lines end at its dots.
pub fn broken(text: &str) -> String {
    name(text).replace('.', ".<wbr>")
}

/// A text that may hold names, as harmless.
pub fn text(text: &str) -> String {
    escaped(&printable(&cut(text, LONGEST)))
}

/// A text of lines, such as a recipe, of any length.
pub fn lines(text: &str) -> String {
    text.lines().map(|line| escaped(&printable(line)) + "\n").collect()
}

fn cut(text: &str, longest: usize) -> String {
    let mut cut: String = text.chars().take(longest).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            _ => out.push(c),
        }
    }
    out
}

/// A whole number with commas.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many of a thing: `1 tensor`, `1,234 tensors`.
pub fn of(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A number of a scale: three digits.
pub fn short(x: f64) -> String {
    let text = match x.abs() {
        0.0 => return "0".into(),
        1e-3..1e4 => {
            let digits = (2 - libm::log10(x.abs()).floor() as i32).max(0) as usize;
            let text = format!("{x:.digits$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
        _ => format!("{x:.1e}"),
    };
    // A minus sign is as wide as a plus.
    text.replace('-', "\u{2212}")
}

/// A coordinate of a picture: two digits, and never anything that is no number.
pub fn at(x: f64) -> String {
    debug_assert!(x.is_finite(), "a coordinate that is no number");
    let x = if x.is_finite() { x.clamp(-1e6, 1e6) } else { 0.0 };
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// A section with a heading, and a paragraph under it, where there is one.
pub fn section(out: &mut String, id: &str, title: &str, lead: &str) {
    *out += &format!(
        "<section id=\"{id}\" aria-labelledby=\"{id}-h\">\n<h2 id=\"{id}-h\">{title}</h2>\n"
    );
    if !lead.is_empty() {
        *out += &format!("<p class=\"lead\">{lead}</p>\n");
    }
}

/// Ends it.
pub fn end(out: &mut String) {
    *out += "</section>\n";
}

/// A list of terms and what they are, both escaped.
pub fn terms(out: &mut String, pairs: &[(String, String)]) {
    *out += "<dl>\n";
    for (term, is) in pairs {
        *out += &format!("<div><dt>{}</dt><dd>{}</dd></div>\n", text(term), text(is));
    }
    *out += "</dl>\n";
}

/// What stands before everything else, if there is any.
pub fn page_list(out: &mut String, label: &str, said: &[String]) {
    if said.is_empty() {
        return;
    }
    *out += &format!("<ul class=\"warnings\" aria-label=\"{label}\">\n");
    said.iter().for_each(|said| *out += &format!("<li>{}</li>\n", lines(said).trim_end()));
    *out += "</ul>\n";
}

/// A whole page. It asks for nothing, and the policy in its head keeps it from asking, whatever its text is.
pub fn page(title: &str, body: &str) -> String {
    const STYLE: &str = include_str!("style.css");
    const SCRIPT: &str = include_str!("sort.js");
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                          base-uri 'none'; form-action 'none'";
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\
         <footer>tersor {version}. This page is complete: it loads nothing.</footer>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_markup_does_not_become_any() {
        assert_eq!(
            text("</script><b a='\"'>&"),
            "&lt;/script&gt;&lt;b a=&#39;&quot;&#39;&gt;&amp;"
        );
        assert_eq!(text("a\n\u{202e}b"), "a\\u{a}\\u{202e}b");
        assert_eq!(name(&"é".repeat(500)).chars().count(), LONGEST_NAME + 1);
        assert_eq!(text(&"é".repeat(5000)).chars().count(), LONGEST + 1);
        assert_eq!(named("a.<b"), "<span class=\"name\">a.<wbr>&lt;b</span>");
        assert_eq!(lines("a<\r\nb"), "a&lt;\nb\n");
    }

    #[test]
    fn figures() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((&*of(1, "tensor"), &*of(2000, "tensor")), ("1 tensor", "2,000 tensors"));
        let numbers = [0.0, 0.0123456, -1.5, 0.1, 1234.6, 1e-7, 3.4e38, 30.0];
        let expected = ["0", "0.0123", "−1.5", "0.1", "1235", "1.0e−7", "3.4e38", "30"];
        assert_eq!(numbers.map(short), expected);
        assert_eq!([0.0, -0.001, 1.5, 1e9, 100.0].map(at), ["0", "0", "1.5", "1000000", "100"]);
    }
}
