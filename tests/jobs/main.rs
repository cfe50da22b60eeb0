//! Jobs from a file to a file: the same bytes everywhere, what they say, and what becomes of them when they are stopped, killed or
//! out of room.

#[path = "../support/mod.rs"]
mod support;

mod coded;
mod defaults;
mod diff;
mod flags;
mod folders;
mod inspect;
mod io_faults;
mod json;
mod kills;
mod modules;
mod outputs;
mod page;
mod palettes;
mod pictures;
mod pipeline;
mod plans;
mod quantizers;
mod reports;
mod resume;
mod scales;
mod search;
mod ties;
mod transforms;
mod trellis;
mod vectors;
mod words;
