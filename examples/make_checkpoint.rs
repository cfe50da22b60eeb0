//! Writes a checkpoint of random Gaussian weights, for benches and tests of scale:
//! `cargo run --release --example make_checkpoint -- OUT.safetensors MEBIBYTES [BF16|F16|F32]`

use std::io::{BufWriter, Write};
use tersor::{
    DType, dtype,
    format::{Entry, write_header},
    words,
};

const ROWS: u64 = 4096;

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, mebibytes, rest @ ..] = &args[..] else {
        panic!("usage: make_checkpoint OUT.safetensors MEBIBYTES [BF16|F16|F32]");
    };
    let dtype = rest.first().map_or(DType::BF16, |name| DType::parse(name).expect("a type"));
    let total = mebibytes.parse::<u64>().expect("a number of MiB") << 20;
    // Layers of 32 MiB or less, as many as are needed.
    let size = dtype.bytes(1) as u64;
    let cols = (total.min(32 << 20) / size / ROWS).max(1);
    let layer = ROWS * cols * size;
    let count = (total / layer).max(1);
    let entries = (0..count).map(|i| Entry {
        name: format!("layers.{i}.weight").into(),
        dtype,
        shape: vec![ROWS, cols].into(),
        bytes: i * layer..(i + 1) * layer,
    });
    let mut text = Vec::new();
    write_header(&mut text, Default::default(), "", entries)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    let mut state = 88_172_645_463_325_252u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    let mut row = vec![0.0; cols as usize];
    let mut encoded = vec![0; words(dtype, cols as usize)];
    for _ in 0..count * ROWS {
        // The sum of four uniform numbers is near enough to Gaussian, with tails cut off at 3.5 deviations.
        row.iter_mut().for_each(|w| {
            *w = 0.02 * 1.732 * (uniform() + uniform() + uniform() + uniform() - 2.0)
        });
        dtype::encode(dtype, &row, &mut encoded, 0);
        out.write_all(&bytemuck::cast_slice::<u32, u8>(&encoded)[..(cols * size) as usize])?;
    }
    out.flush()
}
