//! Completions for shells, and manual pages.

use crate::cli::{command, say};
use clap::{Args, Command};
use std::path::{Path, PathBuf};
use tersor::{Error, Result};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor completions bash > ~/.local/share/bash-completion/completions/tersor
  tersor completions zsh > ~/.zfunc/_tersor
  tersor completions fish > ~/.config/fish/completions/tersor.fish")]
pub struct Completions {
    /// For which
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "tersor", &mut script);
        say(&String::from_utf8_lossy(&script))?;
        Ok(0)
    }
}

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor man | man -l -
  tersor man ~/.local/share/man/man1       # and then: man tersor-compress")]
pub struct Man {
    /// Write a page for every command into this folder, in the place of older ones; else the page of tersor goes to stdout
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Result<u8> {
        let mut whole = command().disable_help_subcommand(true);
        whole.build();
        match self.folder {
            None => say(&String::from_utf8_lossy(&page(&whole, Path::new("stdout"))?.1))?,
            Some(folder) => {
                std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
                write(&whole, &folder)?;
            }
        }
        Ok(0)
    }
}

/// Writes the pages of a command and of those below it.
fn write(command: &Command, folder: &Path) -> Result<()> {
    let (name, text) = page(command, folder)?;
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(Error::io(&path))?;
    command.get_subcommands().try_for_each(|below| write(below, folder))
}

/// A page and what its file is called.
fn page(command: &Command, to: &Path) -> Result<(String, Vec<u8>)> {
    let man = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    man.render(&mut text).map_err(Error::io(to))?;
    Ok((man.get_filename(), text))
}
