//! The recipes that ship with the binary: what they are for, and what was measured of them.

use crate::{Error, Result};
use serde::Serialize;

/// A recipe that ships with the binary.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Preset {
    /// What `--preset` calls it.
    pub name: &'static str,
    /// Its TOML.
    #[serde(skip)]
    pub text: &'static str,
    /// The bits of a weight that it asks for, if it asks for any.
    pub bits: Option<u8>,
    /// The bits of an embedding, where they are others.
    pub embedding_bits: Option<u8>,
    /// Which weights survive, where not all do.
    pub survivors: Option<&'static str>,
    /// What it is for, in a few words.
    pub purpose: &'static str,
    /// What became of all-MiniLM-L6-v2.
    pub minilm: Measured,
}

/// What a preset made of a network: figures of a record.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Of the archive.
    pub bytes: u64,
    /// All bytes of the treated tensors, over their weights.
    pub bits_per_weight: f64,
    /// The largest ‖W-Q‖ / ‖W‖ of a tensor.
    pub rel_error: f64,
    /// The smallest cosine of a tensor with what it was.
    pub cosine: f64,
    /// The file of benches/record/ that says so.
    pub record: &'static str,
}

/// What all-MiniLM-L6-v2 takes in F32.
pub const MINILM_BYTES: u64 = 90_868_376;

/// Where it is written down.
const RECORD: &str = "2026-11-30-minilm-sizes.md";
const TRELLISES: &str = "2026-12-01-size-to-aim-at.md";

/// All of them, in the order in which they are listed. A test holds the figures against the records.
pub const SHIPPED: [Preset; 10] = [
    Preset {
        name: "int8",
        text: include_str!("../../recipes/int8.toml"),
        bits: Some(8),
        embedding_bits: None,
        survivors: None,
        purpose: "the usual; can run on integers",
        minilm: measured(24_072_536, 8.078, 0.0212, 0.99978),
    },
    Preset {
        name: "int4",
        text: include_str!("../../recipes/int4.toml"),
        bits: Some(4),
        embedding_bits: Some(8),
        survivors: None,
        purpose: "small, restored at full speed",
        minilm: Measured {
            record: "2026-11-30-scales.md",
            ..measured(18_847_816, 6.207, 0.1288, 0.99167)
        },
    },
    Preset {
        name: "palette8",
        text: include_str!("../../recipes/palette8.toml"),
        bits: Some(8),
        embedding_bits: None,
        survivors: None,
        purpose: "the least error at 8 bits",
        minilm: measured(23_905_416, 8.019, 0.0094, 0.99996),
    },
    Preset {
        name: "palette4",
        text: include_str!("../../recipes/palette4.toml"),
        bits: Some(4),
        embedding_bits: Some(8),
        survivors: None,
        purpose: "16 values a tensor, no scales",
        minilm: measured(18_562_368, 6.105, 0.1554, 0.98785),
    },
    Preset {
        name: "coded4",
        text: include_str!("../../recipes/coded4.toml"),
        bits: Some(4),
        embedding_bits: Some(5),
        survivors: None,
        purpose: "less error than int4, fewer bytes",
        minilm: Measured { record: TRELLISES, ..measured(14_106_089, 4.509, 0.0678, 0.99770) },
    },
    Preset {
        name: "coded3",
        text: include_str!("../../recipes/coded3.toml"),
        bits: Some(3),
        embedding_bits: Some(4),
        survivors: None,
        purpose: "networks that bear so few bits",
        minilm: Measured { record: TRELLISES, ..measured(11_310_288, 3.508, 0.1345, 0.99091) },
    },
    Preset {
        name: "sparse24",
        text: include_str!("../../recipes/sparse24.toml"),
        bits: None,
        embedding_bits: None,
        survivors: Some("2 of 4"),
        purpose: "networks pruned so in training",
        minilm: measured(70_972_392, 17.010, 0.3648, 0.93110),
    },
    Preset {
        name: "deep",
        text: include_str!("../../recipes/deep.toml"),
        bits: None,
        embedding_bits: None,
        survivors: Some("half"),
        purpose: "networks pruned in training, coded",
        minilm: measured(52_007_809, 2.720, 0.2848, 0.95860),
    },
    Preset {
        name: "weightless",
        text: include_str!("../../recipes/weightless.toml"),
        bits: None,
        embedding_bits: None,
        survivors: Some("half"),
        purpose: "as deep, where very few survive",
        minilm: measured(55_637_217, 5.455, 0.2964, 0.95509),
    },
    Preset {
        name: "lossless",
        text: include_str!("../../recipes/lossless.toml"),
        bits: None,
        embedding_bits: None,
        survivors: None,
        purpose: "every bit comes back",
        minilm: measured(74_326_966, 26.178, 0.0, 1.0),
    },
];

/// Their names and texts.
pub const PRESETS: [(&str, &str); SHIPPED.len()] = {
    let mut pairs = [("", ""); SHIPPED.len()];
    let mut i = 0;
    while i < pairs.len() {
        pairs[i] = (SHIPPED[i].name, SHIPPED[i].text);
        i += 1;
    }
    pairs
};

const fn measured(bytes: u64, bits_per_weight: f64, rel_error: f64, cosine: f64) -> Measured {
    Measured { bytes, bits_per_weight, rel_error, cosine, record: RECORD }
}

impl Preset {
    /// The preset called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is none of that name.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::recipe::Preset;
    ///
    /// assert_eq!(Preset::named("coded4")?.bits, Some(4));
    /// assert!(Preset::named("coded5").unwrap_err().to_string().contains("int8, int4, "));
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn named(name: &str) -> Result<Self> {
        SHIPPED.into_iter().find(|preset| preset.name == name).ok_or_else(|| {
            Error::Usage(format!("no preset is called {name:?}; there are: {}", Self::names()))
        })
    }

    /// The names of all, as a list for messages.
    pub fn names() -> String {
        SHIPPED.map(|preset| preset.name).join(", ")
    }
}
