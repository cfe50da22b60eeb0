//! How figures are written, in terminals and on pages.

/// Bytes with a unit.
pub fn bytes(n: u64) -> String {
    in_unit_of(n, n)
}

/// Bytes with the unit that others have, so that the two can be compared.
pub fn in_unit_of(n: u64, others: u64) -> String {
    match others {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// A shape in one word: 64x3x5x5.
pub fn shape(shape: &[u64]) -> String {
    match shape {
        [] => "scalar".into(),
        _ => shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x"),
    }
}

/// A number where there is one.
pub fn number(x: Option<f64>) -> String {
    x.map_or("-".into(), |x| match x.abs() {
        0.0 => "0".into(),
        1e-3..1e5 => format!("{x:.5}"),
        _ => format!("{x:.3e}"),
    })
}

/// Bits of a weight, where there are any.
pub fn bits(x: Option<f64>) -> String {
    x.map_or("-".into(), |x| format!("{x:.3}"))
}
