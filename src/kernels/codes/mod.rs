//! From stored bytes to codes on the device: packing, entropy decoders, retrieval structures, and where survivors go.

pub(crate) mod bloomier_query;
pub(crate) mod huffman_decode;
pub(crate) mod pack_codes;
pub(crate) mod rans_decode;
pub(crate) mod ribbon_query;
pub(crate) mod scatter;
pub(crate) mod streams;
pub(crate) mod trellis_decode;
pub(crate) mod trellis_search;

kernels! {
    bloomier_query: bloomier_query;
    huffman_decode: huffman_decode;
    pack_codes: pack_codes;
    rans_decode: rans_decode;
    ribbon_query: ribbon_query;
    scatter: Order, Survivors, count_survivors, scatter;
    trellis_decode: trellis_decode;
    trellis_search: trellis_search;
}
