//! Whether two results agree: element by element, never on average, and a number that is none agrees with nothing.

use crate::{
    Backend, DType, Result,
    crosscheck::case::{Data, Input, Outputs},
};

/// For every element of the first output, in order, the value that it approaches and how far from it it may lie on a backend: a
/// device adds in another order than the CPU, and has worse exponentials.
pub type Bounds = fn(&Backend, &Input) -> Result<Vec<(f64, f64)>>;

/// Half an ulp of 1.
pub(super) const U: f64 = 1.0 / (1 << 24) as f64;

/// What `n` roundings, one after the other, may do to a number, as a share of it: Higham 2002, "Accuracy and Stability of
/// Numerical Algorithms", lemma 3.1; of so many that they may do anything, twice their sum.
pub(super) fn roundings(n: f64) -> f64 {
    n * U / (1.0 - (n * U).min(0.5))
}

/// How closely a kernel's results must agree.
#[derive(Clone, Copy)]
pub enum Class {
    /// Every byte is that of the reference backend.
    Exact,
    /// Every element of the first output lies within so many ulps of an f64 reference that shares no code with either backend,
    /// or within an absolute floor; further outputs are exact.
    Ulps(f64, f64, fn(&Input) -> Result<Vec<f64>>),
    /// Every element of the first output lies within its own bound of an f64 reference: the value and the bound. Further
    /// outputs are exact.
    Bound(Bounds),
    /// A property with a name: the question is whether it holds, and the answer what is wrong.
    Invariant(&'static str, fn(&Input, &Outputs) -> Result<Option<String>>),
}

impl Class {
    /// Its name in a report.
    pub fn name(self) -> String {
        match self {
            Self::Exact => "E0".into(),
            Self::Ulps(..) => "E1".into(),
            Self::Bound(_) => "E2".into(),
            Self::Invariant(name, _) => name.into(),
        }
    }
}

/// How far results lie from what was expected: the worst element.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distance {
    /// Elements compared.
    pub elements: usize,
    /// Ulps of the element that lies furthest.
    pub max_ulp: f64,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest difference as a share of what its element is allowed.
    pub max_share: f64,
}

/// A result that does not agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which output.
    pub output: String,
    /// Row and column of the worst element.
    pub index: [usize; 2],
    /// What was expected, as value and bits.
    pub want: String,
    /// What came, as value and bits.
    pub got: String,
    /// Elements that do not agree, of all elements of this output.
    pub wrong: usize,
    /// Elements of this output.
    pub elements: usize,
    /// What the elements that are wrong have in common.
    pub pattern: String,
    /// Ulps between the two; infinite where either is no number.
    pub ulp: f64,
    /// Absolute difference.
    pub abs: f64,
}

/// A pattern as an integer whose order is that of the values.
fn ordered(dtype: DType, bits: u64) -> i128 {
    match dtype {
        DType::I8 => i128::from(bits as i8),
        DType::I32 => i128::from(bits as i32),
        _ if dtype.is_weight() => {
            let sign = 1u64 << (dtype.bits() - 1);
            if bits & sign == 0 { i128::from(bits) } else { -i128::from(bits & !sign) }
        }
        _ => i128::from(bits),
    }
}

/// Ulps between two elements of one type; infinite where either is no number and they differ.
pub fn ulps(dtype: DType, a: u64, b: u64, finite: bool) -> f64 {
    match a == b {
        true => 0.0,
        false if !finite => f64::INFINITY,
        false => (ordered(dtype, a) - ordered(dtype, b)).unsigned_abs() as f64,
    }
}

/// The distance between an f32 at `x` and the next.
pub fn ulp_at(x: f64) -> f64 {
    let exponent = (x.abs().max(f64::from(f32::MIN_POSITIVE)).to_bits() >> 52) as i32 - 1023;
    2f64.powi(exponent - 23)
}

/// Demands that two backends, or two runs, gave the same bytes.
///
/// # Errors
///
/// The worst element of the first output that differs.
pub fn exact(want: &Outputs, got: &Outputs) -> std::result::Result<Distance, Box<Difference>> {
    let mut distance = Distance::default();
    if want.len() != got.len() {
        return Err(Box::new(shape_differs("outputs", want.len(), got.len())));
    }
    for ((name, want), (_, got)) in want.iter().zip(got) {
        let shape = |d: &Data| format!("{} [{}, {}]", d.dtype.name(), d.rows, d.cols);
        if shape(want) != shape(got) {
            return Err(Box::new(shape_differs(name, shape(want), shape(got))));
        }
        distance.elements += want.elements();
        if want.words == got.words {
            continue;
        }
        let mut wrong: Vec<usize> =
            (0..want.elements()).filter(|i| want.bits(*i) != got.bits(*i)).collect();
        if wrong.is_empty() {
            // Only the padding behind the last element.
            return Err(Box::new(shape_differs(name, "padding of zeros", "other padding")));
        }
        let apart = |i: usize| {
            let finite = want.value(i).is_finite() && got.value(i).is_finite();
            ulps(want.dtype, want.bits(i), got.bits(i), finite)
        };
        let pattern = pattern(want, got, &wrong);
        let count = wrong.len();
        wrong.sort_by(|a, b| apart(*b).total_cmp(&apart(*a)).then(a.cmp(b)));
        let worst = wrong[0];
        return Err(Box::new(Difference {
            output: (*name).into(),
            index: [worst / want.cols, worst % want.cols],
            want: shown(want.value(worst), want.bits(worst), want.width()),
            got: shown(got.value(worst), got.bits(worst), got.width()),
            wrong: count,
            elements: want.elements(),
            pattern,
            ulp: apart(worst),
            abs: (want.value(worst) - got.value(worst)).abs(),
        }));
    }
    Ok(distance)
}

/// Demands that every element of the first output lies within its bound.
///
/// # Errors
///
/// The element that lies furthest beyond its bound; one that is not finite lies beyond every bound.
pub fn within(
    want: &[(f64, f64)],
    (name, got): (&str, &Data),
) -> std::result::Result<Distance, Box<Difference>> {
    if got.dtype != DType::F32 || want.len() != got.elements() {
        let shape = format!("{} [{}, {}]", got.dtype.name(), got.rows, got.cols);
        return Err(Box::new(shape_differs(name, format!("{} F32", want.len()), shape)));
    }
    let mut distance = Distance { elements: want.len(), ..Distance::default() };
    // Beyond the bound in units of it; everything that is no number is infinitely far.
    let beyond = |i: usize| {
        let ((want, bound), got) = (want[i], got.value(i));
        let error = (want - got).abs();
        match want.is_finite() && got.is_finite() && bound.is_finite() {
            true if error <= bound => None,
            true => Some(error / bound.max(f64::MIN_POSITIVE)),
            false => Some(f64::INFINITY),
        }
    };
    let mut wrong = Vec::new();
    for (i, (want, bound)) in want.iter().enumerate() {
        if let Some(by) = beyond(i) {
            wrong.push((i, by));
        } else {
            let error = (want - got.value(i)).abs();
            distance.max_abs = distance.max_abs.max(error);
            distance.max_ulp = distance.max_ulp.max(error / ulp_at(*want));
            if error > 0.0 {
                distance.max_share = distance.max_share.max(error / bound);
            }
        }
    }
    let Some(&(worst, _)) = wrong.iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    else {
        return Ok(distance);
    };
    let expected: Vec<f32> = want.iter().map(|w| w.0 as f32).collect();
    let expected = Data::f32((got.rows, got.cols), &expected);
    let indices: Vec<usize> = wrong.iter().map(|w| w.0).collect();
    let abs = (want[worst].0 - got.value(worst)).abs();
    Err(Box::new(Difference {
        output: name.into(),
        index: [worst / got.cols, worst % got.cols],
        want: format!("{:e} within {:e}", want[worst].0, want[worst].1),
        got: shown(got.value(worst), got.bits(worst), 4),
        wrong: wrong.len(),
        elements: want.len(),
        pattern: pattern(&expected, got, &indices),
        ulp: if abs.is_finite() { abs / ulp_at(want[worst].0) } else { f64::INFINITY },
        abs,
    }))
}

fn shape_differs(name: &str, want: impl ToString, got: impl ToString) -> Difference {
    Difference {
        output: name.into(),
        index: [0, 0],
        want: want.to_string(),
        got: got.to_string(),
        wrong: 1,
        elements: 1,
        pattern: "another form".into(),
        ulp: f64::INFINITY,
        abs: f64::INFINITY,
    }
}

/// A value with its bits.
pub fn shown(value: f64, bits: u64, width: usize) -> String {
    format!("{value:?} (0x{bits:0digits$x})", digits = 2 * width)
}

/// What the elements that are wrong have in common: a guess that says where to look first.
fn pattern(want: &Data, got: &Data, wrong: &[usize]) -> String {
    let (n, first, last) = (want.elements(), wrong[0], wrong[wrong.len() - 1]);
    let flipped = want.bits(first) ^ got.bits(first);
    let rows = |i: &usize| i / want.cols;
    let cols = |i: &usize| i % want.cols;
    let in_step = |step: usize| {
        let of_step = (n + step - 1 - first % step) / step;
        wrong.iter().all(|i| i % step == first % step) && 2 * wrong.len() > of_step
    };
    let place = if wrong.len() == n && n > 1 {
        "every element".into()
    } else if let [only] = wrong {
        format!("element {only} alone")
    } else if last == n - 1 && wrong.len() == n - first {
        format!("all from element {first} on: a tail or the last workgroup")
    } else if let Some(step) = [256, 128, 64, 32, 16, 8, 4, 3, 2].into_iter().find(|s| in_step(*s))
    {
        format!("every {step}th element from {} on", first % step)
    } else if wrong.iter().all(|i| rows(i) == rows(&first)) {
        format!("in row {}", rows(&first))
    } else if wrong.iter().all(|i| cols(i) == cols(&first)) {
        format!("in column {}", cols(&first))
    } else if first >= n / 2 {
        "in the upper half".into()
    } else {
        "no pattern".into()
    };
    let one_bit = wrong.iter().all(|i| want.bits(*i) ^ got.bits(*i) == flipped);
    match one_bit && flipped.is_power_of_two() {
        true => format!("{place}; bit {} flipped", flipped.trailing_zeros()),
        false => place,
    }
}
