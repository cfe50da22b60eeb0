//! The safetensors format: headers, and the indices of shards.

pub(in crate::format) mod header;
pub(in crate::format) mod header_text;
pub(in crate::format) mod index;
mod json;
pub(in crate::format) mod metadata;
