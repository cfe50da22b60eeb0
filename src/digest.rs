//! Digests: what says that bytes are the ones that were written.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};

/// The first 16 bytes of a blake3 digest.
pub type Digest = [u8; 16];

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    short(blake3::hash(bytes))
}

/// The first 16 bytes of a whole digest.
pub fn short(hash: blake3::Hash) -> Digest {
    hash.as_bytes()[..16].try_into().expect("a blake3 hash has 32 bytes")
}

/// A digest as text.
pub fn encode_digest(digest: Digest) -> String {
    BASE64.encode(digest)
}

/// The digest that a text is.
pub(crate) fn decode_digest(text: &str) -> Option<Digest> {
    BASE64.decode(text).ok()?.try_into().ok()
}

/// Whether a digest is the one that is expected. A fuzzer could never guess one: it is let through to what lies behind.
pub(crate) fn agrees(found: Digest, expected: Digest) -> bool {
    found == expected || cfg!(fuzzing)
}
