//! `*.safetensors.index.json`: which shard holds which tensor.

use crate::{
    Error, Result, TensorInfo,
    format::safetensors::{header::MAX_HEADER, header_text::Count},
    quote::{json_error, quoted},
};
use std::{
    collections::HashMap,
    fmt, fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Most tensors that an index lists: as many as one file may hold.
const MAX_LISTED: usize = crate::format::safetensors::header::MAX_TENSORS;

/// An index as it was read.
#[derive(Debug)]
pub struct Index {
    /// The plain names of the shards, sorted.
    pub shards: Vec<String>,
    /// Of every tensor the number of its shard, and its own place in the list.
    listed: HashMap<String, [u32; 2]>,
}

impl Index {
    /// Reads an index, whose shards must be there, beside it.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for a shard that is missing or leaves the folder, and for everything malformed; [`Error::Io`].
    pub fn read(path: &Path, root: &Path) -> Result<Self> {
        let index = Self::parse(path)?;
        for name in &index.shards {
            let shard = root.join(name);
            let there = match fs::metadata(&shard) {
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename) => {
                    false
                }
                meta => meta.map_err(Error::io(&shard))?.is_file(),
            };
            if !there {
                return Err(Error::format(path, format!("shard {} is missing", quoted(name))));
            }
        }
        Ok(index)
    }

    /// Reads an index, wherever its shards are.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for a name that leaves the folder, and for everything malformed; [`Error::Io`].
    pub fn parse(path: &Path) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Text {
            weight_map: Map,
        }
        let text = read_object(path, MAX_HEADER)?;
        let read = serde_json::from_slice::<Text>(&text);
        let Map { shards, mut listed } =
            read.map_err(|e| Error::format(path, json_error(&e)))?.weight_map;
        if shards.is_empty() {
            return Err(Error::format(path, "weight_map is empty, expected at least one tensor"));
        }
        let mut sorted: Vec<(String, u32)> = shards.into_iter().collect();
        sorted.sort_unstable();
        let mut place = vec![0; sorted.len()];
        for ((name, at), i) in sorted.iter().zip(0..) {
            check_basename(path, name)?;
            place[*at as usize] = i;
        }
        listed.values_mut().for_each(|[at, _]| *at = place[*at as usize]);
        Ok(Self { shards: sorted.into_iter().map(|(name, _)| name).collect(), listed })
    }

    /// The names of all tensors, and the number of the shard of each.
    pub fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.listed.iter().map(|(name, [shard, _])| (name.as_str(), *shard as usize))
    }

    /// The shards within their folder.
    pub fn paths(&self, root: &Path) -> Vec<PathBuf> {
        self.shards.iter().map(|name| root.join(name)).collect()
    }

    /// Demands that it lists the tensors of its shards, which are numbered as it numbers them from `first` on, and no others. Gives
    /// the numbers of these tensors in the order of the list.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] with the first tensor that differs.
    pub fn check(&self, path: &Path, tensors: &[TensorInfo], first: usize) -> Result<Vec<u32>> {
        let shard = |at: usize| quoted(&self.shards[at]);
        let mut order = vec![0; self.listed.len()];
        for (t, number) in tensors.iter().zip(0..) {
            let at = t.file - first;
            let why = match self.listed.get(t.own_name()) {
                Some([claimed, place]) if *claimed as usize == at => {
                    order[*place as usize] = number;
                    continue;
                }
                Some([claimed, _]) => {
                    let (name, expected) = (quoted(&t.name), shard(*claimed as usize));
                    format!("tensor {name} is in {}, expected {expected}", shard(at))
                }
                None => {
                    format!("tensor {} of shard {} is not listed", quoted(&t.name), shard(at))
                }
            };
            return Err(Error::format(path, why));
        }
        if tensors.len() == self.listed.len() {
            return Ok(order);
        }
        let present: std::collections::HashSet<_> = tensors.iter().map(|t| t.own_name()).collect();
        let missing = self.listed.iter().filter(|(name, _)| !present.contains(name.as_str())).min();
        let why = missing.map_or("a tensor is listed twice".into(), |(name, [at, _])| {
            let (name, shard) = (quoted(name), shard(*at as usize));
            format!("tensor {name} is listed but not in shard {shard}")
        });
        Err(Error::format(path, why))
    }
}

/// The text of an index: the bytes of all tensors, and of each its shard, in this order.
pub(crate) fn index_text(total: u64, shards: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    write_index(&mut text, total, shards);
    text
}

/// The length of that text, so that a plan need not build it.
pub(crate) fn index_length(total: u64, shards: &[(&str, &str)]) -> u64 {
    let mut count = Count(0);
    write_index(&mut count, total, shards);
    count.0
}

fn write_index(out: &mut impl Write, total: u64, shards: &[(&str, &str)]) {
    #[derive(serde::Serialize)]
    struct Metadata {
        total_size: u64,
    }
    #[derive(serde::Serialize)]
    struct Text<'a> {
        metadata: Metadata,
        weight_map: Pairs<'a>,
    }
    struct Pairs<'a>(&'a [(&'a str, &'a str)]);
    impl serde::Serialize for Pairs<'_> {
        fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
            to.collect_map(self.0.iter().map(|(tensor, shard)| (tensor, shard)))
        }
    }
    let text = Text { metadata: Metadata { total_size: total }, weight_map: Pairs(shards) };
    serde_json::to_writer_pretty(&mut *out, &text).expect("names are text, and memory takes it");
    out.write_all(b"\n").expect("memory takes every byte");
}

/// One plain file name: it can leave no folder.
fn check_basename(index: &Path, name: &str) -> Result<()> {
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0', ':'])
        && name.ends_with(".safetensors");
    if plain {
        return Ok(());
    }
    let why = format!(
        "shard name {}, expected the plain name of a .safetensors file in the same folder",
        quoted(name)
    );
    Err(Error::format(index, why))
}

/// A JSON object of strings without duplicate keys, which `serde_json` would accept. Shards are numbered as they come.
struct Map {
    shards: HashMap<String, u32>,
    listed: HashMap<String, [u32; 2]>,
}

impl<'de> serde::Deserialize<'de> for Map {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Map;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensor name to shard name")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Map, A::Error> {
                let refuse = |why: String| Err(serde::de::Error::custom(why));
                let (mut shards, mut listed) = (HashMap::new(), HashMap::new());
                while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
                    if listed.len() == MAX_LISTED {
                        return refuse(format!("more than {MAX_LISTED} tensors are listed"));
                    }
                    let next = shards.len() as u32;
                    let at = *shards.entry(shard).or_insert(next);
                    let name = quoted(&tensor);
                    let place = listed.len() as u32;
                    if listed.insert(tensor, [at, place]).is_some() {
                        return refuse(format!("tensor {name} is listed twice, expected once"));
                    }
                }
                Ok(Map { shards, listed })
            }
        }
        from.deserialize_map(Visitor)
    }
}

/// The text of a JSON file of at most `most` bytes, which starts like an object.
///
/// # Errors
///
/// [`Error::Format`] if it is longer or no object, [`Error::Io`].
pub(in crate::format) fn read_object(path: &Path, most: u64) -> Result<Vec<u8>> {
    let len = fs::metadata(path).map_err(Error::io(path))?.len();
    if len > most {
        return Err(Error::format(path, format!("{len} bytes, expected at most {most}")));
    }
    let text = fs::read(path).map_err(Error::io(path))?;
    // Lists would be read as the values of an object's keys in turn.
    match text.trim_ascii_start().first() {
        Some(b'{') => Ok(text),
        _ => Err(Error::format(path, "no JSON object")),
    }
}
