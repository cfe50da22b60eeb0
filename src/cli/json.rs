//! What `--json` prints: one object, which says what it is. docs/json.md describes it, docs/json.schema.json to the last field.

use serde::Serialize;
use std::path::Path;
use tersor::{
    Error, Result,
    search::{CurvePoint, Found},
};

/// An object, and what it says of itself: `schema` is its name and version, `tersor` that of the program.
#[derive(Serialize)]
struct Object<'a, T> {
    schema: &'a str,
    tersor: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

/// The text of an object of a kind, on one line. Fields may be added to a kind; its number changes when one goes or is something else.
pub fn object(kind: &str, body: &impl Serialize) -> Result<String> {
    let object = Object { schema: &format!("{kind}/1"), tersor: env!("CARGO_PKG_VERSION"), body };
    let text = serde_json::to_string(&object);
    text.map(|text| text + "\n").map_err(|e| Error::Io { path: "stdout".into(), source: e.into() })
}

/// That of a job that failed.
pub fn failure(why: &str, exit_code: i32) -> String {
    let body = serde_json::json!({"ok": false, "error": why, "exit_code": exit_code});
    object("error", &body).unwrap_or_default()
}

/// What was asked of a job, as it was given.
#[derive(Serialize)]
pub struct Asked<'a> {
    /// What is read.
    pub input: String,
    /// What is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What an archive is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// The page that is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
    /// What is to be done.
    #[serde(flatten)]
    pub recipe: Option<RecipeGiven<'a>>,
    /// What a search has found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<FoundReport<'a>>,
}

/// Which recipe was asked for: one of the first three is there.
#[derive(Clone, Serialize)]
pub struct RecipeGiven<'a> {
    /// A preset, by name.
    pub preset: Option<&'a str>,
    /// A file.
    pub recipe: Option<String>,
    /// Bits of a weight.
    pub bits: Option<f64>,
    /// What was to be met instead.
    #[serde(flatten)]
    pub target: TargetGiven,
}

/// What a model was to be made to fit: one of these, or none.
#[derive(Clone, Default, Serialize)]
pub struct TargetGiven {
    /// Bytes of the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_size: Option<u64>,
    /// Those over the elements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bpw: Option<f64>,
    /// The largest relative error of a tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rel_error: Option<f64>,
}

/// What a search has found.
#[derive(Serialize)]
pub struct FoundReport<'a> {
    /// The text of the recipe.
    pub recipe: &'a str,
    /// What the output takes with it.
    pub output_bytes: u64,
    /// The root of the mean of the squared relative errors of what was searched.
    pub rel_error: f64,
    /// Elements that were searched.
    pub elements: u64,
    /// What other sizes would have, and presets.
    pub curve: &'a [CurvePoint],
}

impl<'a> FoundReport<'a> {
    pub fn new(found: &'a Found) -> Self {
        Self {
            recipe: &found.text,
            output_bytes: found.output_bytes,
            rel_error: found.rel_error,
            elements: found.searched,
            curve: &found.curve.points,
        }
    }
}

impl Asked<'_> {
    /// Something that is read.
    pub fn of(input: &Path) -> Self {
        Self {
            input: given(input),
            output: None,
            against: None,
            report: None,
            recipe: None,
            search: None,
        }
    }
}

/// A path as it was given; what of it is no text is replaced.
pub fn given(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What was asked for, and what came of it.
#[derive(Serialize)]
pub struct Answer<'a, T> {
    #[serde(flatten)]
    pub asked: Asked<'a>,
    #[serde(flatten)]
    pub report: &'a T,
}
