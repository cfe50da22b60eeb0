//! The order of floats as the order of unsigned integers: negative patterns complemented, positive ones above them.
//! A NaN lies outside the infinity of its sign, and -0 just below +0.

/// The key of f32 bits.
pub fn of_f32(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

/// The value of a key.
pub fn to_f32(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & 0x7fff_ffff } else { !key })
}
