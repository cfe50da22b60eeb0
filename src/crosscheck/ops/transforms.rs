//! Blocks of a row into coefficients and back: a row of a case is a block, so that cases shrink by blocks.

use crate::{
    DType, Result,
    crosscheck::{
        case::{Data, Input},
        compare::Class,
        inputs::{Admits, WEIGHTS},
        op::Op,
        ops::affine::{read_dtype, with_dtype},
        options::Level,
    },
    dtype,
    form::{BlockTransform, TransformKind},
    kernels, words,
};

/// Weights into coefficients, of all magnitudes.
pub const TRANSFORM: Op = Op {
    name: "transform",
    kernels: &[&kernels::transforms::transform::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let of = Case::of(maker.level, turn);
            let whole = cut(&w.data, of.block);
            maker.emit(w.source, of.set(Input::new().with("weights", whole)));
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?.upload(on)?;
        let coefficients = kernels::transform(on, &weights, &Case::read(input)?.transform())?;
        Ok(vec![("coefficients", Data::read(on, &coefficients)?)])
    },
};

/// Coefficients into weights of every type.
pub const UNTRANSFORM: Op = Op {
    name: "untransform",
    kernels: &[&kernels::transforms::untransform::KERNEL],
    class: Class::Exact,
    expands: 2,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let of = Case::of(maker.level, turn);
            let mut values = vec![0.0; w.data.elements()];
            dtype::decode(w.data.dtype, &w.data.words, 0, &mut values);
            let coefficients = cut(&Data::f32((w.data.rows, w.data.cols), &values), of.block);
            let input = of.set(Input::new().with("coefficients", coefficients));
            // Not in step with the types of the weights, nor with the transforms.
            maker.emit(w.source, with_dtype(input, WEIGHTS[turn * 5 / 4 % WEIGHTS.len()]));
        }
    },
    run: |on, input| {
        let coefficients = input.tensor("coefficients")?.upload(on)?;
        let (of, dtype): (_, DType) = (Case::read(input)?.transform(), read_dtype(input)?);
        let weights = kernels::untransform(on, &coefficients, &of, dtype)?;
        Ok(vec![("weights", Data::read(on, &weights)?)])
    },
};

/// A transform in numbers.
#[derive(Clone, Copy)]
struct Case {
    hadamard: bool,
    block: u32,
    seed: u32,
    steps: bool,
}

impl Case {
    /// All kinds and blocks in turn; in quick few.
    fn of(level: Level, turn: usize) -> Self {
        let all = match level {
            Level::Full => 12,
            Level::Quick => 4,
        };
        let (hadamard, block, steps) = match turn % all {
            0 => (true, 64, false),
            1 => (false, 8, true),
            2 => (true, 256, false),
            3 => (false, 32, false),
            n @ 4..=6 => (true, 8 << (n - 4), false),
            7 => (true, 128, false),
            n @ 8..=9 => (false, 8 << (n - 8), false),
            n => (false, 16 << (n - 10), true),
        };
        Self { hadamard, block, seed: turn as u32, steps }
    }

    fn set(self, input: Input) -> Input {
        let input = input.set("hadamard", self.hadamard).set("block", self.block);
        input.set("seed", self.seed).set("steps", self.steps)
    }

    fn read(input: &Input) -> Result<Self> {
        Ok(Self {
            hadamard: input.number::<u8>("hadamard")? != 0,
            block: input.number("block")?,
            seed: input.number("seed")?,
            steps: input.number::<u8>("steps")? != 0,
        })
    }

    fn transform(self) -> BlockTransform {
        let Self { hadamard, block, seed, steps } = self;
        let kind = if hadamard { TransformKind::Hadamard { seed } } else { TransformKind::Dct };
        let step = |k| (1 + (seed + 37 * k) % 255) as u8;
        let steps = if steps { (0..block).map(step).collect() } else { Vec::new() };
        BlockTransform { kind, block, steps }
    }
}

/// As many whole blocks as a matrix has elements for, a row each.
fn cut(data: &Data, block: u32) -> Data {
    let rows = data.elements() / block as usize;
    let words = data.words[..words(data.dtype, rows * block as usize)].to_vec();
    Data::new(data.dtype, (rows, block as usize), words).axes("blocks", "")
}
