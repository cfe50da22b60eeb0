//! Retrieval structures: asking them for all positions.

use crate::{
    Backend, Error, Result, Tensor,
    codec::retrieval::{bloomier, ribbon},
    crosscheck::{
        case::{Data, Input, Outputs},
        compare::Class,
        inputs::{Maker, Rng},
        op::Op,
        options::Level,
    },
    kernels,
};

/// Ribbons.
pub const RIBBON_QUERY: Op = Op {
    name: "ribbon_query",
    kernels: &[&kernels::codes::ribbon_query::KERNEL],
    class: Class::Exact,
    expands: 3,
    make: positions,
    run: |on, input| query(on, input, ribbon::encode, kernels::ribbon_query),
};

/// Bloomier filters.
pub const BLOOMIER_QUERY: Op = Op {
    name: "bloomier_query",
    kernels: &[&kernels::codes::bloomier_query::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: positions,
    run: |on, input| query(on, input, bloomier::encode, kernels::bloomier_query),
};

/// Positions, mask, values, bits of a value and of a result, bytes.
type Encode = fn(usize, &[u32], &[u8], (u32, u32), &mut Vec<u8>);

/// Even and uneven sets of survivors, from none to all.
fn positions(maker: &mut Maker) {
    let full = maker.level == Level::Full;
    let mut lengths = vec![1, 2, 31, 32, 33, 63, 64, 65, 257, 1000, 2047, 2049, 20_001];
    if full {
        lengths.extend([
            3, 4, 5, 95, 96, 97, 127, 128, 129, 255, 256, 511, 512, 513, 3000, 4095, 4097, 30_000,
            100_000,
        ]);
    }
    let widths: &[(i64, i64)] = if full {
        &[(4, 4), (4, 7), (4, 8), (6, 9), (8, 15), (1, 1), (1, 15), (8, 8)]
    } else {
        &[(4, 8), (8, 15)]
    };
    for (l, length) in lengths.into_iter().enumerate() {
        for kind in 0..6 {
            if !full && (l + kind) % 2 > 0 {
                continue;
            }
            let rng = Rng::new(maker.rng.at(l), "survivors");
            let keep = |i: usize| match kind {
                0 => false,
                1 => true,
                2 => rng.at(i).is_multiple_of(2),
                3 => rng.at(i).is_multiple_of(10),
                4 => (i / 1000).is_multiple_of(3),
                _ => i == length - 1,
            };
            let (r, t) = widths[(l + kind / 2) % widths.len()];
            let mask: Vec<u8> = (0..length).map(|i| u8::from(keep(i))).collect();
            let values: Vec<u8> =
                (0..length).map(|i| rng.below(i ^ 1 << 40, 1 << r) as u8).collect();
            let side = |data: &[u8]| Data::u8((1, length), data).axes("", "positions");
            let input = Input::new().with("mask", side(&mask)).with("values", side(&values));
            maker.emit("shape", input.set("value_bits", r).set("result_bits", t));
        }
    }
}

fn query(
    on: &Backend,
    input: &Input,
    encode: Encode,
    kernel: impl Fn(&Backend, &[u8], usize) -> Result<(Tensor, Tensor)>,
) -> Result<Outputs> {
    let (mask, values) = (input.tensor("mask")?.bytes(), input.tensor("values")?.bytes());
    let (r, t) = (input.number::<u32>("value_bits")?, input.number::<u32>("result_bits")?);
    if mask.len() != values.len() || !(1..=8).contains(&r) || !(r..=15).contains(&t) {
        return Err(Error::shape("retrieval", "bits", format!("{r}, {t}"), "1 to 8, up to 15"));
    }
    let mut words = vec![0u32; mask.len().div_ceil(32)];
    let mut survivors = Vec::new();
    for (i, (kept, value)) in mask.iter().zip(values).enumerate() {
        if *kept != 0 {
            words[i / 32] |= 1 << (i % 32);
            survivors.push((u32::from(*value) & ((1 << r) - 1)) as u8);
        }
    }
    let mut bytes = Vec::new();
    encode(mask.len(), &words, &survivors, (r, t), &mut bytes);
    let (found, values) = kernel(on, &bytes, mask.len())?;
    Ok(vec![("values", Data::read(on, &values)?), ("mask", Data::read(on, &found)?)])
}
