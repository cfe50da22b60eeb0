use std::time::Duration;

/// What one dispatch is planned to take. Drivers reset a device that is busy for too long, the strictest after a second or two.
pub const TARGET: Duration = Duration::from_millis(50);

/// Operations that are started at once before anything is known: a tenth of a second on the slowest device, which does 0.7 G a
/// second.
const FIRST: u64 = 1 << 26;

/// A measurement this long is not mostly latency, and is the last one.
const ENOUGH: Duration = Duration::from_millis(10);

/// How fast a pipeline is on this device, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Operations a second, with what it takes to start and to wait: never too many.
    per_second: f64,
    /// The most operations that were measured at once.
    measured: u64,
    /// Whether that is enough.
    known: bool,
    /// Whether it has run at all: many drivers compile only then.
    compiled: bool,
}

impl Rate {
    /// How many of `left` workgroups to start next, each of so many operations, and whether to wait for them and measure.
    pub fn next(self, each: u64, left: u64) -> (u64, bool) {
        let all = each.saturating_mul(left);
        let fits = match self.measured {
            0 => FIRST,
            _ => (self.per_second * TARGET.as_secs_f64()) as u64,
        };
        // What has never been tried may be slower than it should be.
        let trusted =
            if self.known { u64::MAX } else { FIRST.max(self.measured.saturating_mul(8)) };
        let most = if self.compiled || all <= FIRST { fits.min(trusted) } else { 1 };
        let count = if all <= most { left } else { (most / each).clamp(1, left) };
        (count, !self.known && all > FIRST.max(self.measured))
    }

    /// Takes in what some operations took.
    pub fn learn(&mut self, operations: u64, took: Duration) {
        if !std::mem::replace(&mut self.compiled, true) {
            return;
        }
        self.per_second = operations as f64 / took.as_secs_f64().max(1e-9);
        self.measured = self.measured.max(operations);
        self.known |= took >= ENOUGH;
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST, Rate, TARGET};
    use std::time::Duration;

    /// Dispatches a kernel whose workgroups have `each` operations on a device that does so many a second, takes 0.3 seconds for
    /// the first dispatch and 50 microseconds for any besides; the seconds that each computes.
    fn run(rate: &mut Rate, per_second: f64, each: u64, workgroups: u64) -> Vec<f64> {
        let (mut left, mut all) = (workgroups, Vec::new());
        while left > 0 {
            let (count, measure) = rate.next(each, left);
            assert!((1..=left).contains(&count));
            let seconds = (count * each) as f64 / per_second;
            if measure {
                let besides = if all.is_empty() { 0.3 } else { 50e-6 };
                rate.learn(count * each, Duration::from_secs_f64(seconds + besides));
            }
            all.push(seconds);
            left -= count;
        }
        all
    }

    #[test]
    fn nothing_is_planned_beyond_a_tenth_of_a_second_and_fast_devices_are_not_held_up() {
        for per_second in [0.7e9, 5e9, 1e12, 1e14] {
            let mut rate = Rate::default();
            let all = run(&mut rate, per_second, 1 << 20, 1 << 20);
            let longest = all.iter().copied().fold(0.0, f64::max);
            assert!(longest <= 0.1, "{per_second}: {longest} s");
            // Once it is known, in as few as the target allows.
            let few = (1u64 << 40) as f64 / per_second / TARGET.as_secs_f64();
            let again = run(&mut rate, per_second, 1 << 20, 1 << 20);
            assert!((again.len() as f64) < few * 1.2 + 8.0, "{per_second}: {}", again.len());
        }
        // What is small is started at once, and not waited for; a single workgroup cannot be cut.
        assert_eq!(Rate::default().next(1, FIRST), (FIRST, false));
        assert_eq!(Rate::default().next(1 << 40, 3), (1, true));
    }
}
