//! A strict reading of a page: tags are balanced, attributes quoted, entities known, and nothing is loaded from anywhere.

use std::collections::{BTreeMap, BTreeSet};

/// An element: its name, attributes, and the text in it and below it.
#[derive(Clone, Debug, Default)]
pub struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub text: String,
    /// The names of those around it, the outermost first.
    pub within: Vec<String>,
}

impl Element {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// Elements without an end.
const VOID: [&str; 3] = ["meta", "img", "wbr"];
/// Elements whose text is no markup.
const RAW: [&str; 2] = ["script", "style"];

/// The elements of a page in the order of their starts.
///
/// # Panics
///
/// If the page is not as strict as that.
#[track_caller]
pub fn elements(page: &str) -> Vec<Element> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a document type");
    let (mut all, mut open): (Vec<Element>, Vec<usize>) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let start = rest.find('<').unwrap_or(rest.len());
        let text = decoded(&rest[..start]);
        open.iter().for_each(|i| all[*i].text += &text);
        rest = &rest[start..];
        let Some(tag) = rest.strip_prefix('<') else { continue };
        if let Some(end) = tag.strip_prefix('/') {
            let (name, after) = end.split_once('>').expect("an end tag ends");
            let last = open.pop().unwrap_or_else(|| panic!("</{name}> without a start"));
            assert_eq!(all[last].name, name, "an end tag");
            rest = after;
            continue;
        }
        let within = open.iter().map(|i| all[*i].name.clone()).collect();
        let mut element = Element { within, ..Element::default() };
        let stop = tag.find(|c: char| !c.is_ascii_alphanumeric()).expect("a tag ends");
        element.name = tag[..stop].to_owned();
        assert!(!element.name.is_empty(), "a bare < before {:.40}", tag);
        let mut inside = &tag[stop..];
        let closed = loop {
            inside = inside.trim_start();
            if let Some(after) = inside.strip_prefix("/>") {
                rest = after;
                break true;
            }
            if let Some(after) = inside.strip_prefix('>') {
                rest = after;
                break false;
            }
            let (name, after) = inside.split_once("=\"").expect("an attribute with a quoted value");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name:?}");
            let (value, after) = after.split_once('"').expect("a value ends");
            assert!(!value.contains('<'), "{name}: {value}");
            let old = element.attributes.insert(name.to_owned(), decoded(value));
            assert!(old.is_none(), "{name} twice");
            inside = after;
        };
        let (name, i) = (element.name.clone(), all.len());
        all.push(element);
        if closed || VOID.contains(&&*name) {
            continue;
        }
        if RAW.contains(&&*name) {
            let (text, after) = rest.split_once(&format!("</{name}>")).expect("raw text ends");
            all[i].text = text.to_owned();
            rest = after;
            continue;
        }
        open.push(i);
    }
    assert!(open.is_empty(), "never closed: {:?}", open.iter().map(|i| &all[*i].name));
    all
}

/// Text without its entities.
#[track_caller]
fn decoded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        out += before;
        let (entity, after) = entity.split_once(';').expect("an entity ends");
        out += match entity {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "quot" => "\"",
            "#39" => "'",
            other => panic!("the entity {other:?}"),
        };
        rest = after;
    }
    out + rest
}

/// The elements of a page that is strict, loads nothing, can be used by everyone, and has no coordinate that is no number.
#[track_caller]
pub fn checked(page: &str) -> Vec<Element> {
    let all = elements(page);
    let ids: Vec<&str> =
        all.iter().map(|e| e.attribute("id")).filter(|id| !id.is_empty()).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(unique.len(), ids.len(), "an id stands twice");
    for e in &all {
        for (name, value) in &e.attributes {
            let loads = ["src", "srcset", "data", "action", "style", "background", "xlink"];
            assert!(!loads.contains(&&**name) && !name.starts_with("on"), "{name}={value}");
            match &**name {
                "href" => {
                    let id = value.strip_prefix('#').unwrap_or_else(|| panic!("href={value}"));
                    assert!(unique.contains(id), "{value} leads nowhere");
                }
                "aria-labelledby" => {
                    assert!(value.split(' ').all(|id| unique.contains(id)), "{value} is nowhere");
                }
                "d" | "x" | "y" | "cx" | "cy" | "r" | "width" | "height" | "viewBox" => {
                    let plain = |c: char| c.is_ascii_digit() || "MHVZvh .-".contains(c);
                    assert!(value.chars().all(plain), "{name}={value}");
                }
                _ => {}
            }
        }
        let known = [
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "header",
            "main",
            "section",
            "h1",
            "h2",
            "h3",
            "p",
            "dl",
            "div",
            "dt",
            "dd",
            "ul",
            "ol",
            "li",
            "a",
            "span",
            "code",
            "pre",
            "figure",
            "figcaption",
            "svg",
            "desc",
            "path",
            "rect",
            "circle",
            "text",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "footer",
            "script",
            "wbr",
        ];
        assert!(known.contains(&&*e.name), "<{}>", e.name);
        match &*e.name {
            "style" | "script" => {
                for loads in ["http", "url(", "@import", "//cdn", "fetch", "import ", "eval"] {
                    assert!(!e.text.contains(loads), "{loads} in {}", e.name);
                }
            }
            "th" => assert!(["col", "row"].contains(&e.attribute("scope")), "{e:?}"),
            "meta" => assert!(!e.attribute("content").contains("http"), "{e:?}"),
            _ => {}
        }
    }
    // A picture has a title, or is beside the words that say the same.
    for (i, e) in all.iter().enumerate().filter(|(_, e)| e.name == "svg") {
        let titled =
            all.get(i + 1).is_some_and(|next| next.name == "title" && !next.text.is_empty());
        assert!(
            titled && e.attribute("role") == "img" || e.attribute("aria-hidden") == "true",
            "{e:?}"
        );
    }
    let policy = all.iter().find(|e| e.attribute("http-equiv") == "Content-Security-Policy");
    assert!(policy.is_some_and(|e| e.attribute("content").starts_with("default-src 'none';")));
    all
}

/// The rows of the table of an id, as text: the titles first.
pub fn rows(all: &[Element], id: &str) -> Vec<Vec<String>> {
    let start = all.iter().position(|e| e.attribute("id") == id).expect("the table is there");
    let depth = all[start].within.len();
    let inside = all[start + 1..].iter().take_while(|e| e.within.len() > depth);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for e in inside {
        match &*e.name {
            "tr" => rows.push(Vec::new()),
            "th" | "td" => rows.last_mut().expect("a row").push(e.text.clone()),
            _ => {}
        }
    }
    rows
}
