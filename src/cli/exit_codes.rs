//! Exit codes: one table for all commands.

use tersor::Error;

/// What each stands for. docs/jobs.md has the same table; a test holds them together.
const EXIT_CODES: [(&str, &str); 8] = [
    ("0", "done"),
    ("1", "damaged, not what it is compared with, or outside its limits"),
    ("2", "usage, malformed input, I/O, no GPU where one was asked for"),
    ("3", "done; the CPU redid tiles that the GPU failed at or got wrong"),
    ("4", "crosscheck: a required kernel did not run"),
    ("5", "crosscheck: the device was lost"),
    ("6", "another run is writing the same output"),
    ("129, 130, 143", "stopped by SIGHUP, SIGINT, SIGTERM"),
];

/// The table as `--help` shows it.
pub fn listed() -> String {
    let mut text = String::from("Exit codes:");
    for (code, what) in EXIT_CODES {
        text += &format!("\n  {code:13}  {what}");
    }
    text
}

/// That of a job that is done: 3 where the GPU failed at some of it.
pub fn of_report(report: &tersor::report::Report) -> u8 {
    if report.repaired_tiles > 0 { 3 } else { 0 }
}

/// That of a job that is not.
pub fn of_error(error: &Error) -> u8 {
    match error {
        Error::Digest { .. }
        | Error::Differs { .. }
        | Error::Unlike { .. }
        | Error::Verify { .. } => 1,
        Error::Locked { .. } => 6,
        Error::Interrupted(signal) => 128 + *signal as u8,
        _ => 2,
    }
}
