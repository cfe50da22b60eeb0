//! Digests: what says that bytes are the ones that were written.

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

/// Whether a digest is the one that is expected. A fuzzer could never guess one: it is let through to what lies behind.
pub(crate) fn agrees(found: Digest, expected: Digest) -> bool {
    found == expected || cfg!(fuzzing)
}
