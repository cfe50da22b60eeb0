//! Whether a GPU computes what the CPU backend computes: every kernel, on cases that are chosen to find out.
//!
//! A case is plain data ([`Input`]); a kernel says how cases are made and run ([`ops::Op`]) and how closely results must agree
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

pub use case::{Case, Data, Input, Outputs, read, write};
pub use check::{Failure, Outcome, Pair, Verdict};
pub use compare::{Bounds, Class, Difference, Distance, exact, ulp_at, within};
pub use inputs::{Admits, Maker, Rng, Values, WEIGHTS, Weights, shapes, weights};
pub use op::Op;
pub use options::{Level, Options};
pub use report::{Adapter, CaseReport, Fingerprint, Report, Summary};
pub use run::{replay, run};
pub use shrink::{Shrunk, shrink};
pub use tiles::tiles;
