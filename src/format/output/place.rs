//! Where an output goes that was named in a word or two.

use crate::{
    Error, Result,
    format::{checkpoint::Checkpoint, real::real},
    quote::shown,
};
use std::path::{Path, PathBuf};

/// The path of the successor of a checkpoint: that of `output`, or, where the checkpoint is a file and `output` a folder, one of
/// the same name in it.
///
/// # Errors
///
/// [`Error::Usage`] for `-`, for a folder with the name of a file, and for an output in the folder that is read; [`Error::Io`].
pub fn place(output: &Path, source: &Checkpoint) -> Result<PathBuf> {
    let name = shown(output);
    if output == Path::new("-") {
        let why = "-o -: an output is written, read again and only then put in its place, which a pipe is not; name a file";
        return Err(Error::Usage(why.into()));
    }
    if !source.is_folder {
        let named_as_folder = output.as_os_str().as_encoded_bytes().ends_with(b"/");
        let file = source.root.file_name().filter(|_| named_as_folder || output.is_dir());
        return Ok(file.map_or_else(|| output.into(), |file| output.join(file)));
    }
    let root = shown(&source.root);
    if output.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) && !output.is_dir() {
        return Err(Error::Usage(format!(
            "{name} is the name of a file, and {root} a folder, which becomes a folder; name one, or compress a single file"
        )));
    }
    let above = output.ancestors().skip(1).map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let mut there = None;
    for folder in above {
        there = real(folder)?;
        if there.is_some() {
            break;
        }
    }
    if let (Some(root), Some(above)) = (real(&source.root)?, there)
        && above.starts_with(&root)
    {
        return Err(Error::Usage(format!(
            "{name} lies in the input {}, of which it would be a part the next time; name an output outside of it",
            shown(&source.root)
        )));
    }
    Ok(output.into())
}
