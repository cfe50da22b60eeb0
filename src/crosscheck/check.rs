//! One case on two backends: run, run again over other poison, audit, compare.

use crate::{
    Backend, Device, Error, Result,
    crosscheck::{
        case::{Input, Outputs},
        compare::{Class, Difference, Distance, exact, ulp_at, within},
        op::Op,
    },
    gpu::{Audited, Gpu, GpuOptions},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// A reference, and the device that is compared with it: as it is, and with tiny limits.
#[derive(Debug)]
pub struct Pair {
    reference: Backend,
    candidate: Backend,
    tiny: Option<Backend>,
}

/// What a case showed.
#[derive(Debug)]
pub struct Verdict {
    /// Whether results agree.
    pub outcome: Outcome,
    /// How far they lie apart where they do.
    pub distance: Distance,
    /// What lies in the buffers of both runs.
    pub audited: Audited,
    /// Elements that depend on what the buffers held before: nobody wrote them.
    pub unwritten: usize,
    /// Time of the first run, transfers included.
    pub took: Duration,
}

/// Whether results agree.
#[derive(Debug)]
pub enum Outcome {
    /// They do, and nothing else was touched.
    Pass,
    /// The device refuses: why.
    Unsupported(String),
    /// They do not.
    Failed(Failure),
    /// The device is gone.
    Lost(String),
}

/// What is wrong.
#[derive(Debug)]
pub enum Failure {
    /// An element that does not agree, on which backend.
    Differs(Box<Difference>, &'static str),
    /// Results of the two runs differ: an element nobody wrote, or a race.
    Unwritten(Box<Difference>),
    /// Words behind a buffer were overwritten.
    Overrun(usize),
    /// A buffer that is only for reading has changed.
    Changed(usize),
    /// One backend computes what the other refuses.
    Refused(String),
    /// A property does not hold.
    Broken(String),
}

impl Failure {
    /// Its name in a report.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Differs(..) => "differs",
            Self::Unwritten(_) => "unwritten",
            Self::Overrun(_) => "overrun",
            Self::Changed(_) => "changed input",
            Self::Refused(_) => "refused",
            Self::Broken(_) => "invariant",
        }
    }

    /// The element that shows it.
    pub fn difference(&self) -> Option<&Difference> {
        match self {
            Self::Differs(d, _) | Self::Unwritten(d) => Some(d),
            _ => None,
        }
    }

    /// What is wrong, in words.
    pub fn text(&self) -> String {
        match self {
            Self::Differs(_, on) => format!("the {on} lies beyond the bound"),
            Self::Unwritten(_) => "two runs over other poison differ: unwritten, or a race".into(),
            Self::Overrun(n) => format!("{n} buffers were written beyond their end"),
            Self::Changed(n) => format!("{n} buffers that are only read have changed"),
            Self::Refused(why) | Self::Broken(why) => why.clone(),
        }
    }
}

#[cfg(feature = "faults")]
impl Pair {
    /// Installs a fault in the devices that are checked, or takes it away.
    pub fn inject(&self, fault: Option<crate::gpu::Fault>) {
        for on in [Some(&self.candidate), self.tiny.as_ref()].into_iter().flatten() {
            if let Backend::Gpu(gpu) = on {
                gpu.inject(fault);
            }
        }
    }
}

impl Pair {
    /// Longest binding of the device of tiny limits.
    pub const TINY_BYTES: usize = 16 << 10;

    /// The CPU, and an adapter under supervision, opened twice.
    ///
    /// # Errors
    ///
    /// [`Error::NoGpu`] if there is no such adapter: it says what to install.
    pub fn open(adapter: Option<&str>) -> Result<Self> {
        let open = |tiny| {
            let adapter = adapter.map(str::to_owned);
            let options = GpuOptions { adapter, tiny, audited: true, ..GpuOptions::default() };
            Backend::open_with(Device::Gpu, &options)
        };
        let help = |e| match e {
            Error::NoGpu(why) => Error::NoGpu(format!(
                "{why}. A cross-check needs an adapter to compare with the CPU: install the driver of your card, or a \
software one: Mesa's lavapipe (Debian and Ubuntu: apt-get install mesa-vulkan-drivers)"
            )),
            e => e,
        };
        Self::new(Backend::Cpu, open(false).map_err(help)?, Some(open(true).map_err(help)?))
    }

    /// Any reference with any device.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if both are the same, or the second is no GPU: agreement of a backend with itself proves nothing.
    /// [`Error::Gpu`] if the device fails.
    pub fn new(reference: Backend, candidate: Backend, tiny: Option<Backend>) -> Result<Self> {
        let all = std::iter::once(&candidate).chain(&tiny);
        for candidate in all {
            let same = reference.name() == candidate.name();
            if same || matches!(candidate, Backend::Cpu) {
                return Err(Error::Usage(format!(
                    "a cross-check needs two different backends, the second a GPU; these are {} and {}",
                    reference.name(),
                    candidate.name()
                )));
            }
        }
        let pair = Self { reference, candidate, tiny };
        for backend in std::iter::once(&pair.candidate).chain(&pair.tiny) {
            if let Backend::Gpu(gpu) = backend {
                // What was done to open it is no case.
                gpu.audit()?;
            }
        }
        Ok(pair)
    }

    /// Names of the reference and of the device.
    pub fn names(&self) -> [&str; 2] {
        [self.reference.name(), self.candidate.name()]
    }

    /// The device with its own limits.
    pub fn gpu(&self) -> Option<&Gpu> {
        match &self.candidate {
            Backend::Gpu(gpu) => Some(gpu),
            Backend::Cpu => None,
        }
    }

    /// Whether there is a device of tiny limits beside the ordinary one.
    pub fn has_tiny(&self) -> bool {
        self.tiny.is_some()
    }

    /// Runs one case.
    pub fn check(&self, op: &Op, input: &Input, tiny: bool) -> Verdict {
        let mut verdict = Verdict {
            outcome: Outcome::Pass,
            distance: Distance::default(),
            audited: Audited::default(),
            unwritten: 0,
            took: Duration::ZERO,
        };
        let candidate = if tiny { self.tiny.as_ref() } else { Some(&self.candidate) };
        verdict.outcome = match candidate {
            Some(on @ Backend::Gpu(gpu)) => {
                let outcome = self.judge(op, input, (on, gpu), &mut verdict);
                match outcome {
                    Err(e) if gpu.is_lost() => Outcome::Lost(e.to_string()),
                    Err(e) => Outcome::Unsupported(e.to_string()),
                    Ok(None) => Outcome::Pass,
                    Ok(Some(failure)) => Outcome::Failed(failure),
                }
            }
            _ => Outcome::Unsupported("no such device is open".into()),
        };
        verdict
    }

    /// What is wrong with a case, if anything; an error where the device does not do it.
    fn judge(
        &self,
        op: &Op,
        input: &Input,
        (on, gpu): (&Backend, &Gpu),
        verdict: &mut Verdict,
    ) -> Result<Option<Failure>> {
        let want = attempt(op, &self.reference, input);
        let mut runs = Vec::new();
        for poison in [0xaaaa_aaaa, 0x5555_5555] {
            gpu.poison(poison);
            let started = Instant::now();
            runs.push(attempt(op, on, input));
            if runs.len() == 1 {
                verdict.took = started.elapsed();
            }
            verdict.audited += gpu.audit()?;
        }
        let (second, first) = (runs.pop(), runs.pop());
        let (first, second) = match (want.as_ref(), first, second) {
            (_, Some(Ok(first)), Some(Ok(second))) => (first, second),
            // A device may be too small, or not do it at all; anything else both must refuse.
            (_, Some(Err(e @ Error::Gpu { .. })), _) | (_, _, Some(Err(e @ Error::Gpu { .. }))) => {
                return Err(e);
            }
            (Err(why), Some(Err(_)), _) => {
                return Ok(Some(Failure::Refused(format!("both refuse the case: {why}"))));
            }
            (_, Some(Err(e)), _) | (_, _, Some(Err(e))) => {
                return Ok(Some(Failure::Refused(format!("only the GPU refuses: {e}"))));
            }
            _ => return Ok(Some(Failure::Refused("there are no results".into()))),
        };
        let want = match want {
            Ok(want) => want,
            Err(e) => {
                return Ok(Some(Failure::Refused(format!(
                    "only the {} refuses: {e}",
                    self.reference.name()
                ))));
            }
        };
        if let Err(difference) = exact(&first, &second) {
            verdict.unwritten = difference.wrong;
            return Ok(Some(Failure::Unwritten(difference)));
        }
        if verdict.audited.overrun > 0 {
            return Ok(Some(Failure::Overrun(verdict.audited.overrun)));
        }
        if verdict.audited.changed > 0 {
            return Ok(Some(Failure::Changed(verdict.audited.changed)));
        }
        match agree(op.class, input, (&self.reference, &want), (on, &first)) {
            Ok(Ok(distance)) => {
                verdict.distance = distance;
                Ok(None)
            }
            Ok(Err(failure)) => Ok(Some(failure)),
            Err(e) => {
                Ok(Some(Failure::Refused(format!("the f64 reference refuses the case: {e}"))))
            }
        }
    }
}

/// Runs an op; a panic is an error of the backend.
pub(super) fn attempt(op: &Op, on: &Backend, input: &Input) -> Result<Outputs> {
    catch_unwind(AssertUnwindSafe(|| (op.run)(on, input)))
        .unwrap_or_else(|_| Err(Error::shape("crosscheck", "case", op.name, "no panic")))
}

/// Compares what the reference and the device gave, as the class demands.
fn agree(
    class: Class,
    input: &Input,
    (reference, want): (&Backend, &Outputs),
    (device, got): (&Backend, &Outputs),
) -> Result<std::result::Result<Distance, Failure>> {
    let bounds = |on: &Backend| match class {
        Class::Ulps(ulps, floor, values) => {
            let bound = |x: f64| (x, (ulps * ulp_at(x)).max(floor));
            Ok(values(input)?.into_iter().map(bound).collect())
        }
        Class::Bound(bounds) => bounds(on, input),
        Class::Exact | Class::Invariant(..) => Ok(Vec::new()),
    };
    match class {
        Class::Exact => {
            return Ok(exact(want, got).map_err(|d| Failure::Differs(d, "GPU")));
        }
        Class::Invariant(_, ask) => {
            for outputs in [want, got] {
                if let Some(why) = ask(input, outputs)? {
                    return Ok(Err(Failure::Broken(why)));
                }
            }
            let elements = got.iter().map(|(_, d)| d.elements()).sum();
            return Ok(Ok(Distance { elements, ..Distance::default() }));
        }
        Class::Ulps(..) | Class::Bound(_) => {}
    }
    let mut distance = Distance::default();
    for (outputs, backend, on) in [(want, reference, "reference"), (got, device, "GPU")] {
        let Some((name, data)) = outputs.first() else {
            return Ok(Err(Failure::Broken("there is no output".into())));
        };
        match within(&bounds(backend)?, (name, data)) {
            Ok(found) => distance = found,
            Err(difference) => return Ok(Err(Failure::Differs(difference, on))),
        }
    }
    let rest = |outputs: &Outputs| outputs.iter().skip(1).cloned().collect::<Outputs>();
    match exact(&rest(want), &rest(got)) {
        Ok(more) => distance.elements += more.elements,
        Err(difference) => return Ok(Err(Failure::Differs(difference, "GPU"))),
    }
    Ok(Ok(distance))
}
