//! Paths of least cost: worked example, agreement with many ties at every kind of length, refusals.

use crate::support::{CPU, backends, cross_check};
use tersor::{
    Backend, DType, Result, Tensor,
    codec::trellis::Trellis,
    kernels::trellis_search,
    trellis::{Grid, Positions},
    words,
};

fn grid(states: u8, costs: Vec<[u16; 4]>) -> Grid {
    let positions = Positions { per_weight: 1.0, middle: 0, core: 100, far: 0 };
    let codes = (0..costs.len()).map(|p| std::array::from_fn(|s| (4 * p + s) as u8)).collect();
    Grid { trellis: Trellis::new(states).unwrap(), positions, costs, codes }
}

fn search(on: &Backend, positions: &[u16], streams: &[usize], grid: &Grid) -> Result<Vec<u32>> {
    let mut data = vec![0; words(DType::U16, positions.len())];
    bytemuck::cast_slice_mut(&mut data)[..positions.len()].copy_from_slice(positions);
    let positions = Tensor::new(on, DType::U16, 1, positions.len(), data)?;
    trellis_search(on, &positions, streams, grid)?.read(on)
}

#[test]
fn worked_example() {
    // Of the first weight 2 is cheapest, but then 1 or 3 must follow, which is dear where the second weight is.
    let grid = grid(4, vec![[3, 9, 2, 9], [0, 7, 5, 7], [1, 1, 1, 1]]);
    for on in backends() {
        // 0 stays at state 0: 3 + 0. Alone, the first is worth 2.
        let name = on.name();
        assert_eq!(search(on, &[0, 1], &[2], &grid).unwrap(), [0x0400], "{name}");
        assert_eq!(search(on, &[0], &[1], &grid).unwrap(), [0x02], "{name}");
        // Ties go to the first subset and the lowest state.
        assert_eq!(search(on, &[2, 2, 2, 2], &[4], &grid).unwrap(), [0x0808_0808], "{name}");
        // Two streams, each from state 0.
        assert_eq!(search(on, &[0, 0, 1], &[1, 2], &grid).unwrap(), [0x04_00_02], "{name}");
    }
}

#[test]
fn gpu_agrees_with_reference() {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u32
    };
    for (turn, states) in [4, 8, 16, 32, 64].into_iter().enumerate() {
        for (i, len) in
            [1, 2, 7, 31, 33, 100, 2047, 2048, 5000, 16_385, 65_537].into_iter().enumerate()
        {
            if len > 10_000 && (turn + i) % 2 > 0 {
                continue;
            }
            // Of few bits, so that many paths cost the same; and of as many as there may be.
            let bits = [1, 4, 12][(turn + i) % 3];
            let costs = (0..61).map(|_| std::array::from_fn(|_| (random() % (1 << bits)) as u16));
            let grid = grid(states, costs.collect());
            let positions: Vec<u16> = (0..len).map(|_| (random() % 61) as u16).collect();
            let streams = [len / 3, 0, len - len / 3];
            cross_check((states, len), |on| search(on, &positions, &streams, &grid));
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fine = grid(8, vec![[0; 4]; 3]);
    for on in backends() {
        let refused = |positions: &[u16], streams: &[usize], grid: &Grid| {
            search(on, positions, streams, grid).unwrap_err().to_string()
        };
        let why = refused(&[0, 1], &[1], &fine);
        assert!(why.contains("expected those of all streams"), "{why}");
        let dear = grid(8, vec![[0, 4096, 0, 0]]);
        let why = refused(&[0], &[1], &dear);
        assert!(why.contains("costs to 4095"), "{why}");
        assert!(refused(&[], &[], &grid(8, vec![])).contains("choices"));
        let bytes = Tensor::new(on, DType::U8, 1, 4, vec![0]).unwrap();
        let why = trellis_search(on, &bytes, &[4], &fine).unwrap_err().to_string();
        assert!(why.contains("expected U16"), "{why}");
    }
    // A device takes the last choice for what is beyond.
    let why = search(&CPU, &[3], &[1], &fine).unwrap_err().to_string();
    assert!(why.contains("a position"), "{why}");
}
