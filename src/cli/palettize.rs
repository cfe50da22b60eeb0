use crate::cli::{CANCEL, Common, json, table};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::{path::PathBuf, time::Instant};
use tersor::{
    Backend, Error, Progress, Result,
    format::{Target, in_folder, regular, shown},
    pictures::{
        self, Colors, Errors, Indexed, MOST_COLORS, Needs, Opened, Picture, Rung, Sheet, Space,
    },
};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor palettize photo.jpg -o photo.png
  tersor palettize photo.png -o out.png --colors 16 --dither --error-image error.png
  tersor palettize photo.jpg --colors 1,2,4,..,256 --sheet sheet.png")]
pub struct Palettize {
    /// A PNG or JPEG file
    picture: PathBuf,
    /// The picture with a palette, a PNG file, which may be put in a folder
    #[arg(short, long, value_name = "PATH", required_unless_present = "sheet")]
    output: Option<PathBuf>,
    /// Colors at most, 1 to 256; several for a sheet, where .. goes on doubling: 1,2,4,..,256
    #[arg(long, value_name = "N", default_value = "256", value_parser = parse_colors)]
    colors: Numbers,
    /// Where distances of colors are measured
    #[arg(long, value_enum, default_value = "rgb")]
    space: SpaceName,
    /// Diffuse errors to neighbors (Floyd-Steinberg)
    #[arg(long)]
    dither: bool,
    /// Draw what every pixel is off by, in red, into a PNG file
    #[arg(long, value_name = "PATH")]
    error_image: Option<PathBuf>,
    /// Draw small copies with every number of colors on one labelled PNG file
    #[arg(long, value_name = "PATH")]
    sheet: Option<PathBuf>,
    /// Replace existing outputs
    #[arg(long)]
    force: bool,
    /// Searches for a palette, of which the best counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000), hide_short_help = true)]
    starts: u16,
    /// Of the starts after the first, which takes no chances
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_seed, hide_short_help = true)]
    seed: u64,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Clone, Copy, ValueEnum)]
enum SpaceName {
    /// As stored: the least error of red, green and blue
    Rgb,
    /// Equal distances look alike
    Oklab,
}

#[derive(Clone)]
struct Numbers(Vec<usize>);

#[derive(Serialize)]
struct Report {
    ok: bool,
    input: String,
    output: Option<String>,
    error_image: Option<String>,
    sheet: Option<String>,
    width: usize,
    height: usize,
    /// What the picture has.
    distinct_colors: usize,
    space: &'static str,
    dither: bool,
    starts: u16,
    seed: u64,
    results: Vec<Found>,
    output_bytes: Option<u64>,
    backend: String,
    /// Of reading, searching and writing.
    seconds: f64,
}

#[derive(Serialize)]
struct Found {
    asked: usize,
    colors: usize,
    average_error: f64,
    mean_squared_error: f64,
    psnr_db: Option<f64>,
}

/// What there is to write.
struct Made {
    distinct: usize,
    found: Vec<Found>,
    indexed: Option<Indexed>,
    error_image: Option<Picture>,
    sheet: Option<Picture>,
}

impl Palettize {
    pub fn run(self) -> Result<u8> {
        let start = Instant::now();
        let outputs = self.outputs()?;
        // Before an output is looked for beside it, or in a folder under its name.
        regular(&self.picture)?;
        let claim = |path: &Option<PathBuf>| {
            let claim = |path: &PathBuf| Target::claim_file(path, &[&self.picture], self.force);
            path.as_ref().map(claim).transpose()
        };
        let [output, error_image, sheet] = &outputs;
        let targets = (claim(output)?, claim(error_image)?, claim(sheet)?);
        let progress = self.common.progress();
        let opened = self.on_threads(|| pictures::open(&self.picture, self.common.memory))?;
        for note in &opened.notes {
            progress.warn(&format!("{}: {note}", shown(&self.picture)));
        }
        // The CPU holds a pixel against a few entries, and is done before a device would be open.
        let backend = self.common.backend_if(|| Ok(false))?;
        let (made, redone) = self.on_threads(|| match self.make(backend, &opened) {
            Err(e @ Error::Gpu { .. }) => {
                progress.warn(&format!("{e}; the CPU does the work, with the same bytes"));
                Ok((self.make(&Backend::Cpu, &opened)?, true))
            }
            made => Ok((made?, false)),
        })?;
        CANCEL.check()?;
        let bytes = self.write(&made, targets, &opened)?;
        let report = Report {
            ok: true,
            input: json::given(&self.picture),
            output: output.as_deref().map(json::given),
            error_image: error_image.as_deref().map(json::given),
            sheet: sheet.as_deref().map(json::given),
            width: opened.picture.width(),
            height: opened.picture.height(),
            distinct_colors: made.distinct,
            space: self.space().name(),
            dither: self.dither,
            starts: self.starts,
            seed: self.seed,
            results: made.found,
            output_bytes: bytes,
            backend: if redone { Backend::Cpu.name() } else { backend.name() }.into(),
            seconds: start.elapsed().as_secs_f64(),
        };
        self.common.print("palettize", &report, || text(&report, &outputs))?;
        Ok(if redone { 3 } else { 0 })
    }

    fn space(&self) -> Space {
        match self.space {
            SpaceName::Rgb => Space::Rgb,
            SpaceName::Oklab => Space::Oklab,
        }
    }

    /// Where the picture, the picture of errors and the sheet go.
    fn outputs(&self) -> Result<[Option<PathBuf>; 3]> {
        if self.colors.0.len() > 1 && (self.output.is_some() || self.error_image.is_some()) {
            let why = "several numbers of --colors are for a --sheet; an output has one";
            return Err(Error::Usage(why.into()));
        }
        let output = self.output.as_ref().map(|path| {
            let inside = in_folder(path, &self.picture);
            if inside == *path { inside } else { inside.with_extension("png") }
        });
        let outputs = [output, self.error_image.clone(), self.sheet.clone()];
        let given: Vec<&PathBuf> = outputs.iter().flatten().collect();
        for (i, path) in given.iter().enumerate() {
            if path.extension().is_some_and(|e| !e.eq_ignore_ascii_case("png")) {
                let why = format!("{}: outputs are PNG files; name it .png", shown(path));
                return Err(Error::Usage(why));
            }
            let same = |other: &&PathBuf| {
                std::path::absolute(other).ok() == std::path::absolute(path).ok()
            };
            if given[..i].iter().any(same) {
                return Err(Error::Usage(format!("{} is two outputs; name another", shown(path))));
            }
        }
        Ok(outputs)
    }

    /// Does something on the threads that were asked for.
    fn on_threads<T: Send>(&self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.common.threads).build();
        pool.map_err(|e| Error::Usage(format!("threads: {e}")))?.install(job)
    }

    fn make(&self, on: &Backend, opened: &Opened) -> Result<Made> {
        let picture = &opened.picture;
        let needs = Needs {
            read: opened.memory,
            dither: self.dither,
            error_picture: self.error_image.is_some(),
            rungs: if self.sheet.is_some() { self.colors.0.len() + 1 } else { 0 },
            device: matches!(on, Backend::Gpu(_)),
        };
        let refused = |e: Error| Error::format(&self.picture, e.to_string());
        let colors = Colors::within(picture, &needs, self.common.memory).map_err(refused)?;
        let wanted = self.output.is_some() || self.error_image.is_some();
        let mut sheet = self.sheet.is_some().then(|| Sheet::of(picture)).transpose()?;
        if let Some(sheet) = &mut sheet {
            let label = format!("original, {}", counted(colors.len()));
            sheet.add(Rung { picture: sheet.small().clone(), palette: vec![], label });
        }
        let (mut found, mut last) = (Vec::new(), None);
        for &asked in &self.colors.0 {
            let options = pictures::Options {
                colors: asked,
                space: self.space(),
                seed: self.seed,
                starts: self.starts.into(),
                dither: self.dither,
            };
            let palette = colors.palette(on, &options, &CANCEL)?;
            let indexed = palette.map(on, &colors, self.dither, &CANCEL)?;
            if let Backend::Gpu(_) = on
                && palette.map(&Backend::Cpu, &colors, self.dither, &CANCEL)? != indexed
            {
                return Err(Error::Gpu {
                    kernel: "nearest",
                    cause: tersor::Cause::Wrong,
                    message: "entries of pixels differ".into(),
                });
            }
            let Errors { average, mean_squared, psnr_db } = indexed.errors(picture)?;
            if let Some(sheet) = &mut sheet {
                let small = palette.map(on, &Colors::of(sheet.small()), self.dither, &CANCEL)?;
                sheet.add(Rung {
                    picture: small.picture(),
                    palette: palette.colors().to_vec(),
                    label: format!("{}, error {average:.2}", counted(palette.colors().len())),
                });
            }
            found.push(Found {
                asked,
                colors: palette.colors().len(),
                average_error: average,
                mean_squared_error: mean_squared,
                psnr_db,
            });
            last = wanted.then_some(indexed);
        }
        let error_image = last.as_ref().filter(|_| self.error_image.is_some());
        Ok(Made {
            distinct: colors.len(),
            found,
            error_image: error_image.map(|i| i.error_picture(picture)).transpose()?,
            sheet: sheet.map(|sheet| sheet.draw()).transpose()?,
            indexed: last,
        })
    }

    /// Writes what was asked for; the bytes of the picture.
    fn write(
        &self,
        made: &Made,
        (output, error_image, sheet): (Option<Target>, Option<Target>, Option<Target>),
        opened: &Opened,
    ) -> Result<Option<u64>> {
        let mut bytes = None;
        if let Some((target, indexed)) = output.zip(made.indexed.as_ref()) {
            let png = pictures::indexed_png(indexed, opened.profile.as_deref())?;
            CANCEL.check()?;
            bytes = Some(png.len() as u64);
            target.fill(&png)?;
        }
        if let Some((target, picture)) = error_image.zip(made.error_image.as_ref()) {
            target.fill(&pictures::png(picture, None)?)?;
        }
        if let Some((target, picture)) = sheet.zip(made.sheet.as_ref()) {
            target.fill(&pictures::png(picture, opened.profile.as_deref())?)?;
        }
        Ok(bytes)
    }
}

fn text(report: &Report, outputs: &[Option<PathBuf>; 3]) -> String {
    let decimals = |x: f64| format!("{x:.3}");
    let psnr = |found: &Found| found.psnr_db.map_or("exact".into(), |db| format!("{db:.2} dB"));
    let size = format!("{} x {}, {}", report.width, report.height, counted(report.distinct_colors));
    let mut rows = vec![vec!["picture".into(), size]];
    let mut text = String::new();
    match &report.results[..] {
        [found] => {
            let fewer = match found.colors < found.asked {
                true if report.distinct_colors <= found.asked => " (the picture has no more)",
                true => " (others would be the same colors)",
                false => "",
            };
            rows.push(vec!["colors".into(), format!("{}{fewer}", found.colors)]);
            rows.push(vec!["average error".into(), decimals(found.average_error)]);
            rows.push(vec!["PSNR".into(), psnr(found)]);
        }
        several => {
            let mut ladder = table::head(&["colors", "average error", "PSNR"]);
            let row = |f: &Found| vec![f.colors.to_string(), decimals(f.average_error), psnr(f)];
            ladder.extend(several.iter().map(row));
            text = format!("\n{}\n", table::table(&ladder));
        }
    }
    if let Some(bytes) = report.output_bytes {
        rows.push(vec!["out".into(), table::bytes(bytes)]);
    }
    rows.push(vec!["time".into(), format!("{:.2} s on {}", report.seconds, report.backend)]);
    text = table::table(&rows) + &text;
    for path in outputs.iter().flatten() {
        text += &format!("written to {}\n", shown(path));
    }
    text
}

/// A seed.
fn parse_seed(text: &str) -> std::result::Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no whole number from 0 to {}", u64::MAX))
}

/// So many colours.
fn counted(colors: usize) -> String {
    format!("{colors} color{}", if colors == 1 { "" } else { "s" })
}

/// Numbers of colours, between commas; `..` goes on doubling the one before it as far as the one after it.
fn parse_colors(text: &str) -> std::result::Result<Numbers, String> {
    let mut numbers: Vec<usize> = Vec::new();
    let mut doubling = false;
    for word in text.split(',') {
        match word.trim() {
            ".." if !numbers.is_empty() && !doubling => doubling = true,
            word => {
                let number = word.parse().ok().filter(|n| (1..=MOST_COLORS).contains(n));
                let number = number
                    .ok_or(format!("{word:?} is no number of colors from 1 to {MOST_COLORS}"))?;
                if std::mem::take(&mut doubling) {
                    let last = *numbers.last().expect("one before ..");
                    let twice = std::iter::successors(Some(2 * last), |n| Some(2 * n));
                    numbers.extend(twice.take_while(|n| *n < number));
                }
                numbers.push(number);
            }
        }
    }
    if doubling {
        return Err("what comes after .. is missing".into());
    }
    Ok(Numbers(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_colors_may_go_on_doubling() {
        let of = |text: &str| parse_colors(text).map(|n| n.0);
        assert_eq!(of("128").unwrap(), [128]);
        assert_eq!(of("1,2,4,..,256").unwrap(), [1, 2, 4, 8, 16, 32, 64, 128, 256]);
        assert_eq!(of("3,..,20, 7").unwrap(), [3, 6, 12, 20, 7]);
        assert_eq!(of("1,..,1").unwrap(), [1, 1]);
        for wrong in ["0", "257", "", "1,", "..,4", "4,..", "4,..,..,8", "a", "-1", "1.5"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
