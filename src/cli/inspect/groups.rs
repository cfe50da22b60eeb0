//! Names whose numbers are those of layers: `model.layers.3.mlp.up_proj.weight` is one of many.

use std::{cmp::Ordering, collections::HashMap};

/// Tensors that are alike but for the numbers in their names.
pub struct Group<'a, T> {
    /// The name, `[N]` for every number that differs.
    pub name: String,
    pub members: Vec<&'a T>,
}

/// Puts together what has the same key and the same name but for whole parts of it that are numbers; in the order of the first
/// of each.
pub fn group<'a, T, K: std::hash::Hash + Eq>(
    all: impl IntoIterator<Item = &'a T>,
    name: impl Fn(&T) -> &str,
    key: impl Fn(&T) -> K,
) -> Vec<Group<'a, T>> {
    let mut places: HashMap<(String, K), usize> = HashMap::new();
    let mut groups: Vec<Vec<&T>> = Vec::new();
    for t in all {
        let pattern: Vec<&str> =
            parts(name(t)).map(|part| if is_number(part) { "[N]" } else { part }).collect();
        let place = *places.entry((pattern.concat(), key(t))).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(members) => members.push(t),
            None => groups.push(vec![t]),
        }
    }
    let named = |members: Vec<&'a T>| Group { name: pattern_of(&members, &name), members };
    groups.into_iter().map(named).collect()
}

/// The name of all members: what is the same in all stays.
fn pattern_of<T>(members: &[&T], name: impl Fn(&T) -> &str) -> String {
    let mut common: Vec<&str> = parts(name(members[0])).collect();
    for t in &members[1..] {
        for (part, other) in common.iter_mut().zip(parts(name(t))) {
            if *part != other {
                *part = "[N]";
            }
        }
    }
    common.concat()
}

/// The parts of a name and what stands between them.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split_inclusive(['.', '/']).flat_map(|part| {
        let len = part.strip_suffix(['.', '/']).map_or(part.len(), str::len);
        [&part[..len], &part[len..]]
    })
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

/// The order of names in which 2 is before 10.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    loop {
        let (Some(c), Some(d)) = (x.chars().next(), y.chars().next()) else {
            // Different texts of the same number are still different.
            return x.len().cmp(&y.len()).then_with(|| a.cmp(b));
        };
        if c.is_ascii_digit() && d.is_ascii_digit() {
            let (n, m) = (digits(&mut x), digits(&mut y));
            match n.len().cmp(&m.len()).then_with(|| n.cmp(m)) {
                Ordering::Equal => continue,
                other => return other,
            }
        }
        match c.cmp(&d) {
            Ordering::Equal => (x, y) = (&x[c.len_utf8()..], &y[d.len_utf8()..]),
            other => return other,
        }
    }
}

/// Takes the number that a text begins with, without leading zeros.
fn digits<'a>(text: &mut &'a str) -> &'a str {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(len);
    *text = rest;
    number.trim_start_matches('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_natural_order() {
        let mut names = ["h.10.w", "h.9.w", "h.1.w", "h.01.w", "h.w", "g.10", "层.2", "层.10"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["g.10", "h.01.w", "h.1.w", "h.9.w", "h.10.w", "h.w", "层.2", "层.10"]);
    }

    #[test]
    fn layers_are_one_and_what_is_alike_in_all_stays() {
        let names: Vec<String> = (0..12)
            .flat_map(|i| [format!("h.{i}.mlp.0.w"), format!("h.{i}.mlp.2.w"), format!("h.{i}.b")])
            .chain(["fc1.w".into(), "fc2.w".into(), "top.7.w".into()])
            .collect();
        let found = group(&names, |n| n, |n| n.contains(".2."));
        let found: Vec<_> = found.iter().map(|g| (g.members.len(), g.name.as_str())).collect();
        // Layer 2 has its own key.
        assert_eq!(
            found,
            [
                (11, "h.[N].mlp.0.w"),
                (13, "h.[N].mlp.[N].w"),
                (11, "h.[N].b"),
                (1, "h.2.b"),
                (1, "fc1.w"),
                (1, "fc2.w"),
                (1, "top.7.w")
            ]
        );
    }
}
