//! Where an output goes that was named in a word or two.

use crate::{
    Error, Result,
    format::{checkpoint::Checkpoint, real::real, variant::is_index},
    quote::shown,
};
use std::path::{Path, PathBuf};

/// Where the successor of a file goes, if `output` is a folder, or is written as one: in it, under the same name. That of anything
/// else goes to `output` itself.
pub fn in_folder(output: &Path, input: &Path) -> PathBuf {
    let named_as_folder = output.as_os_str().as_encoded_bytes().ends_with(b"/");
    let folder = named_as_folder || output.is_dir();
    let file = input.file_name().filter(|_| folder && input.is_file() && !is_index(input));
    file.map_or_else(|| output.into(), |file| output.join(file))
}

/// Refuses what cannot be the output of a checkpoint, or would be read as a part of it.
///
/// # Errors
///
/// [`Error::Usage`] for a folder with the name of a file, and for an output in the folder that is read; [`Error::Io`].
pub(in crate::format) fn suits(output: &Path, source: &Checkpoint) -> Result<()> {
    let (name, root) = (shown(output), shown(&source.root));
    if !source.is_folder {
        return Ok(());
    }
    let of_file = output.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    if of_file && !output.is_dir() {
        return Err(Error::Usage(format!(
            "{name} is the name of a file, and {root} a folder, which becomes a folder; name a folder"
        )));
    }
    outside(output, source)
}

/// Refuses an output in the folder that is read, of which it would be a part the next time.
///
/// # Errors
///
/// [`Error::Usage`]; [`Error::Io`] if that cannot be told.
pub(in crate::format) fn outside(output: &Path, source: &Checkpoint) -> Result<()> {
    if !source.is_folder {
        return Ok(());
    }
    match within(output, &source.root)? {
        true => Err(Error::Usage(format!(
            "{} lies in the input {}, of which it would be a part the next time; name an output outside of it",
            shown(output),
            shown(&source.root)
        ))),
        false => Ok(()),
    }
}

/// Whether an output lies in a folder that is there.
pub(in crate::format) fn within(output: &Path, folder: &Path) -> Result<bool> {
    // The innermost folder above it that is there.
    let mut above = None;
    for folder in output.ancestors().skip(1) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        above = real(folder)?;
        if above.is_some() {
            break;
        }
    }
    Ok(real(folder)?.zip(above).is_some_and(|(folder, above)| above.starts_with(&folder)))
}
