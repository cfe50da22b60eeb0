//! One module per subcommand; what they share is here.

mod bars;
mod compress;
mod crosscheck;
mod decompress;
mod demo;
mod devices;
mod diff;
mod exit_codes;
mod inspect;
mod json;
mod manual;
mod page_args;
mod palettize;
mod plan;
mod presets;
mod recipe_args;
mod summary;
mod table;
mod target_args;
mod verify;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::atomic::AtomicBool,
    time::Duration,
};
use tersor::{
    Backend, Cancel, Device, Error, Progress, Result,
    gpu::{GpuOptions, longest_call},
    pipeline::{Options, PARANOID},
};

/// Raised by SIGINT, SIGTERM and SIGHUP; jobs look at it between units.
static CANCEL: Cancel = Cancel::new();

/// Seconds after which a call of the driver will not come back. Waits have a deadline of 20.
const HUNG: u64 = 24;

/// Makes neural-network checkpoints small: one verified file, the same bytes from every GPU and from the CPU.
#[derive(Parser)]
#[command(version, after_help = "`tersor COMMAND --help` has examples.", after_long_help = after_long_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compress the built-in network with every preset and classify 10,000 images before and after
    Demo(demo::Demo),
    /// Show what is in a checkpoint or an archive: types, shapes, outliers, entropy, what coders would make of it
    Inspect(inspect::Inspect),
    /// Show what a recipe, or every preset, would do, from the headers alone
    Plan(plan::Plan),
    /// Compress a checkpoint into an archive and verify it, on the CPU whatever the device
    Compress(compress::Compress),
    /// Restore a checkpoint from an archive
    Decompress(decompress::Decompress),
    /// Check an archive: every digest, a full decode, and with --against the error of every tensor
    Verify(verify::Verify),
    /// Say how far two checkpoints or archives are apart, tensor by tensor; exit code 1 where they differ
    Diff(diff::Diff),
    /// Give a picture a palette of up to 256 colors: the least squared error, PNG or JPEG to PNG
    Palettize(palettize::Palettize),
    /// Compare every kernel on a GPU with the CPU, on cases that are chosen to find differences
    Crosscheck(crosscheck::Crosscheck),
    /// List the GPU adapters and what they can do
    Devices(devices::Devices),
    /// List the recipes that come with tersor, what they are for and what was measured of them
    Presets(presets::Presets),
    /// Print what makes a shell complete the command line
    Completions(manual::Completions),
    /// Print the manual page, or write one for every command
    Man(manual::Man),
}

fn after_long_help() -> String {
    format!("`tersor COMMAND --help` has examples.\n\n{}", exit_codes::listed())
}

/// The command line as it is parsed, completed and described.
fn command() -> clap::Command {
    // It reads headers alone, so that no tile is ever on a GPU; accepted all the same.
    let command =
        Cli::command().mut_subcommand("plan", |c| c.mut_arg("paranoid", |a| a.hide(true)));
    command.max_term_width(table::WIDTH)
}

/// Flags that every job takes.
#[derive(Args)]
struct Common {
    /// Where kernels run: auto takes hardware GPUs only, gpu takes any adapter
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceName,
    /// Part of the name of the GPU adapter to use
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    adapter: Option<String>,
    /// Threads; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_threads, hide_short_help = true)]
    threads: usize,
    /// Memory the job may take: 512MiB, 4GiB, ...
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = parse_memory, hide_short_help = true)]
    memory: u64,
    /// Share of a GPU's tiles, from 0 to 1, that the CPU does as well and compares; the first of each kind always is
    #[arg(allow_hyphen_values = true, long, value_name = "FRACTION", default_value_t = PARANOID, value_parser = parse_share, hide_short_help = true)]
    paranoid: f64,
    /// Print one JSON object on stdout and nothing else
    #[arg(short, long)]
    json: bool,
    /// Print nothing but warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Auto,
    Cpu,
    Gpu,
}

impl Common {
    /// The device that was asked for.
    fn device(&self) -> Result<Device> {
        match (self.device, &self.adapter) {
            (DeviceName::Cpu, Some(_)) => Err(Error::Usage(
                "--adapter names a GPU, and --device cpu uses none; leave one of them out".into(),
            )),
            (DeviceName::Auto, _) => Ok(Device::Auto),
            (DeviceName::Cpu, None) => Ok(Device::Cpu),
            (DeviceName::Gpu, _) => Ok(Device::Gpu),
        }
    }

    /// Opens the device that was asked for. It is never let go of, which would wait for it: the process ends with it.
    fn backend(&self) -> Result<&'static Backend> {
        let options = GpuOptions { adapter: self.adapter.clone(), ..Default::default() };
        let (backend, failed) = Backend::open_or_say(self.device()?, &options)?;
        if let Some(why) = failed {
            eprintln!("tersor: {why}; the CPU does the work, with the same bytes");
        }
        Ok(Box::leak(Box::new(backend)))
    }

    /// The device that was asked for, opened only if kernels run: where none do, the CPU does what there is, unless a GPU was asked
    /// for by name. What cannot be told because the input is wrong, the job says.
    fn backend_if(&self, runs: impl FnOnce() -> Result<bool>) -> Result<&'static Backend> {
        match self.device()? {
            Device::Auto if self.adapter.is_none() && !runs().unwrap_or(false) => Ok(&Backend::Cpu),
            _ => self.backend(),
        }
    }

    fn options<'a>(
        &self,
        backend: &'a Backend,
        progress: &'a dyn Progress,
        force: bool,
    ) -> Options<'a> {
        Options {
            backend,
            threads: self.threads,
            memory: self.memory,
            force,
            variant: None,
            resume: false,
            progress,
            cancel: &CANCEL,
            paranoid: self.paranoid,
        }
    }

    /// What is said meanwhile: warnings always, bars on a terminal.
    fn progress(&self) -> bars::Bars {
        bars::Bars::new(!self.quiet && !self.json && std::io::stderr().is_terminal())
    }

    /// Prints a result, an object of a kind as JSON.
    fn print(
        &self,
        kind: &str,
        object: &impl serde::Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        print((self.json, self.quiet), kind, object, text)
    }
}

/// Prints a result: as JSON, as text, or not at all.
fn print(
    (json, quiet): (bool, bool),
    kind: &str,
    object: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> Result<()> {
    match (json, quiet) {
        (true, _) => say(&json::object(kind, object)?),
        (false, true) => Ok(()),
        (false, false) => say(&text()),
    }
}

/// Writes to stdout. A reader that has gone away is not an error.
fn say(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { path: "stdout".into(), source: e })
        }
        _ => Ok(()),
    }
}

/// Writes a line to stderr, if there is anybody to read it.
fn complain(text: &str) {
    _ = writeln!(std::io::stderr(), "{text}");
}

/// Parses the arguments, runs the subcommand, and turns its outcome into an exit code.
pub fn run() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|e| e.exit());
    if let Err(e) = watch_signals() {
        complain(&format!("tersor: signals: {e}"));
        return ExitCode::from(2);
    }
    let json = match &cli.command {
        Command::Demo(c) => c.common.json,
        Command::Inspect(c) => c.common.json,
        Command::Plan(c) => c.common.json,
        Command::Compress(c) => c.common.json,
        Command::Decompress(c) => c.common.json,
        Command::Verify(c) => c.common.json,
        Command::Diff(c) => c.json,
        Command::Palettize(c) => c.common.json,
        Command::Crosscheck(c) => c.json,
        Command::Devices(c) => c.json,
        Command::Presets(c) => c.json,
        Command::Completions(_) | Command::Man(_) => false,
    };
    // What a cross-check calls a lost device is an error elsewhere.
    watch_driver(if matches!(cli.command, Command::Crosscheck(_)) { 5 } else { 2 }, json);
    let done = match cli.command {
        Command::Demo(c) => c.run(),
        Command::Inspect(c) => c.run(),
        Command::Plan(c) => c.run(),
        Command::Compress(c) => c.run(),
        Command::Decompress(c) => c.run(),
        Command::Verify(c) => c.run(),
        Command::Diff(c) => c.run(),
        Command::Palettize(c) => c.run(),
        Command::Crosscheck(c) => c.run(),
        Command::Devices(c) => c.run(),
        Command::Presets(c) => c.run(),
        Command::Completions(c) => c.run(),
        Command::Man(c) => c.run(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            let code = exit_codes::of_error(&e);
            complain(&format!("tersor: {e}"));
            if json {
                _ = say(&json::failure(&e.to_string(), code.into()));
            }
            ExitCode::from(code)
        }
    }
}

/// The first signal asks the job to stop and clean up; a second one ends the process at once.
fn watch_signals() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    // Caught, so that a write beyond the limit of file sizes fails and the job cleans up, instead of being killed.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::<AtomicBool>::default())?;
    let mut stopping = vec![SIGINT, SIGTERM];
    // `nohup` asks not to be stopped by this one.
    if !ignored(SIGHUP) {
        stopping.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(stopping)?;
    std::thread::spawn(move || {
        let mut raised = false;
        for signal in signals.forever() {
            if std::mem::replace(&mut raised, true) {
                at_once(128 + signal);
            }
            CANCEL.raise(signal);
        }
    });
    Ok(())
}

/// A driver that does not come back cannot be helped: the process ends. What it was writing goes with the next run.
fn watch_driver(code: i32, json: bool) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if let Some(seconds) = longest_call().map(|d| d.as_secs())
                && seconds >= HUNG
            {
                let why = format!(
                    "the GPU's driver has not come back from a call for {seconds} seconds; try --device cpu"
                );
                complain(&format!("tersor: {why}"));
                if json {
                    _ = say(&json::failure(&why, code));
                }
                at_once(code);
            }
        }
    });
}

/// Ends the process without what libraries have registered for its end: a driver that still works would be pulled down under
/// its own feet.
fn at_once(code: i32) -> ! {
    #[cfg(unix)]
    signal_hook::low_level::exit(code);
    #[cfg(not(unix))]
    std::process::exit(code);
}

/// Whether whoever started us ignores a signal; where the system does not tell, it is left alone.
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A number of threads that a machine may have.
fn parse_threads(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(threads) if threads <= 1024 => Ok(threads),
        _ => Err("expected 0 to 1024".into()),
    }
}

/// A share, from none to all.
fn parse_share(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("{text:?} is no share; try 1 or 0.01")),
    }
}

/// A number of bytes with a binary or decimal unit.
fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1024.0 * 1024.0,
        "gib" | "g" => 1024.0 * 1024.0 * 1024.0,
        "tib" | "t" => 1024.0f64.powi(4),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(format!("the unit {unit:?} is not known; try 512MiB or 4GiB")),
    };
    let number: f64 =
        number.parse().map_err(|_| format!("{text:?} is no size; try 512MiB or 4GiB"))?;
    if !(number * factor).is_finite() || number <= 0.0 {
        return Err(format!("{text:?} is no size; try 512MiB or 4GiB"));
    }
    Ok((number * factor) as u64)
}

/// The least that a job may be given: a block of weights. Whoever says less has left the unit out.
const LEAST_MEMORY: u64 = 1 << 20;

/// A size of memory that some job could do with.
fn parse_memory(text: &str) -> std::result::Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes < LEAST_MEMORY => {
            let number = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
            Err(format!("{bytes} bytes are less than any job takes; did you mean {number}GiB?"))
        }
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_memory, parse_size};

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4GiB"), Ok(4 << 30));
        assert_eq!(parse_size("1.5 mib"), Ok(3 << 19));
        assert_eq!(parse_size("100"), Ok(100));
        assert!(
            parse_size("4 parsecs").is_err()
                && parse_size("GiB").is_err()
                && parse_size("-1").is_err()
        );
    }

    #[test]
    fn memory_of_a_few_bytes_is_a_unit_left_out() {
        assert_eq!(parse_memory("1MiB"), Ok(1 << 20));
        let said = |text| parse_memory(text).unwrap_err();
        assert_eq!(said("4"), "4 bytes are less than any job takes; did you mean 4GiB?");
        assert_eq!(said("512k"), "524288 bytes are less than any job takes; did you mean 512GiB?");
        assert!(said("4 parsecs").contains("unit"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
