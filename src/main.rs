//! The command line: parse, call the library, print, choose an exit code.

#![deny(unsafe_code)]

mod cli;

use std::process::ExitCode;

/// The system's allocator gives megabyte buffers back to the kernel and takes them anew, which costs a third of the time of
/// a job that runs at the speed of copying.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
