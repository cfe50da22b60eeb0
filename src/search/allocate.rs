//! How many bytes each part of a model gets: the least error for a budget.
//!
//! Every part may become one of several things. Of these only the corners of the lower convex hull of bytes and error are worth having,
//! and a budget is best spent where a byte takes away most error, over all parts: Lagrange's rule for choices that are not continuous.
//!
//! Source: Everett 1963, Operations Research 11(3); Shoham and Gersho 1988, IEEE Trans. ASSP 36(9).

/// What a part may become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Which of the things that it may become.
    pub choice: usize,
    /// What that takes.
    pub bytes: f64,
    /// What it is off by.
    pub error: f64,
}

/// The corners of the lower convex hull, from the fewest bytes on: each has less error than those before, and a byte takes away less.
pub fn hull(points: &[Point]) -> Vec<Point> {
    let finite = |p: &&Point| p.bytes.is_finite() && p.error.is_finite();
    let mut sorted: Vec<Point> = points.iter().filter(finite).copied().collect();
    sorted.sort_by(|a, b| a.bytes.total_cmp(&b.bytes).then(a.error.total_cmp(&b.error)));
    let mut hull: Vec<Point> = Vec::new();
    for p in sorted {
        if hull.last().is_some_and(|last| p.error >= last.error) {
            continue;
        }
        while let [.., a, b] = hull[..]
            && gain(a, b) <= gain(b, p)
        {
            hull.pop();
        }
        hull.push(p);
    }
    hull
}

/// How much error a byte takes away from one point to the next.
fn gain(from: Point, to: Point) -> f64 {
    (from.error - to.error) / (to.bytes - from.bytes)
}

/// A step of a part along its hull.
#[derive(Clone, Copy, Debug)]
struct Step {
    part: usize,
    to: usize,
    bytes: f64,
    error: f64,
}

/// All steps of all parts, those first whose bytes take away most error. Steps of one part are in their order, as hulls are convex.
fn steps(hulls: &[Vec<Point>]) -> Vec<Step> {
    let of_part = |(part, hull): (usize, &Vec<Point>)| {
        let pairs: Vec<_> = hull.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let step = move |(i, (a, b)): (usize, (Point, Point))| {
            (
                gain(a, b),
                Step { part, to: i + 1, bytes: b.bytes - a.bytes, error: a.error - b.error },
            )
        };
        pairs.into_iter().enumerate().map(step)
    };
    let mut all: Vec<(f64, Step)> = hulls.iter().enumerate().flat_map(of_part).collect();
    all.sort_by(|(a, s), (b, t)| b.total_cmp(a).then((s.part, s.to).cmp(&(t.part, t.to))));
    all.into_iter().map(|(_, step)| step).collect()
}

/// Of every part the corner of its hull that it gets, so that all together take no more than the budget; `None` if even the first
/// corners do. What a step that no longer fits leaves over goes to later ones of other parts.
pub fn allocate(hulls: &[Vec<Point>], budget: f64) -> Option<Vec<usize>> {
    let mut left = budget - hulls.iter().map(|hull| hull[0].bytes).sum::<f64>();
    if left < 0.0 {
        return None;
    }
    let (mut at, mut stuck) = (vec![0; hulls.len()], vec![false; hulls.len()]);
    for step in steps(hulls) {
        if step.bytes > left {
            stuck[step.part] = true;
        }
        if !stuck[step.part] {
            at[step.part] = step.to;
            left -= step.bytes;
        }
    }
    Some(at)
}

/// Spends what is left of a budget on points that are no corners: of all parts the one that takes away most error and fits, and again.
/// `points` are all that each part may become, `at` the one that it has.
pub fn fill(points: &[Vec<Point>], at: &mut [Point], mut left: f64) {
    for _ in 0..FILLS {
        let better = |(part, all): (usize, &Vec<Point>)| {
            let now = at[part];
            let fits = |p: &&Point| p.bytes - now.bytes <= left && p.error < now.error;
            let best = all.iter().filter(fits).min_by(|a, b| a.error.total_cmp(&b.error))?;
            Some((now.error - best.error, part, *best))
        };
        let found = points.iter().enumerate().filter_map(better);
        let Some((_, part, point)) = found.max_by(|a, b| a.0.total_cmp(&b.0)) else { return };
        left -= point.bytes - at[part].bytes;
        at[part] = point;
    }
}

/// How often what is left is spent.
const FILLS: usize = 8;

/// Bytes and error of all parts together, from the first corners to the last, a step at a time.
pub fn curve(hulls: &[Vec<Point>]) -> Vec<(f64, f64)> {
    let sum = |of: fn(&Point) -> f64| hulls.iter().map(|hull| of(&hull[0])).sum::<f64>();
    let mut at = (sum(|p| p.bytes), sum(|p| p.error));
    let mut curve = vec![at];
    for step in steps(hulls) {
        at = (at.0 + step.bytes, at.1 - step.error);
        curve.push(at);
    }
    curve
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn points(seed: u64, n: u64) -> Vec<Point> {
        let number = |i: u64| (random::number(seed, i) % 1000) as f64;
        (0..n)
            .map(|i| Point { choice: i as usize, bytes: number(2 * i), error: number(2 * i + 1) })
            .collect()
    }

    #[test]
    fn a_hull_is_below_every_point_and_convex() {
        for seed in 0..200 {
            let all = points(seed, 1 + seed % 40);
            let hull = hull(&all);
            assert!(hull.iter().all(|p| all.contains(p)));
            assert!(hull.windows(2).all(|w| w[0].bytes < w[1].bytes && w[0].error > w[1].error));
            assert!(hull.windows(3).all(|w| gain(w[0], w[1]) > gain(w[1], w[2])));
            // Whatever an error is worth, a corner is as good as any point.
            for price in [0.001, 0.1, 0.5, 1.0, 2.0, 10.0, 1000.0] {
                let cost = |p: &Point| p.error + price * p.bytes;
                let least = |points: &[Point]| points.iter().map(cost).fold(f64::MAX, f64::min);
                assert!(least(&hull) <= least(&all) + 1e-9, "{seed}");
            }
        }
    }

    /// Every combination of corners is tried: none that takes no more bytes has less error, but for what one step more would be.
    #[test]
    fn nothing_that_fits_is_better_by_more_than_a_step() {
        for seed in 0..60 {
            let hulls: Vec<_> = (0..4).map(|part| hull(&points(seed * 7 + part, 6))).collect();
            let most: f64 = hulls.iter().map(|h| h[h.len() - 1].bytes).sum();
            let sum = |at: &[usize], of: fn(&Point) -> f64| {
                hulls.iter().zip(at).map(|(h, i)| of(&h[*i])).sum::<f64>()
            };
            for budget in [0.1, 0.3, 0.6, 0.9, 1.0].map(|share| share * most) {
                let mut best: Option<f64> = None;
                let sizes: Vec<usize> = hulls.iter().map(Vec::len).collect();
                for number in 0..sizes.iter().product() {
                    let mut left = number;
                    let at: Vec<usize> = sizes
                        .iter()
                        .map(|n| {
                            let digit = left % n;
                            left /= n;
                            digit
                        })
                        .collect();
                    if sum(&at, |p| p.bytes) <= budget {
                        let error = sum(&at, |p| p.error);
                        best = Some(best.map_or(error, |b| b.min(error)));
                    }
                }
                let found = allocate(&hulls, budget);
                assert_eq!(found.is_some(), best.is_some());
                let Some((found, best)) = found.zip(best) else { continue };
                assert!(sum(&found, |p| p.bytes) <= budget);
                let step = steps(&hulls).iter().map(|s| s.error).fold(0.0, f64::max);
                assert!(sum(&found, |p| p.error) <= best + step, "{seed} {budget}");
            }
        }
    }

    #[test]
    fn what_is_left_is_spent_on_what_fits() {
        let point = |bytes, error| Point { choice: 0, bytes, error };
        // The second is above the line from the first to the third.
        let points = vec![vec![point(10.0, 9.0), point(14.0, 8.0), point(20.0, 1.0)]];
        assert_eq!(hull(&points[0]).len(), 2);
        let mut at = [points[0][0]];
        fill(&points, &mut at, 3.9);
        assert_eq!(at[0], points[0][0]);
        fill(&points, &mut at, 4.0);
        assert_eq!(at[0], points[0][1]);
        fill(&points, &mut at, 6.0);
        assert_eq!(at[0], points[0][2]);
    }

    #[test]
    fn a_curve_goes_from_the_fewest_bytes_to_the_least_error() {
        let hulls: Vec<_> = (0..5).map(|part| hull(&points(part, 20))).collect();
        let curve = curve(&hulls);
        assert!(curve.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 > w[1].1));
        let least: f64 = hulls.iter().map(|h| h[h.len() - 1].error).sum();
        assert!((curve[curve.len() - 1].1 - least).abs() < 1e-9);
    }
}
