//! Pictures with a palette: bytes, figures, what is said of bad ones, and what becomes of outputs.

use crate::support::{gpu, measured, signal, tersor, tree};
use image::{ImageEncoder, Rgb, RgbImage, RgbaImage};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Exit code, stdout, stderr.
fn run(dir: &TempDir, line: &str) -> (i32, String, String) {
    let done = tersor().args(line.split(' ')).current_dir(dir.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

/// What a job says of itself as JSON; it is done on the CPU.
#[track_caller]
fn made(dir: &TempDir, line: &str) -> Value {
    let (code, out, err) = run(dir, &format!("{line} --device cpu --json"));
    assert_eq!((code, &*err), (0, ""), "{line}");
    serde_json::from_str(&out).unwrap()
}

/// What a job that fails says.
#[track_caller]
fn refused(dir: &TempDir, line: &str) -> String {
    let (code, out, err) = run(dir, &format!("{line} --device cpu"));
    assert_eq!((code, &*out), (2, ""), "{line}: {err}");
    err
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn save(dir: &TempDir, name: &str, width: u32, pixels: &[[u8; 4]]) {
    let raw = pixels.concat();
    let picture = RgbaImage::from_raw(width, pixels.len() as u32 / width, raw).unwrap();
    picture.save(dir.path().join(name)).unwrap();
}

/// Red, green, blue, alpha of a PNG file, by another reader than the one that wrote it.
fn load(dir: &TempDir, name: &str) -> RgbaImage {
    image::open(dir.path().join(name)).unwrap().into_rgba8()
}

/// Colour type, bits a pixel, palette and its alpha, as a PNG file has them.
fn head(dir: &TempDir, name: &str) -> (png::ColorType, png::BitDepth, Vec<u8>, Vec<u8>) {
    let file = std::io::BufReader::new(fs::File::open(dir.path().join(name)).unwrap());
    let reader = png::Decoder::new(file).read_info().unwrap();
    let info = reader.info();
    let of = |bytes: &Option<std::borrow::Cow<[u8]>>| bytes.as_ref().map_or(vec![], |b| b.to_vec());
    (info.color_type, info.bit_depth, of(&info.palette), of(&info.trns))
}

/// A picture of slopes and noise, with transparency of every kind if asked for.
fn slopes(width: u32, height: u32, alpha: bool) -> Vec<[u8; 4]> {
    let pixel = |i: u32| {
        let (x, y) = (i % width, i / width);
        let noise = i.wrapping_mul(2_654_435_761).rotate_left(9);
        let [a, b, c, d] = noise.to_le_bytes().map(|b| u32::from(b) % 13);
        let at = |v: u32| v.min(255) as u8;
        let opacity = match (alpha, x * 8 / width) {
            (false, _) | (_, 0..5) => 255,
            (_, 5) => 0,
            (_, _) => at(y * 255 / height + d),
        };
        [at(x * 240 / width + a), at(y * 200 / height + b), at((x + y) % 97 * 2 + c), opacity]
    };
    (0..width * height).map(pixel).collect()
}

#[test]
fn small_pictures_keep_their_colours() {
    let dir = folder();
    let [red, green, blue, white] =
        [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255], [255, 255, 255, 255]];
    let depths =
        [png::BitDepth::One, png::BitDepth::Two, png::BitDepth::Four, png::BitDepth::Eight];
    for (colors, depth) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (16, 2), (17, 3), (256, 3)] {
        // Three rows of a width that fills no byte.
        let all: Vec<[u8; 4]> =
            (0..colors).map(|i| [i as u8, (7 * i % 256) as u8, 255 - i as u8, 255]).collect();
        let pixels: Vec<_> = (0..3 * 257).map(|i| all[i * 7 % colors]).collect();
        save(&dir, "in.png", 257, &pixels);
        let report = made(&dir, "palettize in.png -o out.png --force");
        let result = &report["results"][0];
        assert_eq!((&result["colors"], &result["average_error"]), (&colors.into(), &0.0.into()));
        assert_eq!(result["psnr_db"], Value::Null);
        let (kind, bits, palette, transparent) = head(&dir, "out.png");
        assert_eq!((kind, bits), (png::ColorType::Indexed, depths[depth]), "{colors}");
        assert_eq!((palette.len(), transparent.len()), (3 * colors, 0));
        assert_eq!(load(&dir, "out.png").into_raw(), pixels.concat());
    }
    // From dark to bright.
    save(&dir, "four.png", 2, &[white, red, green, blue]);
    made(&dir, "palettize four.png -o out.png --force --space oklab");
    assert_eq!(
        head(&dir, "out.png").2,
        [blue, red, green, white].map(|c| [c[0], c[1], c[2]]).concat()
    );
    // The mean of two that are close; the third is alone.
    save(&dir, "three.png", 3, &[[10, 10, 10, 255], [13, 10, 14, 255], [200, 100, 50, 255]]);
    made(&dir, "palettize three.png -o out.png --force --colors 2");
    assert_eq!(head(&dir, "out.png").2, [12, 10, 12, 200, 100, 50]);
}

#[test]
fn errors_of_four_pixels_are_those_by_hand() {
    let dir = folder();
    // Means: (10, 20, 31) of the first two, rounded from 30.5; (250, 240, 230) of the others.
    let pixels = [[10, 20, 30, 255], [10, 20, 31, 255], [240, 240, 230, 255], [255, 240, 230, 255]];
    save(&dir, "in.png", 2, &[pixels[0], pixels[2], pixels[1], pixels[3]]);
    let report = made(&dir, "palettize in.png -o out.png --colors 2 --error-image e.png");
    assert_eq!(head(&dir, "out.png").2, [10, 20, 31, 248, 240, 230]);
    // |30 - 31|, |240 - 248|, 0, |255 - 248|
    assert_eq!(
        load(&dir, "e.png").into_raw(),
        [[1, 0, 0, 255], [8, 0, 0, 255], [0, 0, 0, 255], [7, 0, 0, 255]].concat()
    );
    let result = &report["results"][0];
    assert_eq!(result["average_error"], 4.0); // (1 + 8 + 0 + 7) / 4
    assert_eq!(result["mean_squared_error"], 9.5); // (1 + 64 + 0 + 49) / 12
    let psnr = result["psnr_db"].as_f64().unwrap();
    assert!((psnr - 10.0 * (65025.0f64 / 9.5).log10()).abs() < 1e-9);
    // Errors beyond 255 are full red.
    save(&dir, "far.png", 2, &[[0, 0, 0, 255], [255, 255, 255, 255]]);
    let report = made(&dir, "palettize far.png -o far2.png --colors 1 --error-image far3.png");
    assert_eq!(load(&dir, "far3.png").into_raw(), [[255, 0, 0, 255]; 2].concat());
    assert_eq!(report["results"][0]["average_error"], 3.0 * 127.5);
}

#[test]
fn transparent_pixels_have_one_entry_and_others_their_alpha() {
    let dir = folder();
    // Colours of what is not seen are nothing.
    save(
        &dir,
        "in.png",
        3,
        &[
            [1, 2, 3, 0],
            [200, 0, 0, 255],
            [9, 9, 9, 0],
            [0, 200, 0, 128],
            [0, 0, 200, 255],
            [77, 0, 0, 0],
        ],
    );
    let report = made(&dir, "palettize in.png -o out.png --colors 4");
    assert_eq!(
        (&report["distinct_colors"], &report["results"][0]["colors"]),
        (&4.into(), &4.into())
    );
    let (_, _, palette, transparent) = head(&dir, "out.png");
    assert_eq!(transparent, [0, 128], "those without transparency come last and are left out");
    assert_eq!(palette, [0, 0, 0, 0, 200, 0, 0, 0, 200, 200, 0, 0]);
    let report = made(&dir, "palettize in.png -o out.png --colors 2 --force");
    assert_eq!(report["results"][0]["colors"], 2);
    assert_eq!(head(&dir, "out.png").3[0], 0, "what is not seen has an entry of its own");

    let pixels = slopes(120, 90, true);
    save(&dir, "slopes.png", 120, &pixels);
    for line in ["--colors 64", "--colors 64 --space oklab", "--colors 16 --dither"] {
        let report = made(&dir, &format!("palettize slopes.png -o out.png --force {line}"));
        assert!(report["results"][0]["mean_squared_error"].as_f64().unwrap() < 500.0, "{report}");
        let found = load(&dir, "out.png");
        for (before, after) in pixels.iter().zip(found.pixels()) {
            assert!(before[3] > 0 || after[3] == 0, "{line}: {before:?} {after:?}");
            // Alpha is dithered as well.
            let dithered = line.contains("dither");
            assert!(dithered || before[3].abs_diff(after[3]) < 100, "{line}: {before:?} {after:?}");
        }
    }
    // Alpha that is all or nothing stays so.
    let cut: Vec<_> =
        pixels.iter().map(|p| [p[0], p[1], p[2], if p[3] < 128 { 0 } else { 255 }]).collect();
    save(&dir, "cut.png", 120, &cut);
    made(&dir, "palettize cut.png -o out.png --force --colors 8");
    assert_eq!(head(&dir, "out.png").3, [0]);
}

#[test]
fn bytes_depend_on_neither_device_nor_threads() {
    let dir = folder();
    for (name, width, height, alpha) in [("a.png", 640, 420, false), ("b.png", 520, 510, true)] {
        save(&dir, name, width, &slopes(width, height, alpha));
        for line in [
            "-o out.png --colors 256 --error-image e.png",
            "-o out.png --colors 100 --space oklab --starts 3 --seed 9 --dither",
            "--colors 2,..,32 --sheet out.png",
        ] {
            let with = |more: &str| {
                let line = format!("palettize {name} {line} {more} --force");
                let (code, _, err) = run(&dir, &line);
                assert_eq!(code, 0, "{line}: {err}");
                ["out.png", "e.png"].map(|name| {
                    let path = dir.path().join(name);
                    let bytes = fs::read(&path).ok();
                    _ = fs::remove_file(path);
                    bytes
                })
            };
            let expected = with("--device cpu --threads 1");
            assert!(expected[0].is_some());
            for threads in [2, 5] {
                let found = with(&format!("--device cpu --threads {threads}"));
                assert!(found == expected, "{name} {line}: {threads} threads");
            }
            if gpu().is_some() {
                assert!(with("--device gpu") == expected, "{name} {line}: GPU");
            }
        }
    }
}

#[test]
fn fewer_colours_are_said() {
    let dir = folder();
    save(&dir, "in.png", 3, &[[1, 1, 1, 255], [2, 2, 2, 255], [3, 3, 3, 255]]);
    let (_, out, _) = run(&dir, "palettize in.png -o out.png --colors 16 --device cpu");
    assert!(out.contains("colors         3 (the picture has no more)"), "{out}");
    assert!(out.contains("PSNR           exact"), "{out}");
    let (_, out, err) = run(&dir, "palettize in.png --sheet s.png --colors 1,2,4 --device cpu");
    assert!(out.contains("\n3               0.000  exact\n"), "{out}{err}");
    assert!(out.ends_with("written to s.png\n"), "{out}");
}

#[test]
fn grey_deep_cmyk_and_turned_pictures_are_read() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let grey = image::GrayImage::from_fn(16, 16, |x, y| image::Luma([(x + 16 * y) as u8]));
    grey.save(path("grey.png")).unwrap();
    grey.save(path("grey.jpg")).unwrap();
    for name in ["grey.png", "grey.jpg"] {
        made(&dir, &format!("palettize {name} -o out.png --force"));
        assert!(load(&dir, "out.png").pixels().all(|p| p[0] == p[1] && p[1] == p[2]), "{name}");
    }
    assert_eq!(made(&dir, "palettize grey.png -o out.png --force")["distinct_colors"], 256);
    let deep = image::ImageBuffer::from_fn(4, 1, |x, _| Rgb([(x * 257 + x) as u16, 65535, 128]));
    deep.save(path("deep.png")).unwrap();
    let (code, _, err) = run(&dir, "palettize deep.png -o out.png --force --device cpu");
    assert_eq!((code, &*err), (0, "warning: deep.png: 16 bits a channel, of which 8 are kept\n"));
    // 128 / 257 is 0.498.
    assert_eq!(load(&dir, "out.png").get_pixel(3, 0).0, [3, 255, 0, 255]);

    // By Pillow: 8 x 8 pixels of CMYK, (0, 255, 255, 0) on the left and (255, 0, 0, 64) on the right, quality 90.
    let cmyk = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cmyk.jpg");
    fs::copy(cmyk, path("cmyk.jpg")).unwrap();
    made(&dir, "palettize cmyk.jpg -o out.png --force");
    let found = load(&dir, "out.png");
    let near = |x: u32, expected: [u8; 3]| {
        let pixel = found.get_pixel(x, 4).0;
        expected.iter().zip(pixel).all(|(a, b)| a.abs_diff(b) < 12)
    };
    // No cyan, all magenta and yellow; all cyan and a quarter of black.
    assert!(near(1, [255, 0, 0]) && near(6, [0, 191, 191]), "{:?}", found.get_pixel(6, 4));

    // As a phone saves it: the sensor's rows, and where its top was.
    let lying =
        RgbImage::from_fn(16, 8, |x, _| if x < 8 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.write_image(&lying, 16, 8, image::ExtendedColorType::Rgb8).unwrap();
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    bytes.splice(2..2, exif.iter().copied());
    fs::write(path("turned.jpg"), bytes).unwrap();
    let report = made(&dir, "palettize turned.jpg -o out.png --force");
    assert_eq!((&report["width"], &report["height"]), (&8.into(), &16.into()));
    assert!(load(&dir, "out.png").get_pixel(4, 1)[0] > 200);
}

#[test]
fn a_profile_of_colours_is_kept() {
    let dir = folder();
    let mut profile = vec![0; 132];
    profile[16..20].copy_from_slice(b"RGB ");
    let with = |profile: &[u8]| {
        let file = fs::File::create(dir.path().join("in.png")).unwrap();
        let mut info = png::Info::with_size(2, 1);
        (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
        info.icc_profile = Some(profile.to_vec().into());
        let encoder = png::Encoder::with_info(file, info).unwrap();
        encoder.write_header().unwrap().write_image_data(&[1, 2, 3, 4, 5, 6]).unwrap();
        made(&dir, "palettize in.png -o out.png --force");
        let out = std::io::BufReader::new(fs::File::open(dir.path().join("out.png")).unwrap());
        let reader = png::Decoder::new(out).read_info().unwrap();
        reader.info().icc_profile.as_ref().map(|p| p.to_vec())
    };
    assert_eq!(with(&profile), Some(profile.clone()));
    // That of grey would be wrong of a palette.
    profile[16..20].copy_from_slice(b"GRAY");
    assert_eq!(with(&profile), None);
}

#[test]
fn bad_pictures_are_refused_by_name() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    save(&dir, "good.png", 8, &slopes(8, 8, false));
    let good = fs::read(path("good.png")).unwrap();
    let mut jpeg = Vec::new();
    let picture = image::open(path("good.png")).unwrap().into_rgb8();
    picture.write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg).unwrap();
    fs::write(path("empty.png"), "").unwrap();
    fs::write(path("text.png"), "no picture at all").unwrap();
    fs::write(path("short.png"), &good[..good.len() / 2]).unwrap();
    fs::write(path("short.jpg"), &jpeg[..jpeg.len() - 9]).unwrap();
    fs::write(path("stump.jpg"), &jpeg[..20]).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() - 20] ^= 0x10;
    fs::write(path("flipped.png"), flipped).unwrap();
    fs::write(path("order.png"), [&good[..8], &good[33..]].concat()).unwrap();
    fs::write(path("anim.gif"), b"GIF89a\x01\0\x01\0\0\0\0;").unwrap();
    // A header alone, of a size that nobody has memory for.
    let huge = png::Encoder::new(fs::File::create(path("huge.png")).unwrap(), 60_000, 60_000);
    huge.write_header().unwrap().write_chunk(png::chunk::IDAT, &[0; 9]).unwrap();
    let vast = png::Encoder::new(
        fs::File::create(path("vast.png")).unwrap(),
        i32::MAX as u32,
        i32::MAX as u32,
    );
    vast.write_header().unwrap().write_chunk(png::chunk::IDAT, &[0; 9]).unwrap();
    // A profile of 100 MB in a file of 100 kB.
    let mut info = png::Info::with_size(1, 1);
    info.icc_profile = Some(vec![0; 100_000_000].into());
    let bomb = png::Encoder::with_info(fs::File::create(path("bomb.png")).unwrap(), info).unwrap();
    bomb.write_header().unwrap().write_image_data(&[0]).unwrap();
    for (line, words) in [
        ("palettize none.png -o out.png", "none.png: No such file"),
        ("palettize empty.png -o out.png", "empty.png: neither a PNG nor a JPEG file"),
        ("palettize text.png -o out.png", "text.png: neither a PNG nor a JPEG file"),
        ("palettize anim.gif -o out.png", "anim.gif: neither a PNG nor a JPEG file"),
        ("palettize short.png -o out.png", "short.png: "),
        (
            "palettize short.jpg -o out.png",
            "short.jpg: a JPEG file without its end; it is truncated",
        ),
        ("palettize stump.jpg -o out.png", "stump.jpg: "),
        ("palettize huge.png -o out.png", "huge.png: 60000 x 60000 pixels need 1"),
        ("palettize vast.png -o out.png", "vast.png: 2147483647 x 2147483647 pixels need 1"),
        (
            "palettize flipped.png -o out.png",
            "flipped.png: Format error decoding Png: CRC error: expected 0x",
        ),
        ("palettize flipped.png -o out.png", " while decoding IDAT chunk."),
        ("palettize order.png -o out.png", "IDAT chunk appeared before IHDR chunk"),
    ] {
        let said = refused(&dir, line);
        assert!(said.starts_with("tersor: ") && said.contains(words), "{line}: {said}");
        assert!(!path("out.png").exists(), "{line}");
    }
    // What an unpacked profile would take counts as well.
    let line = "palettize bomb.png -o bomb-out.png --memory 64MiB --device cpu";
    let (code, _, err) = run(&dir, line);
    let said = "warning: bomb.png: its profile of colors is damaged or too large, and left out\n";
    assert_eq!((code, &*err), (0, said));
    // Nothing of size zero: what makes pictures does not write it, so that it is forged.
    let mut zero = good.clone();
    zero[16..20].fill(0);
    fs::write(path("zero.png"), zero).unwrap();
    assert!(refused(&dir, "palettize zero.png -o out.png").contains("zero.png: "));
    // Wide is no reason.
    save(&dir, "wide.png", 30_000, &slopes(30_000, 2, false));
    assert_eq!(made(&dir, "palettize wide.png -o out.png --colors 9")["width"], 30_000);
    for (colors, words) in [
        ("0", "\"0\" is no number of colors from 1 to 256"),
        ("257", "\"257\" is no number of colors"),
        ("4,..", "what comes after .. is missing"),
        ("", "is no number of colors"),
    ] {
        let done = tersor()
            .args(["palettize", "good.png", "-o", "x.png", "--colors", colors])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && said.contains(words), "{colors}: {said}");
    }
    for seed in ["18446744073709551616", "x"] {
        let said = refused(&dir, &format!("palettize good.png -o x.png --seed {seed}"));
        let words = format!("{seed:?} is no whole number from 0 to 18446744073709551615");
        assert!(said.contains(&words), "{said}");
    }
    assert_eq!(made(&dir, "palettize good.png -o one.png --colors 1")["results"][0]["colors"], 1);
}

/// What is no file has no end that could be waited for.
#[test]
#[cfg(unix)]
fn pipes_folders_and_devices_are_refused() {
    let dir = folder();
    save(&dir, "in.png", 8, &slopes(8, 8, false));
    let path = |name: &str| dir.path().join(name);
    assert!(Command::new("mkfifo").arg(path("pipe.png")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", path("zeros.png")).unwrap();
    std::os::unix::fs::symlink("pipe.png", path("link.png")).unwrap();
    fs::create_dir(path("folder.png")).unwrap();
    let before = fs::read_dir(dir.path()).unwrap().count();
    for (input, words) in [
        ("pipe.png", "pipe.png: this is neither a regular file nor a folder"),
        ("link.png", "link.png: this is neither a regular file nor a folder"),
        ("zeros.png", "zeros.png: this is neither a regular file nor a folder"),
        ("folder.png", "folder.png: this is a folder, expected a file"),
        (".", ".: this is a folder, expected a file"),
    ] {
        for output in ["-o out.png", "--sheet out.png", "-o folder.png"] {
            let said = refused(&dir, &format!("palettize {input} {output}"));
            assert!(said.contains(words), "{input} {output}: {said}");
        }
    }
    for output in ["pipe.png", "link.png", "zeros.png", "folder.png"] {
        for flag in ["-o out.png --error-image", "--sheet", "-o"] {
            // What is put in a folder has a name in it.
            if (output, flag) == ("folder.png", "-o") {
                continue;
            }
            for force in ["", " --force"] {
                let said = refused(&dir, &format!("palettize in.png {flag} {output}{force}"));
                let words = format!("{output} exists and is not a regular file; remove it first");
                assert!(said.contains(&words), "{flag} {output}{force}: {said}");
            }
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
}

/// What a job says that it needs is what it takes at most, and what does not suffice is not gone beyond.
#[test]
#[cfg(target_os = "linux")]
fn a_job_stays_within_its_memory_or_says_what_it_needs() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let noise = |alpha: fn(u8) -> u8| -> Vec<[u8; 4]> {
        let random = |i: u32| i.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(40_503);
        let pixel = |i: u32| {
            let [[r, g, b, _], a] = [random(i * 3).to_le_bytes(), random(i).to_be_bytes()];
            [r ^ a[1], g, b, alpha(a[0])]
        };
        (0..1500 * 1000).map(pixel).collect()
    };
    save(&dir, "photo.png", 2000, &slopes(2000, 1500, false));
    save(&dir, "noise.png", 1500, &noise(|_| 255));
    save(&dir, "clouds.png", 1500, &noise(|a| a));
    let photo = image::open(path("photo.png")).unwrap().into_rgb8();
    photo.save(path("photo.jpg")).unwrap();
    let (output, sheet, error) = (path("out.png"), path("sheet.png"), path("error.png"));
    let jobs: [(&str, &[&str]); 8] = [
        ("photo.png", &["-o", &output]),
        ("photo.jpg", &["-o", &output, "--error-image", &error]),
        ("photo.png", &["--colors", "2,..,256", "--sheet", &sheet]),
        ("noise.png", &["-o", &output]),
        ("noise.png", &["-o", &output, "--space", "oklab", "--starts", "3"]),
        ("noise.png", &["-o", &output, "--dither", "--error-image", &error]),
        ("clouds.png", &["-o", &output]),
        ("clouds.png", &["-o", &output, "--dither", "--sheet", &sheet]),
    ];
    // Unoptimised, the program itself is larger.
    let larger = if cfg!(debug_assertions) { 8 } else { 0 };
    for (name, flags) in jobs {
        let input = path(name);
        let mut memory = 34;
        loop {
            let limit = format!("{memory}MiB");
            let common =
                ["palettize", &input, "--memory", &limit, "--threads", "2", "--force", "--quiet"];
            let device = ["--device", "cpu"];
            let (code, said, _, peak) = measured(&[&common[..], &device, flags].concat());
            let peak = peak.div_ceil(1 << 20);
            println!("{name} {flags:?}: {peak} of {memory} MiB");
            assert!(peak <= memory + larger, "{name} {flags:?}: {peak} of {memory} MiB: {said}");
            if code == Some(0) {
                // Nor is it far from it.
                assert!(3 * peak >= memory, "{name} {flags:?}: {peak} of {memory} MiB");
                break;
            }
            let needed = said.split_once(" need ").and_then(|(_, rest)| rest.split_once(" MiB"));
            let needed = needed.and_then(|(needed, _)| needed.parse().ok());
            let more = needed.filter(|n| *n > memory);
            memory = more.unwrap_or_else(|| panic!("{name} with {memory} MiB: {said}"));
        }
    }
}

#[test]
fn outputs_follow_the_rules_of_outputs() {
    let dir = folder();
    save(&dir, "in.png", 8, &slopes(8, 8, false));
    fs::create_dir(dir.path().join("folder")).unwrap();
    let before = tree(dir.path());
    for (line, words) in [
        ("palettize in.png -o in.png --force", "in.png is the input itself"),
        ("palettize in.png -o ./folder/../in.png --force", "is the input itself"),
        ("palettize in.png -o out.jpg", "out.jpg: outputs are PNG files"),
        ("palettize in.png -o out.png --sheet out.png", "out.png is two outputs"),
        ("palettize in.png -o -", "-o -: "),
        (
            "palettize in.png -o out.png --colors 2,4",
            "several numbers of --colors are for a --sheet",
        ),
        ("palettize in.png --sheet s.png --colors 2,4 --error-image e.png", "several numbers"),
    ] {
        let said = refused(&dir, line);
        assert!(said.contains(words), "{line}: {said}");
        assert_eq!(tree(dir.path()), before, "{line}");
    }
    let (code, _, err) = run(&dir, "palettize in.png");
    assert!(code == 2 && err.contains("--output"), "{err}");

    made(&dir, "palettize in.png -o new/deep/out.png");
    let first = fs::read(dir.path().join("new/deep/out.png")).unwrap();
    assert!(
        refused(&dir, "palettize in.png -o new/deep/out.png --colors 2")
            .contains("exists already; use --force")
    );
    assert_eq!(fs::read(dir.path().join("new/deep/out.png")).unwrap(), first);
    made(&dir, "palettize in.png -o new/deep/out.png --colors 2 --force");
    assert_ne!(fs::read(dir.path().join("new/deep/out.png")).unwrap(), first);

    fs::copy(dir.path().join("in.png"), dir.path().join("photo.jpeg")).unwrap();
    let report = made(&dir, "palettize photo.jpeg -o folder");
    assert_eq!(report["output"], "folder/photo.png");
    assert_eq!(
        report["output_bytes"],
        fs::metadata(dir.path().join("folder/photo.png")).unwrap().len()
    );
    assert_eq!(
        run(&dir, "palettize in.png -o q.png -q --device cpu"),
        (0, String::new(), String::new())
    );
    let left: Vec<_> =
        tree(dir.path()).into_keys().filter(|k| format!("{k:?}").contains("tersor-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_sheet_has_every_palette() {
    let dir = folder();
    save(&dir, "in.png", 60, &slopes(60, 40, false));
    made(&dir, "palettize in.png --colors 1,2,4 --sheet sheet.png");
    let sheet = load(&dir, "sheet.png");
    // Cells are as wide as the longest label, "original, 2,400 colors" has no separators: 12 pixels a letter.
    for colors in [1, 2, 4] {
        made(&dir, &format!("palettize in.png -o out.png --force --colors {colors}"));
        for color in head(&dir, "out.png").2.chunks(3) {
            let there = sheet.pixels().filter(|p| p.0[..3] == *color).count();
            // In the strip at least.
            assert!(there >= 8 * 60 / colors, "{colors}: {color:?} {there} times");
        }
    }
    // The original as it was.
    let original: Vec<_> = load(&dir, "in.png").pixels().copied().collect();
    let drawn = |x: u32, y: u32| *sheet.get_pixel(16 + x, 16 + y);
    assert!((0..2400).all(|i| drawn(i % 60, i / 60) == original[i as usize]));
    // A large one is drawn smaller.
    save(&dir, "large.png", 1600, &slopes(1600, 1200, false));
    made(&dir, "palettize large.png --colors 2,..,16 --sheet large-sheet.png");
    let sheet = load(&dir, "large-sheet.png");
    assert!(sheet.width().max(sheet.height()) < 1400, "{:?}", sheet.dimensions());
}

#[test]
fn an_interrupt_leaves_nothing() {
    let dir = folder();
    save(&dir, "in.png", 1200, &slopes(1200, 900, false));
    let before = tree(dir.path());
    let line = "palettize in.png -o new/out.png --starts 1000 --device cpu";
    let mut command = tersor();
    command.args(line.split(' ')).current_dir(dir.path()).stderr(Stdio::piped());
    let mut job = command.spawn().unwrap();
    // It has claimed its output.
    let start = Instant::now();
    while !dir.path().join("new").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is claimed");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(job.try_wait().unwrap().is_none(), "a thousand starts are not over");
    signal(job.id(), "INT");
    let done = job.wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), &*said), (Some(130), "tersor: interrupted by signal 2\n"));
    assert_eq!(tree(dir.path()), before);
}
