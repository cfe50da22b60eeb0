// Pure helpers only.

// The first code of `bits` bits that reaches into word w of a packed row.
fn first_code(w: u32, bits: u32) -> u32 {
    return w * 32u / bits;
}

// Where code j of a packed row lands in word w: its bits, shifted into place; the rest of it belongs to a neighbour word.
fn placed(code: u32, j: u32, w: u32, bits: u32) -> u32 {
    let at = j * bits;
    let start = w * 32u;
    let masked = code & ((1u << bits) - 1u);
    if at >= start { return masked << (at - start); }
    return masked >> (start - at);
}
