//! Placeholder until the branch lands.
use super::Malformed;
use crate::DType;
/// x
pub fn encode(_: DType, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(bytes);
}
/// x
///
/// # Errors
pub fn decode(_: DType, bytes: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    if bytes.len() != out.len() {
        return Err(Malformed("length"));
    }
    out.copy_from_slice(bytes);
    Ok(())
}
