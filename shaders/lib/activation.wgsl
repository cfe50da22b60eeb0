// Pure helpers only. What a layer applies to its outputs. Reference: src/kernels/activation.rs, whose numbers these are.
const RELU: u32 = 1u;
const GELU: u32 = 2u;

// Within 3e-7 of erf(x): Abramowitz and Stegun 1964, formula 7.1.26.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - p * exp(-min(x * x, 80.0)));
}

fn activated(kind: u32, x: f32) -> f32 {
    if kind == RELU { return max(x, 0.0); }
    if kind == GELU { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
    return x;
}
