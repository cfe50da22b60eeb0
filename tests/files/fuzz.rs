//! The targets of `fuzz/`, without a fuzzer: each with its committed corpus, then with mutations of it, as many as there is time
//! for (`TERSOR_FUZZ_SECONDS`, for all together, 20 unless told). The mutations of one run are the first of every longer one.

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use targets::Target;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The inputs of a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let mut folders = vec![root().join("fuzz/corpus").join(name)];
    if name == "archive" {
        folders.push(root().join("tests/golden/1"));
    }
    let files = folders.iter().flat_map(|f| fs::read_dir(f).unwrap().map(|e| e.unwrap().path()));
    let mut files: Vec<PathBuf> = files.filter(|p| p.is_file()).collect();
    files.sort();
    files.iter().map(|p| fs::read(p).unwrap()).collect()
}

/// Runs a target; where it panics, says with what.
fn run(name: &str, target: Target, folder: &Path, input: &[u8], which: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input, folder))) {
        let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
        eprintln!("target {name}, {which}: {hex}");
        std::panic::resume_unwind(panic);
    }
}

/// splitmix64
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ z >> 31) as usize >> 1
}

/// The `i`-th mutation of a corpus: a few bytes set, flipped, cut, repeated or taken from another input.
fn mutation(corpus: &[Vec<u8>], i: u64) -> Vec<u8> {
    let mut state = i;
    let mut next = |below: usize| random(&mut state) % below.max(1);
    let mut bytes = corpus[next(corpus.len())].clone();
    for _ in 0..1 + next(6) {
        let (at, len) = (next(bytes.len() + 1), 1 + next(8));
        let end = (at + len).min(bytes.len());
        match next(8) {
            0 | 1 if at < bytes.len() => bytes[at] = next(256) as u8,
            2 | 3 if at < bytes.len() => bytes[at] ^= 1 << next(8),
            4 => drop(bytes.drain(at..end)),
            5 => drop(bytes.splice(at..at, vec![next(256) as u8; len])),
            6 => {
                let other = &corpus[next(corpus.len())];
                let from = next(other.len());
                let part = &other[from..(from + 4 * len).min(other.len())];
                drop(bytes.splice(at..end, part.iter().copied()));
            }
            _ => bytes[at..end].fill([0, 0xff, b'0', b'9', b'"'][next(5)]),
        }
    }
    bytes
}

#[test]
fn no_input_does_harm() {
    let seconds = std::env::var("TERSOR_FUZZ_SECONDS").map_or(20.0, |s| s.parse().unwrap());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = threads.min(targets::ALL.len());
    let each = Duration::from_secs_f64(seconds * threads as f64 / targets::ALL.len() as f64);
    crate::support::each(&targets::ALL, |_, (name, target)| {
        let dir = crate::support::memory_folder();
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        let started = Instant::now();
        for (i, input) in corpus.iter().enumerate() {
            run(name, *target, dir.path(), input, &format!("input {i}"));
        }
        let mut count = 0;
        while started.elapsed() < each {
            let (input, which) = (mutation(&corpus, count), format!("mutation {count}"));
            let began = Instant::now();
            run(name, *target, dir.path(), &input, &which);
            let took = began.elapsed();
            assert!(took < Duration::from_secs(10), "{name}, {which} takes {took:?}");
            count += 1;
        }
        println!("{name}: {} inputs, {count} mutations", corpus.len());
    });
}

/// Writes the corpus anew: the formats' own examples, and for codecs inputs of every kind.
#[test]
#[ignore = "writes fuzz/corpus"]
fn write_corpus() {
    let folder = root().join("fuzz/corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(folder.join(target)).unwrap();
        fs::write(folder.join(target).join(name), bytes).unwrap();
    };
    let tensor = |name: &str, dtype: &str, shape: &str, start: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let (a, b) = (tensor("a", "F32", "[4,8]", 0, 128), tensor("b", "F4", "[3,2]", 128, 131));
    let (c, d) = (tensor("é\\u0301", "BF16", "[0,9]", 131, 131), tensor("", "I64", "[]", 131, 139));
    let metadata = r#""__metadata__":{"format":"pt","k":"\ud83d\ude00\\\n"}"#;
    for (name, text, data) in [
        ("empty", "{}".into(), 0),
        ("one", format!("{{{a}}}"), 128),
        ("four", format!("{{{metadata},{a},{b},{c},{d}}}  "), 139),
        ("metadata", format!("{{{metadata}}}"), 0),
        ("order", format!("{{{d},{a},{c},{b}}}"), 139),
        ("spaces", format!("{{ {metadata} ,\n\t{a} }}").replace(':', " : "), 128),
        ("overlap", format!("{{{a},{}}}", tensor("x", "U8", "[9]", 120, 129)), 129),
        ("twice", format!("{{{a},{a}}}"), 128),
    ] {
        let text: String = text;
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        write("header", name, &bytes);
        bytes.resize(bytes.len() + data, 0x3f);
        write("checkpoint", name, &bytes);
    }
    let noise: Vec<u8> = bytemuck::cast_slice(&crate::support::noise(1, 2048)).to_vec();
    let text = format!("{{{}}}", tensor("w", "BF16", "[64,64]", 0, 8192));
    write(
        "checkpoint",
        "weights",
        &[&(text.len() as u64).to_le_bytes(), text.as_bytes(), &noise].concat(),
    );
    for (name, text) in [
        (
            "good",
            r#"{"metadata":{"total_size":3},"weight_map":{"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"}}"#,
        ),
        ("one", r#"{"weight_map":{"b":"one.safetensors","a":"one.safetensors"}}"#),
        ("outside", r#"{"weight_map":{"a":"../one.safetensors"}}"#),
        ("twice", r#"{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}"#),
    ] {
        write("index", name, text.as_bytes());
    }
    for entry in fs::read_dir(root().join("recipes")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        write("recipe", name, &fs::read(&path).unwrap());
    }
    let every = "version = 1\n[[rule]]\nregex = \".*[ab]\\\\d+\"\nmin_dims = 2\ndtype = \"F32\"\naxis = 1\nprune = { kind = \"block\", density = 0.5, norm = \"l1\", block = [2, 4] }\nquantize = { kind = \"palette\", k = 7, granularity = \"group\", group = [4, 2] }\nimportance = \"x\"\nmax_rel_error = 0.5\nnonfinite = \"error\"\n[[rule]]\nmatch = \"{*a*,[!b]?}\"\nprune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"entropy\", bits = 2.5 }\nencode = { kind = \"ribbon\", max_error = 0.2 }\n[[rule]]\nmatch = \"c\"\ntransform = { kind = \"hadamard\", block = 64, seed = 1 }\nquantize = { kind = \"binary\" }\n[[rule]]\nmatch = \"d\"\ntransform = { kind = \"dct\", quantization = [1, 2, 3, 4, 5, 6, 7, 255] }\nquantize = { kind = \"affine\", bits = 4 }\n[[rule]]\nmatch = \"e\"\nquantize = { kind = \"product\", d = 2, k = 300, spaces = 4, stages = 2, scales = \"bf16\", seed = 5, granularity = \"group\", group = 64 }\nencode = \"auto\"\n[[rule]]\nmatch = \"f\"\nquantize = { kind = \"residual\", d = 4, k = 16, stages = 2 }\n[[rule]]\nmatch = \"g\"\nquantize = { kind = \"pyramid\", n = 32, bits = 3.5, gain_bits = 6 }\n[[rule]]\nmatch = \"h\"\nquantize = { kind = \"trellis\", bits = 2.5, states = 16 }\nencode = \"rans\"\n[[rule]]\nmatch = \"*\"\nkeep = true\n";
    write("recipe", "every-key", every.as_bytes());
    // Archives of version 1, and their manifests.
    for (i, entry) in fs::read_dir(root().join("tests/golden/1")).unwrap().enumerate() {
        let path = entry.unwrap().path();
        if path.is_file() && path.extension().is_none() {
            let file = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            let parts = crate::support::forge::Parts::of(&file);
            let header = parts.header(&parts.chunks(), &"A".repeat(22));
            let json: serde_json::Value = serde_json::from_str(&header).unwrap();
            write("manifest", name, json["__metadata__"]["tersor"].as_str().unwrap().as_bytes());
            write("archive_edits", name, &[i as u8, i as u8, 3, 0, 1, 4, 6, 200, 1, 5, 0]);
        }
    }
    write("archive", "header-only", &[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}']);
    // Heads of symbols that are encoded without an edit, with one, and with three; and bytes that are streams themselves.
    for (target, heads) in [
        ("bitpack", vec![vec![0x40, 1, 3], vec![0xff, 2, 7]]),
        ("huffman", vec![vec![0x40, 0, 15], vec![0, 0x20, 127], vec![0, 0x90, 3], vec![9, 0, 0]]),
        ("rans", vec![vec![0x40, 0, 15], vec![0, 0x20, 255], vec![0, 0x90, 3], vec![9, 0, 0]]),
        (
            "trellis",
            vec![
                vec![1, 0x40, 0, 15],
                vec![4, 0, 0x20, 255],
                vec![0, 0, 0x90, 3],
                vec![3, 9, 0, 0],
            ],
        ),
        ("stream", vec![vec![0x40, 0, 3, 0], vec![0, 0x20, 7, 1], vec![0, 0x90, 1, 2]]),
        ("floats", (0..6).map(|d| vec![d, 0x80, 1, 0xfc, 1]).collect()),
        ("ribbon", vec![vec![0, 4, 3, 4, 40], vec![0x70, 0x17, 0, 0, 200], vec![30, 0, 7, 7, 128]]),
        (
            "bloomier",
            vec![vec![0, 4, 3, 4, 40], vec![0x70, 0x17, 0, 0, 200], vec![30, 0, 7, 7, 128]],
        ),
    ] {
        for (i, head) in heads.iter().enumerate() {
            for (j, kind) in
                [&[1][..], &[3, 7, 0, 1, 3], &[7, 1, 0, 0, 9, 30, 0, 2, 0, 5, 0, 3, 77], &[0]]
                    .iter()
                    .enumerate()
            {
                let end = if target == "bitpack" { &[][..] } else { kind };
                write(target, &format!("{i}-{j}"), &[head, end, &noise[i..i + 150]].concat());
            }
        }
    }
    for (i, head) in [[0, 3, 0, 40, 0], [3, 20, 0, 33, 0], [6, 39, 0, 200, 0]].iter().enumerate() {
        write("gaps", &i.to_string(), &[head, &noise[..100]].concat());
        write("sparse", &i.to_string(), &[head, &noise[..200]].concat());
    }
    for element in 0..20u8 {
        for (pruned, coding) in [(0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)] {
            let head = [element, pruned, coding];
            let mut bytes = head.to_vec();
            if element < 8 && pruned == 1 && coding > 2 {
                bytes.push(4);
            }
            bytes.extend([12, 0, 50, 0]);
            // How sparse it is, then the kind.
            bytes.extend([180, if coding == 1 { 3 } else { 1 }]);
            bytes.extend(&noise[..120]);
            write("block", &format!("{element}-{pruned}-{coding}"), &bytes);
        }
    }
    for (i, (n, k)) in [(32, 65), (4, 127), (64, 20), (1, 1), (64, 127)].iter().enumerate() {
        write("pyramid", &i.to_string(), &[&[*n, *k][..], &noise[i..i + 15]].concat());
    }
    let idx = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6];
    for (name, level) in [("stored", 0), ("small", 9)] {
        use std::io::Write;
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        gz.write_all(&idx).unwrap();
        write("images", name, &gz.finish().unwrap());
    }
    // Pictures of every kind and depth, of 5 x 3 pixels, with rows one by one and woven.
    for (kind, depth) in [
        (0, 1),
        (0, 2),
        (0, 4),
        (0, 8),
        (0, 16),
        (2, 8),
        (2, 16),
        (3, 1),
        (3, 4),
        (3, 8),
        (4, 8),
        (4, 16),
        (6, 8),
        (6, 16),
    ] {
        for woven in [false, true] {
            write("pictures", &format!("png-{kind}-{depth}-{woven}"), &png_of(kind, depth, woven));
        }
    }
    // By Pillow: 24 x 20 pixels, quality 75, progressive with halved colours; and the others of the tests.
    for name in ["progressive.jpg", "cmyk.jpg"] {
        write("pictures", name, &fs::read(root().join("tests/fixtures").join(name)).unwrap());
    }
    let slopes =
        image::RgbImage::from_fn(17, 9, |x, y| image::Rgb([x as u8 * 15, y as u8 * 28, 99]));
    for (name, grey) in [("baseline.jpg", false), ("grey.jpg", true)] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let picture = image::DynamicImage::from(slopes.clone());
        let picture = if grey { picture.grayscale() } else { picture };
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        write("pictures", name, &bytes.into_inner());
    }
}

/// A PNG file of 5 x 3 pixels: a colour type, bits a channel, and whether it is interlaced.
fn png_of(kind: u8, depth: u8, woven: bool) -> Vec<u8> {
    use std::io::Write;
    let chunk = |kind: &[u8], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(&[kind, data].concat());
        [&(data.len() as u32).to_be_bytes(), kind, data, &crc.sum().to_be_bytes()].concat()
    };
    let (width, height) = (5, 3);
    let channels = [1, 0, 3, 1, 2, 0, 4][usize::from(kind)];
    let head =
        [&[0, 0, 0, width, 0, 0, 0, height][..], &[depth, kind, 0, 0, woven.into()]].concat();
    // Of Adam7: where a pass begins and how far apart its pixels are, across and down.
    let passes: &[[u8; 4]] = match woven {
        true => &[
            [0, 8, 0, 8],
            [4, 8, 0, 8],
            [0, 4, 4, 8],
            [2, 4, 0, 4],
            [0, 2, 2, 4],
            [1, 2, 0, 2],
            [0, 1, 1, 2],
        ],
        false => &[[0, 1, 0, 1]],
    };
    let count =
        |[from, step]: [u8; 2], side: u8| usize::from(side.saturating_sub(from).div_ceil(step));
    let mut rows = Vec::new();
    for [x, across, y, down] in passes {
        let (columns, lines) = (count([*x, *across], width), count([*y, *down], height));
        for line in 0..if columns == 0 { 0 } else { lines } {
            rows.push((line % 5) as u8);
            let bytes = (columns * channels * usize::from(depth)).div_ceil(8);
            rows.extend((0..bytes).map(|i| (i * 37 + line * 11) as u8 & 0x33));
        }
    }
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&rows).unwrap();
    let mut file = [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &head)[..]].concat();
    if kind == 3 {
        file.extend(chunk(b"PLTE", &[9; 3 << 8][..3 << depth]));
        file.extend(chunk(b"tRNS", &[0, 128]));
    }
    file.extend(chunk(b"tEXt", b"Title\0a picture"));
    file.extend(chunk(b"IDAT", &packed.finish().unwrap()));
    file.extend(chunk(b"IEND", b""));
    file
}
