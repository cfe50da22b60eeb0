//! How fast bf16 weights are coded without loss, block by block on one thread, from memory to memory: what
//! `scripts/peers_lossless.py` runs beside ZipNN. Usage: `lossless_speed FILE`, of raw bf16 elements.

use std::time::Instant;
use tersor::{DType, codec::floats};

const BLOCK: usize = 1 << 20;

fn main() {
    let path = std::env::args().nth(1).expect("a file of bf16 elements");
    let data = std::fs::read(path).expect("the file can be read");
    let mut coded = vec![Vec::new(); data.len().div_ceil(BLOCK)];
    let mut back = vec![0; data.len()];
    let (mut encode, mut decode) = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        let start = Instant::now();
        for (block, out) in data.chunks(BLOCK).zip(&mut coded) {
            out.clear();
            floats::encode(DType::BF16, block, out);
        }
        encode = encode.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for (bytes, out) in coded.iter().zip(back.chunks_mut(BLOCK)) {
            floats::decode(DType::BF16, bytes, out).expect("it was just encoded");
        }
        decode = decode.min(start.elapsed().as_secs_f64());
    }
    assert!(back == data, "it does not come back");
    let (bytes, gb) = (coded.iter().map(Vec::len).sum::<usize>(), data.len() as f64 / 1e9);
    println!(
        "tersor: {:.4}, encode {:.2} GB/s, decode {:.2} GB/s",
        bytes as f64 / data.len() as f64,
        gb / encode,
        gb / decode
    );
}
