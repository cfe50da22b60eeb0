//! What a tensor may become, as a recipe writes it.

use crate::{
    Error, Result,
    recipe::{Recipe, Treatment},
};
use std::sync::Arc;

/// Quantizers that differ in a number of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Trellis,
    TrellisOfHadamard,
    TrellisOfDct,
    Entropy,
}

/// What a tensor may become.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// One of a family.
    Of(Family, f64),
    /// Along a trellis, with an error that is at most so much.
    Within(f64),
    /// Whatever a recipe may say: lines of TOML.
    Fixed(Arc<str>),
    /// As it is.
    Keep,
}

/// States of the trellis of what is chosen, and of what is only looked at: in a third of the time some 4 % more error, whatever the
/// tensor.
pub const STATES: u8 = 64;
pub const STATES_OF_A_LOOK: u8 = 8;

impl Family {
    /// All of them, the one first that most tensors will have.
    pub const ALL: [Self; 4] =
        [Self::Trellis, Self::Entropy, Self::TrellisOfHadamard, Self::TrellisOfDct];

    /// Where it is looked at. Between these it is interpolated.
    pub fn rates(self) -> &'static [f64] {
        match self {
            Self::Entropy => &[0.5, 1.0, 2.0, 4.0, 6.0, 6.5, 7.0, 7.5, 8.0],
            Self::Trellis | Self::TrellisOfHadamard | Self::TrellisOfDct => {
                &[0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]
            }
        }
    }

    /// Where it is looked at first: what is no better there than what was found before is left.
    pub fn probe(self) -> Option<f64> {
        match self {
            Self::Trellis | Self::Entropy => None,
            Self::TrellisOfHadamard | Self::TrellisOfDct => Some(3.0),
        }
    }
}

/// Forms that have no number of bits to turn, or few: integers by row and by group, with and without a transform, stored as they are and
/// coded; tables of all, of groups of rows; vectors; pyramids; and no loss at all.
const FIXED: [&str; 16] = [
    "encode = \"auto\"",
    "quantize = { kind = \"affine\", bits = 8, granularity = \"channel\" }\nencode = \"auto\"",
    "quantize = { kind = \"affine\", bits = 8, granularity = \"channel\", objective = \"mse\" }\nencode = \"auto\"",
    "quantize = { kind = \"affine\", bits = 6, granularity = \"group\", group = [128, 64, 32, \"row\"], objective = \"mse\", scales = \"bf16\" }\nencode = \"auto\"",
    "quantize = { kind = \"affine\", bits = 5, granularity = \"group\", group = [128, 64, 32, \"row\"], objective = \"mse\", scales = \"bf16\" }\nencode = \"auto\"",
    "quantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = [128, 64, 32, \"row\"], objective = \"mse\", scales = \"bf16\" }\nencode = \"auto\"",
    "quantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = [32, \"row\"], objective = \"mse\", scales = \"bf16\" }\nencode = \"auto\"",
    "quantize = { kind = \"affine\", bits = 3, granularity = \"group\", group = [32, \"row\"], objective = \"mse\", scales = \"bf16\" }\nencode = \"auto\"",
    "transform = \"hadamard\"\nquantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = [128, 64, 32, \"row\"], objective = \"mse\", scales = \"bf16\" }\nencode = \"auto\"",
    "transform = \"dct\"\nquantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = [128, 64, 32, \"row\"], objective = \"mse\", scales = \"bf16\" }\nencode = \"auto\"",
    "quantize = { kind = \"palette\", k = 256 }\nencode = \"auto\"",
    "quantize = { kind = \"palette\", k = 256, granularity = \"group\", group = 64 }\nencode = \"auto\"",
    "quantize = { kind = \"palette\", k = 16, granularity = \"group\", group = 8 }\nencode = \"auto\"",
    "quantize = { kind = \"vector\", d = 4, k = 256 }\nencode = \"auto\"",
    "quantize = { kind = \"vector\", d = 2, k = 256, granularity = \"channel\" }\nencode = \"auto\"",
    "quantize = { kind = \"pyramid\", n = 32, bits = 3.5 }",
];

impl Way {
    /// Those that have no number of bits to turn.
    pub fn fixed() -> Vec<Self> {
        FIXED.into_iter().map(|text| Self::Fixed(text.into())).collect()
    }

    /// Whether it may be chosen. A preset's trellis is looked at for the preset's sake alone: the same with more states is a family.
    pub fn may_be_chosen(&self) -> bool {
        !matches!(self, Self::Fixed(text) if text.contains("\"trellis\""))
    }

    /// Without any loss, in fewer bytes.
    pub fn lossless() -> Self {
        Self::Fixed(FIXED[0].into())
    }

    /// Its lines of a rule.
    pub fn text(&self, states: u8) -> String {
        match self {
            Self::Of(Family::Entropy, bits) => {
                format!("quantize = {{ kind = \"entropy\", bits = {bits:?} }}\nencode = \"auto\"")
            }
            Self::Of(family, bits) => {
                let transform = match family {
                    Family::TrellisOfHadamard => "transform = \"hadamard\"\n",
                    Family::TrellisOfDct => "transform = \"dct\"\n",
                    Family::Trellis | Family::Entropy => "",
                };
                format!(
                    "{transform}quantize = {{ kind = \"trellis\", bits = {bits:?}, states = {states} }}\nencode = \"rans\""
                )
            }
            Self::Within(error) => format!(
                "quantize = {{ kind = \"trellis\", max_error = {error:?}, states = {states} }}\nencode = \"rans\""
            ),
            Self::Fixed(text) => text.to_string(),
            Self::Keep => "keep = true".into(),
        }
    }

    /// What a recipe reads in these lines.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] if they make no sense.
    pub fn treatment(&self, states: u8) -> Result<Arc<Treatment>> {
        let text = format!("version = 1\n[[rule]]\nmatch = \"*\"\n{}", self.text(states));
        let rule = Recipe::parse(&text)?.rules.into_iter().next();
        rule.map(|rule| Arc::new(rule.treatment)).ok_or(Error::Recipe(text))
    }
}

/// Of every rule of a recipe's text the lines that say what is done.
///
/// # Errors
///
/// [`Error::Recipe`] if the text is no TOML.
pub fn of_rules(text: &str) -> Result<Vec<Way>> {
    let table: toml::Table = text.parse().map_err(|e| Error::Recipe(format!("{e}")))?;
    let rules = table.get("rule").and_then(|rules| rules.as_array()).into_iter().flatten();
    let way = |rule: &toml::Value| {
        let said = ["axis", "prune", "transform", "quantize", "encode"];
        let line = |key: &str| Some(format!("{key} = {}", rule.get(key)?));
        match said.iter().filter_map(|key| line(key)).collect::<Vec<_>>() {
            lines if lines.is_empty() => Way::Keep,
            lines => Way::Fixed(lines.join("\n").into()),
        }
    };
    Ok(rules.map(way).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::SHIPPED;

    #[test]
    fn every_way_is_a_rule() {
        for family in Family::ALL {
            for bits in family.rates() {
                Way::Of(family, *bits).treatment(STATES).unwrap();
            }
        }
        Way::fixed().iter().for_each(|way| _ = way.treatment(STATES).unwrap());
        Way::Within(0.05).treatment(STATES_OF_A_LOOK).unwrap();
        assert!(Way::lossless().treatment(STATES).unwrap().is_lossless());
        assert!(Way::Keep.treatment(STATES).unwrap().keeps());
    }

    #[test]
    fn rules_say_the_same_after_they_were_taken_apart() {
        for preset in SHIPPED {
            let rules = Recipe::parse(preset.text).unwrap().rules;
            let ways = of_rules(preset.text).unwrap();
            assert_eq!(ways.len(), rules.len());
            for (way, rule) in ways.iter().zip(&rules) {
                assert_eq!(*way.treatment(STATES).unwrap(), rule.treatment, "{}", preset.name);
            }
        }
    }
}
