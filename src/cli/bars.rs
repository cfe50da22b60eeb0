use indicatif::{ProgressBar, ProgressStyle};
use std::sync::{Mutex, PoisonError};
use tersor::Progress;

/// Warnings on stderr, and where they are drawn a progress bar for each stage: bytes, bytes per second, time left.
pub struct Bars {
    draw: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    pub fn new(draw: bool) -> Self {
        Self { draw, bar: Mutex::default() }
    }
}

impl Progress for Bars {
    fn begin(&self, stage: &str, bytes: u64) {
        if !self.draw {
            return;
        }
        // The bar takes what the numbers leave of the line, so that none of them is cut off.
        let template = "{prefix:>12} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes} \
                        {decimal_bytes_per_sec} {eta} left";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(bytes)
            .with_style(style.progress_chars("=> "))
            .with_prefix(stage.to_owned());
        if let Some(before) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).replace(bar) {
            before.finish_and_clear();
        }
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            bar.inc(bytes);
        }
    }

    fn warn(&self, message: &str) {
        match self.bar.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(bar) => bar.println(format!("warning: {message}")),
            None => super::complain(&format!("warning: {message}")),
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}
