mod bloomier_query;
mod huffman_decode;
mod pack_codes;
mod rans_decode;
mod retrieval;
mod ribbon_query;
mod scatter;
