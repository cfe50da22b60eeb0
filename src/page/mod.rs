//! A report as a page: HTML that is complete in itself, asks for nothing and reads the same without its script. It has no times
//! and no places but those that the user gave: the same input gives the same page.
//!
//! - `job`, `inspected`: what is on a page, in its order.
//! - `html`: text of untrusted names, and the frame around all; `style.css` and `sort.js` are in it.
//! - `bars`, `scatter`, `histogram`, `table`: one kind of picture each, written as SVG or HTML; `axes` are also of the curve of a search.
//! - `weights`: what histograms are made of; `choice`: which tensors have one.
//!
//! However many tensors there are, a page has a bounded size, and says what it leaves out.

pub(crate) mod axes;
mod bars;
mod choice;
mod histogram;
pub(crate) mod html;
mod inspected;
mod job;
mod scatter;
mod table;
mod weights;

pub use choice::{of_archived, of_report, of_summaries};
pub use inspected::{archived, checkpoint};
pub use job::job;
pub use weights::{Weights, of_archive, of_checkpoint};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The command.
    pub command: &'static str,
    /// What is read, as it was given.
    pub model: String,
    /// Flags and what they were given.
    pub flags: Vec<(String, String)>,
    /// The text of the recipe, where there is one.
    pub recipe: Option<String>,
}

/// Rows of the table of tensors, at most.
const ROWS: usize = 5000;

impl Asked {
    fn title(&self) -> String {
        html::text(&format!("tersor {}: {}", self.command, self.model))
    }

    /// The head of a page: what was asked for.
    fn head(&self, out: &mut String, headline: &str) {
        *out +=
            &format!("<header><h1>{}</h1>\n<p class=\"headline\">{headline}</p>\n", self.title());
        if !self.flags.is_empty() {
            html::terms(out, &self.flags);
        }
        *out += "</header>\n<main>\n";
    }

    /// The recipe, if there was one.
    fn recipe(&self, out: &mut String) {
        if let Some(recipe) = &self.recipe {
            html::section(out, "recipe", "Recipe", "");
            *out += &format!(
                "<pre tabindex=\"0\" aria-label=\"Recipe\">{}</pre>\n",
                html::lines(recipe)
            );
            html::end(out);
        }
    }

    fn page(&self, body: String) -> String {
        html::page(&self.title(), &format!("{body}</main>\n"))
    }
}

/// What is said under the title of the table where it has not all tensors.
fn of_rows(shown: usize, all: usize, which: &str) -> String {
    match shown < all {
        true => format!(
            "{} of {} tensors: {which}. All of them: --json. ",
            html::count(shown as u64),
            html::count(all as u64)
        ),
        false => String::new(),
    }
}
