//! What a job writes beside its output, a page, a recipe, a curve: a file of text that appears in its place whole, or not at all.

use crate::{
    Error, Result,
    format::{
        checkpoint::Checkpoint,
        output::{
            explain,
            place::{outside, within},
            target::{Target, spare},
            temporary::{Temporary, parent},
        },
        real::real,
    },
    quote::shown,
};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

/// What a file of text is.
#[derive(Clone, Copy, Debug)]
pub struct TextKind {
    /// The flag that asks for it.
    pub flag: &'static str,
    /// In a word.
    pub is: &'static str,
    /// How its name may end.
    pub endings: &'static [&'static str],
}

/// The place of a text, claimed before the job that it is of.
#[derive(Debug)]
pub struct TextFile(Target);

impl TextFile {
    /// Claims the place of a text of a job that reads `sources` and the other files `read`, and perhaps writes `output`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a name that ends in none of its endings, for what is read or written by the job or lies in a folder of it,
    /// and for what is there already, if `force` is not given or it is no file; [`Error::Locked`] if another run has claimed it;
    /// [`Error::Io`].
    pub fn claim(
        kind: TextKind,
        path: &Path,
        sources: &[&Checkpoint],
        read: impl IntoIterator<Item = impl AsRef<Path>>,
        output: Option<&Path>,
        force: bool,
    ) -> Result<Self> {
        let name = shown(path);
        let TextKind { flag, is, endings } = kind;
        let fits =
            |e: &std::ffi::OsStr| endings.iter().any(|ending| e.eq_ignore_ascii_case(ending));
        if !path.extension().is_some_and(fits) {
            let endings = endings.join(" or .");
            let why = format!("{flag} {name}: it is a {is}; name a file that ends in .{endings}");
            return Err(Error::Usage(why));
        }
        for source in sources {
            spare(path, source.files.iter().map(|f| &f.path))?;
            spare(path, source.carried().iter().map(|p| source.root.join(p)))?;
            outside(path, source)?;
        }
        spare(path, read)?;
        if let Some(output) = output {
            // A folder is replaced as a whole, and must hold nothing else.
            if within(path, output)? || is_or_is_below(path, output)? {
                let output = shown(output);
                let why = format!(
                    "the {is} {name} would be in the place of the output {output}, or in it; name another file"
                );
                return Err(Error::Usage(why));
            }
        }
        Target::locked(path, None, force).map(Self)
    }

    /// Writes the text, makes it durable, and puts it in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; as [`TextFile::claim`] for what has appeared meanwhile.
    pub fn publish(self, text: &str) -> Result<()> {
        let path = self.0.path();
        let temporary = Temporary::beside(path);
        let write = |mut file: File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        File::create_new(&temporary.0).and_then(write).map_err(|e| explain(path, e))?;
        self.0.place(&temporary.0)?;
        self.0.settle()
    }
}

/// Whether a path is another, or below it, however they are written and whether or not they are there yet.
fn is_or_is_below(path: &Path, other: &Path) -> Result<bool> {
    let place = |path: &Path| -> Result<Option<PathBuf>> {
        if let Some(there) = real(path)? {
            return Ok(Some(there));
        }
        Ok(real(parent(path))?.zip(path.file_name()).map(|(folder, name)| folder.join(name)))
    };
    let Some(other) = place(other)? else { return Ok(path.starts_with(other)) };
    for above in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
        if place(above)?.as_ref() == Some(&other) {
            return Ok(true);
        }
    }
    Ok(false)
}
