//! Whether a GPU computes what the CPU backend computes: every kernel, on cases that are chosen to find out.
//!
//! A case is plain data ([`Input`]); a kernel says how cases are made and run ([`Op`]) and how closely results must agree
//! ([`Class`]). Every case runs twice on an audited device ([`crate::gpu::Gpu::audit`]) whose buffers start as one pattern and
//! then as another: results must be equal, guards whole, inputs unchanged. A failing case is repeated, shrunk, and written to
//! a file that replays it.

mod case;
mod check;
mod compare;
mod inputs;
mod op;
pub mod ops;
mod options;
mod report;
mod run;
mod shrink;
mod tiles;

pub use case::{Case, Data, Input, Outputs};
pub use check::{Failure, Outcome, Pair, Verdict};
pub use compare::{Bounds, Class, Difference, Distance};
pub use inputs::{Admits, Maker, Rng, Values, Weights, shapes, weights};
pub use op::Op;
pub use options::{Level, Options};
pub use report::{Adapter, CaseReport, Fingerprint, Report, Summary};
pub use run::{replay, run};

// For the tests of the cross-check itself.
#[doc(hidden)]
pub use case::{read, write};
#[doc(hidden)]
pub use compare::{exact, ulp_at, within};
#[doc(hidden)]
pub use inputs::WEIGHTS;
#[doc(hidden)]
pub use shrink::{Shrunk, shrink};
#[doc(hidden)]
pub use tiles::tiles;
