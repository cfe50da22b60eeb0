use crate::{
    Backend, Error, Result, Tensor,
    kernels::{Activation, add, attention, masked_mean},
    nn::{
        layers::{
            embedding::Embedding,
            layer_norm::LayerNorm,
            linear::{Arithmetic, Linear},
        },
        store::Model,
    },
};
use serde::Deserialize;
use std::path::Path;

/// What the `config.json` of a BERT encoder says, as far as its shape depends on it.
#[derive(Clone, Debug, Deserialize)]
pub struct BertConfig {
    /// `"bert"`; nothing else is supported.
    pub model_type: String,
    /// Width of the vectors.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Attention heads; they divide the width.
    pub num_attention_heads: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// `"gelu"` or `"relu"`.
    pub hidden_act: String,
    /// Added to the variance in layer normalization.
    pub layer_norm_eps: f32,
    /// `"absolute"`, also where it is missing.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".into()
}

/// An encoder of the BERT family: token numbers in, vectors out.
///
/// Agreement: within the tolerances of its kernels; with [`Arithmetic::Int8`] the quantization of activations turns a last bit
/// into a step of a code now and then, so that CPU and GPU agree to about 1e-3.
///
/// # Source
///
/// Devlin, Chang, Lee, Toutanova 2019, arXiv 1810.04805; pooling: Reimers and Gurevych 2019, arXiv 1908.10084.
#[derive(Clone, Debug)]
pub struct Bert {
    config: BertConfig,
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    layers: Vec<EncoderLayer>,
}

#[derive(Clone, Debug)]
struct EncoderLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attention_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    output_norm: LayerNorm,
}

impl BertConfig {
    /// Reads the `config.json` of a folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read; [`Error::Format`] if a field is missing or says something that is not supported.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let config: Self =
            serde_json::from_str(&text).map_err(|e| Error::format(&path, e.to_string()))?;
        config.check().map_err(|why| Error::format(&path, why))?;
        Ok(config)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let one_of = |field: &str, found: &str, expected: &[&str]| match expected.contains(&found) {
            true => Ok(()),
            false => Err(format!("{field} is {found:?}, expected {}", expected.join(" or "))),
        };
        one_of("model_type", &self.model_type, &["bert"])?;
        one_of("hidden_act", &self.hidden_act, &["gelu", "relu"])?;
        one_of("position_embedding_type", &self.position_embedding_type, &["absolute"])?;
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(format!("num_attention_heads is {heads}, expected a divisor of {width}"));
        }
        Ok(())
    }

    fn activation(&self) -> Activation {
        if self.hidden_act == "relu" { Activation::Relu } else { Activation::Gelu }
    }
}

impl Bert {
    /// Loads an encoder from a Hugging Face folder, or from an archive that was made of one.
    ///
    /// # Errors
    ///
    /// As [`BertConfig::open`] and [`Linear::load`]: they name the layer, what was found and what was expected.
    pub fn load(folder: &Path, on: &Backend, arithmetic: Arithmetic) -> Result<Self> {
        let config = BertConfig::open(folder)?;
        let model = Model::open(folder)?;
        // A checkpoint of the encoder alone has no prefix, one with a head on it has.
        let prefix = match model.has("bert.embeddings.word_embeddings.weight") {
            true => "bert.",
            false => "",
        };
        let (width, wide, eps) =
            (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let embedding =
            |name: &str| Embedding::load(&model, on, &format!("{prefix}embeddings.{name}"), width);
        let layer = |l: usize| {
            let name = |part: &str| format!("{prefix}encoder.layer.{l}.{part}");
            let linear = |part: &str, inputs: usize, outputs: usize, activation| {
                let name = name(part);
                let layer = Linear::load(&model, on, &name, inputs, activation, arithmetic)?;
                match layer.outputs() == outputs {
                    true => Ok(layer),
                    false => {
                        let found = format!("has {} outputs, expected {outputs}", layer.outputs());
                        Err(model.refuse(&format!("{name}.weight"), &found))
                    }
                }
            };
            let norm = |part: &str| LayerNorm::load(&model, on, &name(part), width, eps);
            Ok(EncoderLayer {
                query: linear("attention.self.query", width, width, Activation::None)?,
                key: linear("attention.self.key", width, width, Activation::None)?,
                value: linear("attention.self.value", width, width, Activation::None)?,
                attended: linear("attention.output.dense", width, width, Activation::None)?,
                attention_norm: norm("attention.output.LayerNorm")?,
                widen: linear("intermediate.dense", width, wide, config.activation())?,
                narrow: linear("output.dense", wide, width, Activation::None)?,
                output_norm: norm("output.LayerNorm")?,
            })
        };
        Ok(Self {
            words: embedding("word_embeddings")?,
            positions: embedding("position_embeddings")?,
            types: embedding("token_type_embeddings")?,
            norm: LayerNorm::load(
                &model,
                on,
                &format!("{prefix}embeddings.LayerNorm"),
                width,
                eps,
            )?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            config,
        })
    }

    /// What its config.json says.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The vectors of all tokens of some sequences, each padded to the longest: F32 `[sequences * longest, width]`. Padding has
    /// no influence on the tokens before it, and its own vectors mean nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if a sequence is longer than the positions the model knows, or a token has no embedding;
    /// [`Error::Gpu`] if the device fails.
    pub fn forward(&self, on: &Backend, sequences: &[&[u32]]) -> Result<Tensor> {
        let longest = sequences.iter().map(|s| s.len()).max().unwrap_or(0);
        let most = self.config.max_position_embeddings.min(self.positions.rows());
        if longest > most {
            let layer = "embeddings.position_embeddings";
            return Err(Error::shape(layer, "tokens", longest, format!("at most {most}")));
        }
        let known = self.words.rows();
        if let Some(id) = sequences.iter().flat_map(|s| s.iter()).find(|id| **id as usize >= known)
        {
            let layer = "embeddings.word_embeddings";
            return Err(Error::shape(layer, "token", id, format!("below {known}")));
        }
        let lengths: Vec<u32> = sequences.iter().map(|s| s.len() as u32).collect();
        let padded =
            |s: &&[u32]| (0..longest).map(|i| s.get(i).copied().unwrap_or(0)).collect::<Vec<_>>();
        let ids: Vec<u32> = sequences.iter().flat_map(padded).collect();
        let positions: Vec<u32> = (0..longest as u32).collect();
        let places =
            add(on, &self.positions.forward(on, &positions)?, &self.types.forward(on, &[0])?)?;
        let embedded = add(on, &self.words.forward(on, &ids)?, &places)?;
        let mut x = self.norm.forward(on, &embedded, None)?;
        for layer in &self.layers {
            x = layer.forward(on, &x, self.config.num_attention_heads, &lengths)?;
        }
        Ok(x)
    }

    /// The embedding of every sequence: the mean of its tokens' vectors, of length 1.
    ///
    /// # Errors
    ///
    /// As [`Bert::forward`].
    pub fn embed(&self, on: &Backend, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let mut embeddings = Vec::new();
        for batch in sequences.chunks(BATCH) {
            let lengths: Vec<u32> = batch.iter().map(|s| s.len() as u32).collect();
            let pooled = masked_mean(on, &self.forward(on, batch)?, &lengths)?.read_f32(on)?;
            embeddings.extend(pooled.chunks(self.config.hidden_size).map(unit));
        }
        Ok(embeddings)
    }

    /// Bytes its weights take on the device.
    pub fn bytes(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(EncoderLayer::bytes).sum();
        self.words.bytes()
            + self.positions.bytes()
            + self.types.bytes()
            + self.norm.bytes()
            + layers
    }

    /// How many of its dense layers multiply integers, and how many there are.
    pub fn int8_layers(&self) -> (usize, usize) {
        let all: Vec<_> = self.layers.iter().flat_map(EncoderLayer::linears).collect();
        (all.iter().filter(|l| l.is_int8()).count(), all.len())
    }
}

/// Sequences that run together.
const BATCH: usize = 32;

impl EncoderLayer {
    fn forward(&self, on: &Backend, x: &Tensor, heads: usize, lengths: &[u32]) -> Result<Tensor> {
        let (q, k, v) =
            (self.query.forward(on, x)?, self.key.forward(on, x)?, self.value.forward(on, x)?);
        let attended = self.attended.forward(on, &attention(on, &q, &k, &v, heads, lengths)?)?;
        let x = self.attention_norm.forward(on, &attended, Some(x))?;
        let narrowed = self.narrow.forward(on, &self.widen.forward(on, &x)?)?;
        self.output_norm.forward(on, &narrowed, Some(&x))
    }

    fn linears(&self) -> [&Linear; 6] {
        [&self.query, &self.key, &self.value, &self.attended, &self.widen, &self.narrow]
    }

    fn bytes(&self) -> u64 {
        let norms = self.attention_norm.bytes() + self.output_norm.bytes();
        self.linears().iter().map(|l| l.bytes()).sum::<u64>() + norms
    }
}

/// The vector at length 1.
fn unit(vector: &[f32]) -> Vec<f32> {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let length = square.sqrt().max(f64::MIN_POSITIVE);
    vector.iter().map(|x| (f64::from(*x) / length) as f32).collect()
}
