//! Files of other kinds: what they are, by their first bytes and not by their name, and what makes them readable.

use crate::quote::shown;
use std::{fs::File, io::Read, path::Path};

/// Bytes of a file that tell what it is: the name of the first entry of an archive is among them.
pub(in crate::format) const START: u64 = 512;

/// What a file is that is no safetensors file.
#[derive(Clone, Copy, Debug)]
pub(in crate::format) struct Foreign {
    /// With its article.
    pub what: &'static str,
    /// Whether files that start like this hold weights, whatever their name.
    pub weights: bool,
    way: Way,
}

/// What makes a file readable.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Python that makes a file, `sys.argv[2]`, of this one, `sys.argv[1]`.
    Python(&'static str),
    /// A command that takes the file.
    Command(&'static str),
    /// There is no such command.
    Advice(&'static str),
}

use Way::{Advice, Command, Python};

const TORCH: Way = Python(
    "import sys, torch; from safetensors.torch import save_file; w = torch.load(sys.argv[1], map_location=\"cpu\", weights_only=True); \
     w = w.get(\"state_dict\", w); save_file({k: t.clone().contiguous() for k, t in w.items() if torch.is_tensor(t)}, sys.argv[2])",
);
const SCRIPT: Way = Python(
    "import sys, torch; from safetensors.torch import save_file; w = torch.jit.load(sys.argv[1], \"cpu\").state_dict(); \
     save_file({k: t.clone().contiguous() for k, t in w.items()}, sys.argv[2])",
);
const NPZ: Way = Python(
    "import sys, numpy; from safetensors.numpy import save_file; save_file(dict(numpy.load(sys.argv[1])), sys.argv[2])",
);
const NPY: Way = Python(
    "import sys, numpy; from safetensors.numpy import save_file; save_file({\"weight\": numpy.load(sys.argv[1])}, sys.argv[2])",
);
const HDF5: Way = Python(
    "import sys, h5py; from safetensors.numpy import save_file; w = {}; \
     h5py.File(sys.argv[1]).visititems(lambda n, d: w.update({n: d[()]}) if isinstance(d, h5py.Dataset) else None); save_file(w, sys.argv[2])",
);
const ONNX: Way = Python(
    "import sys, onnx; from onnx.numpy_helper import to_array; from safetensors.numpy import save_file; \
     save_file({t.name: to_array(t) for t in onnx.load(sys.argv[1]).graph.initializer}, sys.argv[2])",
);
const FLAX: Way = Python(
    "import sys; from flax.serialization import msgpack_restore; from flax.traverse_util import flatten_dict; from safetensors.flax import save_file; \
     save_file(flatten_dict(msgpack_restore(open(sys.argv[1], \"rb\").read()), sep=\".\"), sys.argv[2])",
);
const GGUF: Way = Python(
    "import os, sys, torch; from safetensors.torch import save_file; from transformers import AutoModelForCausalLM; d, f = os.path.split(sys.argv[1]); \
     m = AutoModelForCausalLM.from_pretrained(d or \".\", gguf_file=f); save_file({k: t.clone().contiguous() for k, t in m.state_dict().items()}, sys.argv[2])",
);

impl Foreign {
    /// What the first bytes of a file are, up to [`START`] of them; none where they may be those of a safetensors file or of
    /// something that is not known. The name only decides between two kinds that start alike.
    pub fn of(start: &[u8], path: &Path) -> Option<Self> {
        let named = |endings: &[&str]| {
            path.extension().is_some_and(|e| endings.iter().any(|n| e.eq_ignore_ascii_case(n)))
        };
        let kind = |what, weights, way| Some(Self { what, weights, way });
        let text =
            |from: usize| start.get(from..8).is_some_and(|s| s.iter().all(|b| printable(*b)));
        match start {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => {
                let torch = kind("a PyTorch checkpoint, a zip archive of a pickle", true, TORCH);
                match entry(start) {
                    Some(name) if name.ends_with(".npy") => kind("a NumPy archive", true, NPZ),
                    Some("metadata.json" | "config.json" | "model.weights.h5") => {
                        let way = Command("unzip -p NAME model.weights.h5 > model.weights.h5");
                        kind("a Keras archive, whose weights are an HDF5 file", true, way)
                    }
                    Some(name) if of_torch(name) && named(&["jit", "torchscript"]) => {
                        kind("a TorchScript archive", true, SCRIPT)
                    }
                    Some(name) if of_torch(name) => torch,
                    _ if named(&["bin", "pt", "pth", "ckpt"]) => torch,
                    _ => kind("a zip archive", false, Command("unzip NAME")),
                }
            }
            [0x80, 2..=5, b'}' | b']' | b'c' | b'(' | b'q' | 0x8a | 0x95, ..] => {
                kind("a Python pickle, as PyTorch writes them", false, TORCH)
            }
            [b'G', b'G', b'U', b'F', ..] => {
                kind("a GGUF file, which is quantized already if it is not F32 or F16", true, GGUF)
            }
            [0x89, b'H', b'D', b'F', ..] => kind("an HDF5 file", true, HDF5),
            [_, _, _, _, b'T', b'F', b'L', b'3', ..] => {
                let way = Advice("save the weights of the model that it was converted from");
                kind("a TensorFlow Lite file", true, way)
            }
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => kind("a NumPy array", false, NPY),
            [0x1f, 0x8b, ..] => kind("a gzip file", false, Command("gunzip NAME")),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => kind("a Zstandard file", false, Command("unzstd NAME")),
            _ if start.get(257..262) == Some(b"ustar") => {
                kind("a tar archive", false, Command("tar xf NAME"))
            }
            // The version of the format, then who made it, its graph or its operators: no length of a header has such upper bytes.
            [8, 3..=30, 0x12 | 0x3a | 0x42 | 0x1a, _, rest @ ..] if !rest.starts_with(&[0; 4]) => {
                kind("an ONNX file", true, ONNX)
            }
            // A map whose first key is a short string.
            [0x81..=0x8f, 0xa1..=0xbf, ..] if named(&["msgpack"]) => {
                kind("a Flax checkpoint, in MessagePack", true, FLAX)
            }
            _ if start.starts_with(b"version https://git-lfs") || start == b"version " => {
                let way = Command("git lfs pull --include NAME");
                kind("a Git LFS pointer; the file itself was not fetched", false, way)
            }
            // As lengths these texts would be far too large.
            [b'<', b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z', ..] if text(7) => {
                let way = Advice("download it anew, with `hf download` for a model of the Hub");
                kind("an HTML or XML page, as a failed download leaves", false, way)
            }
            [b'{' | b'[', ..] if text(7) => {
                let way = Advice("name the weights, or the folder that holds them");
                let what = "JSON text without the length that goes before it in a header";
                kind(what, false, way)
            }
            _ => None,
        }
    }

    /// What a file is, if it can be read.
    pub fn at(path: &Path) -> Option<Self> {
        let mut start = Vec::new();
        File::open(path).ok()?.take(START).read_to_end(&mut start).ok()?;
        Self::of(&start, path)
    }

    /// What makes a file at `path` readable, to be read after a semicolon.
    pub fn way(&self, path: &Path) -> String {
        let name = argument(path);
        match self.way {
            Python(code) => {
                let made = path.with_extension("safetensors");
                // One that has the name of what it is not.
                let same = made == path;
                let made =
                    argument(&if same { path.with_extension("made.safetensors") } else { made });
                format!("this makes one: python3 -c '{code}' {name} {made}")
            }
            Command(command) => format!("this helps: {}", command.replace("NAME", &name)),
            Advice(advice) => advice.into(),
        }
    }
}

fn printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

/// The name of the first entry of a zip archive.
fn entry(start: &[u8]) -> Option<&str> {
    let len = u16::from_le_bytes(start.get(26..28)?.try_into().ok()?);
    str::from_utf8(start.get(30..30 + usize::from(len))?).ok()
}

/// Whether PyTorch begins an archive with an entry of this name.
fn of_torch(name: &str) -> bool {
    let names = ["data.pkl", "constants.pkl", "version", "byteorder", ".format_version"];
    name.split_once('/')
        .is_some_and(|(_, in_it)| names.contains(&in_it) || in_it.starts_with("data/"))
}

/// A path as an argument of a shell.
fn argument(path: &Path) -> String {
    let text = shown(path);
    let plain = |c: char| c.is_alphanumeric() || "/._-+=@%,:".contains(c);
    match text.chars().all(plain) && !text.starts_with('-') {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
