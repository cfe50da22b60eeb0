//! The nearest entry of a codebook on one thread: billions of pairs of a vector and an entry a second. Ends with what k-means over
//! normally distributed numbers comes to. `VECTORS_DATA=FILE` writes the vectors of eight numbers as f32, for peers.
//! scripts/peers_vectors.py runs it beside faiss.

use std::{hint::black_box, time::Instant};
use tersor::{
    Backend, Cancel, Tensor,
    cluster::{Search, cluster},
    kernels::{Entries, nearest, points_of},
};

/// Normally distributed numbers of deviation 400.
fn gaussian(n: usize) -> Vec<i16> {
    let mut state = 88_172_645_463_325_252u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut one =
        || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos() * 400.0;
    (0..n).map(|_| one().round().clamp(-2047.0, 2047.0) as i16).collect()
}

fn main() {
    let on = Backend::Cpu;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let numbers = gaussian(1 << 20);
    if let Some(path) = std::env::var_os("VECTORS_DATA") {
        let floats: Vec<u8> = numbers.iter().flat_map(|v| f32::from(*v).to_le_bytes()).collect();
        std::fs::write(path, floats).expect("the file is written");
    }
    pool.install(|| {
        println!("d k Gpairs/s");
        for (d, k) in [(2, 256), (4, 256), (8, 256), (16, 256), (4, 4096), (8, 4096), (8, 65536)] {
            let vectors = (numbers.len() / d).min((1 << 31) / k / d);
            let points = points_of(&on, &numbers[..vectors * d], d).expect("they fit");
            let entries = Entries { dim: d, k, values: gaussian(k * d) };
            let time = |points: &Tensor| {
                let started = Instant::now();
                black_box(nearest(&on, points, &entries).expect("they fit"));
                started.elapsed().as_secs_f64()
            };
            let least = (0..7).map(|_| time(&points)).fold(f64::MAX, f64::min);
            println!("{d} {k} {:.2}", (vectors * k) as f64 / least / 1e9);
        }
    });
    for (d, k) in [(2, 16), (4, 256), (4, 4096)] {
        let vectors = numbers.len() / d;
        let points = points_of(&on, &numbers[..vectors * d], d).expect("they fit");
        let search = Search { dim: d, books: 1, k, rounds: 25, seed: 0 };
        let started = Instant::now();
        let found = cluster(&on, &points, &[], search, &Cancel::new()).expect("they fit");
        let seconds = started.elapsed().as_secs_f64();
        let error = found.error as f64 / (vectors * d) as f64 / 160_000.0;
        println!(
            "k-means d {d} k {k}: {error:.5} a number, {} rounds, {seconds:.2} s",
            found.errors.len()
        );
    }
}
