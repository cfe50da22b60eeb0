//! The cross-check on a device that computes wrongly: what it must notice.

use crate::support::gpu;
use tersor::{
    crosscheck::{Case, Input, Level, Maker, Op, Outcome, Pair, Rng, ops},
    gpu::Fault,
};

/// What is wrong, the op of the cross-check that must notice, and how its kernel is wrong.
fn of_kernels() -> Vec<(&'static str, &'static str, Fault)> {
    let shader = |kernel, from, to| Fault::Shader { kernel, from, to };
    let flip = |kernel, bit| Fault::FlipBit { kernel, bit };
    let tail = |kernel| Fault::LoseTail { kernel, words: 1 };
    let skip_last = |kernel| Fault::SkipLastWorkgroup { kernel };
    let skip = |kernel| Fault::SkipDispatch { kernel };
    let once = |kernel| Fault::OnlyOnce { kernel };
    vec![
        (
            "wrong sign of the zero point",
            "quantize",
            shader("quantize", "clamp(q + i32(scale.y)", "clamp(q - i32(scale.y)"),
        ),
        (
            "wrong clamp",
            "quantize",
            shader(
                "quantize",
                "params.lowest, params.highest)",
                "params.lowest, params.highest - 1)",
            ),
        ),
        (
            "wrong tie",
            "quantize",
            shader(
                "quantize",
                "let q = rounded(w, scale.x, INTEGER);",
                "let q = i32(clamp(floor(bitcast<f32>(w) * bitcast<f32>(scale.x) + 0.5), -1e6, 1e6));",
            ),
        ),
        ("last workgroup skipped", "quantize", skip_last("quantize")),
        ("lost tail", "quantize", tail("quantize")),
        (
            "swapped nibble",
            "dequantize",
            shader(
                "dequantize",
                "let at = (i % params.cols) * BITS;",
                "let at = ((i % params.cols) ^ 1u) * BITS;",
            ),
        ),
        (
            "signed taken as unsigned",
            "dequantize",
            shader(
                "dequantize",
                "extractBits(i32(code), 0u, BITS), SIGNED)",
                "extractBits(i32(code), 0u, BITS), false)",
            ),
        ),
        (
            "wrong shift between words",
            "dequantize",
            shader(
                "dequantize",
                "code |= codes[w + 1u] << (32u - at % 32u);",
                "code |= codes[w + 1u] << (31u - at % 32u);",
            ),
        ),
        (
            "flush to zero",
            "sort_rows",
            shader(
                "sort_rows",
                "key = order_key(decode(DTYPE, weights[w.x], weights[w.y], start + c));",
                "let bits = decode(DTYPE, weights[w.x], weights[w.y], start + c); key = order_key(select(bits, bits & 0x80000000u, (bits & 0x7f800000u) == 0u));",
            ),
        ),
        (
            "off by one",
            "range",
            shader(
                "range",
                "let end = min(min(params.elements,",
                "let end = min(min(params.elements - 1u,",
            ),
        ),
        (
            "dropped -0",
            "range",
            shader(
                "range",
                "let key = order_key(decode(DTYPE, weights[w.x], weights[w.y], i));",
                "let bits = decode(DTYPE, weights[w.x], weights[w.y], i); let key = order_key(select(bits, 0u, bits == 0x80000000u));",
            ),
        ),
        (
            "wrong reduction tail",
            "range",
            shader(
                "range",
                "for (var half = LANES / 2u; half > 0u; half /= 2u)",
                "for (var half = LANES / 2u; half > 1u; half /= 2u)",
            ),
        ),
        (
            "wrong rounding",
            "clip_errors",
            shader("clip_errors", "let half = (1u << params.shift) >> 1u;", "let half = 0u;"),
        ),
        ("one flipped bit", "clip_errors", flip("clip_errors", 5)),
        (
            "wrong tie",
            "palettize",
            shader(
                "palettize",
                "if thresholds[table + below + step - 1u] < key",
                "if thresholds[table + below + step - 1u] <= key",
            ),
        ),
        ("never started", "palettize", skip("palettize")),
        ("wrong tie", "nearest", shader("nearest", "if found < least {", "if found <= least {")),
        ("never started", "nearest", skip("nearest")),
        (
            "wrong clamp",
            "vector_points",
            shader("vector_points", "clamp(q, -LIMIT, LIMIT)", "clamp(q, -LIMIT - 1, LIMIT)"),
        ),
        (
            "wrong tie",
            "pyramid_search",
            shader("pyramid_search", "high > other_high ||", "high >= other_high ||"),
        ),
        (
            "a borrow is lost",
            "dequantize_pyramid",
            shader("dequantize_pyramid", "let y = a.y - b.y - borrow_x;", "let y = a.y - b.y;"),
        ),
        (
            "wrong sub-space",
            "dequantize_vectors",
            shader(
                "dequantize_vectors",
                "(v % params.spaces)",
                "(v / params.spaces % params.spaces)",
            ),
        ),
        (
            "wrong half",
            "matmul_vectors",
            shader(
                "matmul_vectors",
                "extractBits(i32(word), 0u, 16u), i32(word) >> 16u",
                "i32(word & 0xffffu), i32(word) >> 16u",
            ),
        ),
        (
            "wrong clamp",
            "depalettize",
            shader(
                "depalettize",
                "min(extractBits(code, 0u, BITS), params.k - 1u)",
                "min(extractBits(code, 0u, BITS), params.k - 2u)",
            ),
        ),
        ("last workgroup skipped", "depalettize", skip_last("depalettize")),
        (
            "no rounding",
            "transform",
            shader(
                "transform",
                "let n = i32((mantissa + (1u << (shift - 1u))) >> shift);",
                "let n = i32(mantissa >> shift);",
            ),
        ),
        ("a gap left out", "transform", shader("transform", "gap *= 2u", "gap *= 4u")),
        (
            "a pair left out",
            "transform",
            shader("transform", "t < SPAN / 2u", "t < SPAN / 2u - 1u"),
        ),
        (
            "lower halves taken as signed",
            "transform",
            shader(
                "transform",
                "low += (n & 2047) * factor;",
                "low += extractBits(n, 0u, 11u) * factor;",
            ),
        ),
        ("last workgroup skipped", "transform", skip_last("transform")),
        (
            "flips before, not after",
            "untransform",
            shader("untransform", "scaled((mixed(c) ^ flip) - flip,", "scaled(mixed(c),"),
        ),
        (
            "steps of the neighbour",
            "untransform",
            shader(
                "untransform",
                "table[params.block + c % params.block]",
                "table[params.block + (c ^ 1u) % params.block]",
            ),
        ),
        (
            "no largest number",
            "transform",
            shader(
                "transform",
                "if field > 254 { return sign | 0x7f7fffffu; }",
                "if field > 255 { return sign | 0x7f7fffffu; }",
            ),
        ),
        (
            "subnormal results",
            "untransform",
            shader("untransform", "if field < 1 { return 0u; }", "if field < 0 { return 0u; }"),
        ),
        ("one flipped bit", "untransform", flip("untransform", 9)),
        (
            "counted twice",
            "histogram",
            shader("histogram", "atomicAdd(&counts[at], 1u)", "atomicAdd(&counts[at], 2u)"),
        ),
        (
            "lost bit",
            "histogram",
            shader("histogram", "low = key & 0xfffu;", "low = key & 0x7ffu;"),
        ),
        ("last workgroup skipped", "histogram", skip_last("histogram")),
        (
            "wrong bin",
            "histogram_tails",
            shader("histogram_tails", "(key & 0xfffu)], 1u)", "(key & 0xffeu)], 1u)"),
        ),
        (
            "wrong padding",
            "sort_rows",
            shader("sort_rows", "var key = 0xffffffffu;", "var key = 0u;"),
        ),
        ("stale buffer", "sort_rows", once("sort_rows")),
        (
            "lost tail",
            "merge_runs",
            shader(
                "merge_runs",
                "let first = b == end || (a < middle && x <= y);",
                "let first = a < middle && x <= y;",
            ),
        ),
        (
            "off by one at ties",
            "magnitude_mask",
            shader("magnitude_mask", "i < limit.y", "i <= limit.y"),
        ),
        (
            "wrong tie",
            "magnitude_mask",
            shader("magnitude_mask", "m > limit.x ||", "m >= limit.x ||"),
        ),
        (
            "wrong reduction tail",
            "magnitude_sums",
            shader(
                "magnitude_sums",
                "for (var l = 0u; l < WG; l++)",
                "for (var l = 0u; l < WG - 1u; l++)",
            ),
        ),
        (
            "lost bit",
            "magnitude_tail",
            shader(
                "magnitude_tail",
                "atomicAdd(&counts[magnitude & 0xfffu], 1u)",
                "atomicAdd(&counts[magnitude & 0xffeu], 1u)",
            ),
        ),
        (
            "neighbouring prefix",
            "magnitude_tail",
            shader(
                "magnitude_tail",
                "(magnitude >> 12u) == params.prefix",
                "(magnitude >> 13u) == (params.prefix >> 1u)",
            ),
        ),
        ("wrong tie", "nm_mask", shader("nm_mask", "&& o < k", "&& o > k")),
        (
            "off by one at the end of a row",
            "nm_mask",
            shader(
                "nm_mask",
                "let whole = g + M <= params.cols;",
                "let whole = g + M < params.cols;",
            ),
        ),
        ("one flipped bit", "row_threshold", flip("row_threshold", 0)),
        ("-0 taken as negative", "binarize", shader("binarize", "> 0x80000000u", ">= 0x80000000u")),
        (
            "wrong shift between words",
            "pack_codes",
            shader(
                "pack_codes",
                "word |= symbol >> (bit - place);",
                "word |= symbol >> (bit - place + 1u);",
            ),
        ),
        ("lost tail", "pack_codes", tail("pack_codes")),
        (
            "lost tail",
            "huffman_decode",
            shader(
                "huffman_decode",
                "(min(ROWS * lanes, count - row * lanes) + 3u) / 4u",
                "min(ROWS * lanes, count - row * lanes) / 4u",
            ),
        ),
        ("one flipped bit", "huffman_decode", flip("huffman_decode", 9)),
        ("last workgroup skipped", "rans_decode", skip_last("rans_decode")),
        (
            "path led astray",
            "trellis_decode",
            shader("trellis_decode", "(path & 1u) * LOST", "(path & 1u) * LED"),
        ),
        (
            "path of another lane in the tail",
            "trellis_decode",
            shader("trellis_decode", "let path = paths[i % lanes];", "let path = paths[0];"),
        ),
        ("wrong tie", "trellis_search", shader("trellis_search", "1u, b < a)", "1u, b <= a)")),
        (
            "path from any state",
            "trellis_search",
            shader("trellis_search", "select(FAR, 0u, state == 0u)", "0u"),
        ),
        ("last workgroup skipped", "trellis_search", skip_last("trellis_search")),
        ("wrong prefix sum", "scatter", shader("scatter", "if lane >= step {", "if lane > step {")),
        (
            "lost beginning",
            "scatter",
            shader("scatter", "var rank = at.y;", "var rank = at.y + 1u;"),
        ),
        ("last workgroup skipped", "scatter", skip_last("scatter")),
        ("one flipped bit", "ribbon_query", flip("ribbon_query", 3)),
        ("one flipped bit", "numerics", flip("numerics", 3)),
        (
            "off by one",
            "bloomier_query",
            shader(
                "bloomier_query",
                "let end = min(32u * id + 32u, params.positions);",
                "let end = min(32u * id + 31u, params.positions);",
            ),
        ),
        ("last workgroup skipped", "activate", skip_last("activate")),
        (
            "off by one",
            "add",
            shader("add", "y[i % params.repeat]", "y[i % max(params.repeat - 1u, 1u)]"),
        ),
        (
            "rotated row",
            "gather_rows",
            shader("gather_rows", "+ id % params.words]", "+ (id + 1u) % params.words]"),
        ),
        (
            "wrong reduction tail",
            "masked_mean",
            shader(
                "masked_mean",
                "for (var half = 8u; half > 0u;",
                "for (var half = 8u; half > 1u;",
            ),
        ),
        (
            "a hundredth of a percent too much",
            "softmax",
            shader("softmax", "let scale = 1.0 /", "let scale = 1.0001 /"),
        ),
        ("no epsilon", "layer_norm", shader("layer_norm", "variance + params.epsilon", "variance")),
        ("last workgroup skipped", "attention", skip_last("attention")),
        ("off by one", "im2col", shader("im2col", "across += 1u;", "across += 2u;")),
        (
            "off by one",
            "max_pool",
            shader(
                "max_pool",
                "let top = line % params.down * params.stride;",
                "let top = line % params.down * params.stride + 1u;",
            ),
        ),
        (
            "lost tail",
            "requantize",
            shader(
                "requantize",
                "let end = min(first + 4u, params.n);",
                "let end = min(first + 3u, params.n);",
            ),
        ),
        ("lost tail", "matmul_f32", tail("matmul_f32")),
        ("last workgroup skipped", "matmul_affine", skip_last("matmul_affine")),
        ("one flipped bit", "matmul_palette", flip("matmul_palette", 30)),
        ("never started", "matmul_sparse", skip("matmul_sparse")),
        ("one flipped bit", "matmul_binary", flip("matmul_binary", 30)),
        ("one flipped bit, the lowest", "matmul_i8", flip("matmul_i8", 0)),
        ("stale buffer", "matmul_i8.float", once("matmul_i8")),
        ("lost tail", "quantize_rows", tail("quantize_rows")),
    ]
}

/// The first case of an op, of those of the quick level, that fails, and what fails in it.
fn first_failure(pair: &Pair, op: &Op) -> Option<(Case, bool, String)> {
    let mut found = None;
    let mut take = |case: Case| {
        let small = !case.ordinary && case.input.longest() * op.expands <= Pair::TINY_BYTES;
        for tiny in [false, true] {
            if found.is_none()
                && (!tiny || small && pair.has_tiny())
                && let Outcome::Failed(failure) = pair.check(op, &case.input, tiny).outcome
            {
                found = Some((case.clone(), tiny, failure.kind().to_owned()));
            }
        }
    };
    let rng = Rng::new(0, op.name);
    (op.make)(&mut Maker { level: Level::Quick, rng, user: &[], take: &mut take });
    found
}

/// A cross-check that cannot fail proves nothing: every one of these faults is caught by a case that passes without it.
#[test]
fn the_cross_check_catches_every_seeded_fault() {
    if gpu().is_none() {
        return;
    }
    let pair = Pair::open(None).unwrap();
    let table = of_kernels();
    let mut missed = Vec::new();
    for (what, name, fault) in &table {
        let op = ops::ALL.iter().find(|op| op.name == *name).unwrap();
        let runs = op.kernels.iter().any(|k| k.name == fault.kernel());
        assert!(runs, "{name} does not run {}", fault.kernel());
        pair.inject(Some(*fault));
        let failure = first_failure(&pair, op);
        pair.inject(None);
        let Some((case, tiny, kind)) = failure else {
            missed.push(format!("{what}: {fault:?} in {name}"));
            continue;
        };
        let input: &Input = &case.input;
        let clean = pair.check(op, input, tiny).outcome;
        assert!(matches!(clean, Outcome::Pass), "{what} in {name}: without it {clean:?}");
        println!("{name:<16} {what:<36} {kind:<10} {}", case.source);
    }
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
    let kernels: std::collections::BTreeSet<_> = table.iter().map(|t| t.2.kernel()).collect();
    assert!(table.len() >= 80 && kernels.len() >= 48, "{} in {}", table.len(), kernels.len());
}
