#!/usr/bin/env python3
"""quantette, pngquant, Pillow and scikit-learn on a photo, beside `tersor::pictures`, in one run and on two threads.

    python3 -m venv peers && peers/bin/pip install numpy pillow scikit-learn
    peers/bin/python scripts/peers_pictures.py PHOTO [COLORS] [--native]

PHOTO is a PNG or JPEG file without transparency; COLORS is 256 if not given. quantette and tersor are timed in one process, in turn,
the least of 9 runs each, from pixels in memory to a palette and the entry of every pixel; --native builds both for this machine alone,
without which quantette has no AVX. pngquant, which is a package of Debian (2.17.0 was measured), is timed with reading and writing,
Pillow and scikit-learn without. scikit-learn clusters 200,000 pixels and maps them all, as its example does. Errors are measured by one
program: the mean of the squared differences of a channel, and DSSIM (crate dssim-core).
"""
import os, pathlib, subprocess, sys, tempfile, time

os.environ.update({name: "2" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")})
import numpy as np
from PIL import Image
from sklearn.cluster import KMeans

ROOT = pathlib.Path(__file__).resolve().parent.parent
words = [word for word in sys.argv[1:] if not word.startswith("--")]
photo, k = words[0], int(words[1]) if len(words) > 1 else 256
CARGO = f"""[package]
name = "peers"
version = "0.0.0"
edition = "2024"
[dependencies]
tersor = {{ path = "{ROOT}", default-features = false, features = ["pictures"] }}
quantette = "=0.6.0"
dssim-core = "3"
rgb = "0.8"
mimalloc = {{ version = "0.1", default-features = false }}
cpu-time = "1"
[workspace]
"""
MAIN = r"""
use quantette::{deps::palette::Srgb, dedup::*, kmeans::*, wu::*, *};
use rgb::RGB8;
use std::{path::Path, time::Instant};
use tersor::{Backend, Cancel, pictures::{self, Options, Picture, Space}};
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn read(path: &str) -> Picture {
    pictures::open(Path::new(path), 64 << 30).unwrap().picture
}

/// Writes what was found as a PNG file without a palette.
fn write(name: &str, of: &Picture, palette: &[[u8; 4]], indices: &[u8]) {
    let pixels = indices.iter().map(|i| palette[usize::from(*i)]).collect();
    let picture = Picture::new(of.width(), of.height(), pixels).unwrap();
    std::fs::write(name, pictures::png(&picture, None).unwrap()).unwrap();
}

fn errors(of: &Picture, path: &str) -> (f64, f64) {
    let other = read(path);
    let squared: u64 = of.pixels().iter().zip(other.pixels())
        .map(|(a, b)| (0..3).map(|c| u64::from(a[c].abs_diff(b[c])).pow(2)).sum::<u64>()).sum();
    let plain = |p: &Picture| p.pixels().iter().map(|p| RGB8::new(p[0], p[1], p[2])).collect::<Vec<_>>();
    let dssim = dssim_core::Dssim::new();
    let image = |p: &Picture| dssim.create_image_rgb(&plain(p), p.width(), p.height()).unwrap();
    let (found, _) = dssim.compare(&image(of), image(&other));
    (squared as f64 / 3.0 / of.pixels().len() as f64, found.into())
}

type Found = (Vec<[u8; 4]>, Vec<u8>);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let picture = read(&args[2]);
    if args[1] == "errors" {
        for path in &args[3..] {
            let (squared, dssim) = errors(&picture, path);
            println!("{squared} {dssim}");
        }
        return;
    }
    let k: usize = args[3].parse().unwrap();
    let size = PaletteSize::from_u16_clamped(k as u16);
    let srgb: Vec<Srgb<u8>> = picture.pixels().iter().map(|p| Srgb::new(p[0], p[1], p[2])).collect();
    let image = ImageRef::new(picture.width() as u32, picture.height() as u32, &srgb).unwrap();
    let color = |c: &Srgb<u8>| [c.red, c.green, c.blue, 255];
    let ours = |space: Space| -> Found {
        let options = Options { colors: k, space, ..Options::default() };
        let found = pictures::palettize(&Backend::Cpu, &picture, &options, &Cancel::new()).unwrap();
        (found.palette().to_vec(), found.indices().to_vec())
    };
    let oklab = || -> Found {
        let line = Pipeline::new().palette_size(size).quantize_method(KmeansOptions::new()).ditherer(None).parallel(true);
        let found = line.input_image(image).output_srgb8_indexed_image();
        (found.palette().iter().map(color).collect(), found.indices().to_vec())
    };
    // As its pipeline for Oklab, step by step.
    let rgb = || -> Found {
        let counts = dedup_image_u8_3_counts_par(image);
        let first = WuU8x3::run_indexed_image_counts_par(&counts, BinnerU8x3::rgb()).unwrap().palette(size);
        let map = Kmeans::run_indexed_image_par(counts.as_ref(), first, KmeansOptions::new()).into_parallel_color_map();
        let found = counts.map_to_indexed_par(map);
        (found.palette().iter().map(color).collect(), found.indices().to_vec())
    };
    let all: [(&str, &dyn Fn() -> Found); 4] = [
        ("tersor rgb", &|| ours(Space::Rgb)), ("quantette rgb", &rgb),
        ("tersor oklab", &|| ours(Space::Oklab)), ("quantette oklab", &oklab),
    ];
    let (mut wall, mut cpu) = ([f64::MAX; 4], [f64::MAX; 4]);
    for run in 0..9 {
        for (i, (name, of)) in all.iter().enumerate() {
            let (start, work) = (Instant::now(), cpu_time::ProcessTime::now());
            let (palette, indices) = of();
            wall[i] = wall[i].min(start.elapsed().as_secs_f64());
            cpu[i] = cpu[i].min(work.elapsed().as_secs_f64());
            if run == 0 {
                write(&format!("{}/{name}.png", args[4]), &picture, &palette, &indices);
            }
        }
    }
    for (i, (name, _)) in all.iter().enumerate() {
        println!("{name}\t{}\t{}", wall[i], cpu[i]);
    }
}
"""


def timed(f):
    start = time.time()
    result = f()
    return time.time() - start, result


with tempfile.TemporaryDirectory() as folder:
    project = pathlib.Path(os.environ.get("PEERS_FOLDER", folder))  # kept, to build once
    (project / "src").mkdir(parents=True, exist_ok=True)
    (project / "Cargo.toml").write_text(CARGO)
    (project / "src/main.rs").write_text(MAIN)
    env = dict(os.environ)
    if "--native" in sys.argv:
        env["RUSTFLAGS"] = "-C target-cpu=native"
    target = env.setdefault("CARGO_TARGET_DIR", str(project / "target"))
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=project, env=env, check=True)
    program = target + "/release/peers"
    out = subprocess.run([program, "run", photo, str(k), folder], env=env, check=True, capture_output=True, text=True).stdout
    seconds = {name: (float(wall), float(cpu)) for name, wall, cpu in (line.split("\t") for line in out.splitlines())}

    image = Image.open(photo).convert("RGB")
    save = lambda name, picture: picture.convert("RGB").save(f"{folder}/{name}.png", compress_level=1)
    image.save(folder + "/in.png", compress_level=1)
    wall, _ = timed(lambda: subprocess.run(
        ["pngquant", str(k), "--nofs", "--speed", "3", "--force", "-o", folder + "/pngquant.png", folder + "/in.png"], check=True))
    seconds["pngquant"] = (wall, None)
    for name, method in (("Pillow median cut, kmeans 8", Image.Quantize.MEDIANCUT), ("Pillow octree", Image.Quantize.FASTOCTREE)):
        wall, found = timed(lambda: image.quantize(k, method=method, kmeans=8, dither=Image.Dither.NONE))
        seconds[name] = (wall, None)
        save(name, found)
    pixels = np.asarray(image).reshape(-1, 3).astype(np.float32)
    some = pixels[np.random.default_rng(0).choice(len(pixels), min(200_000, len(pixels)), replace=False)]
    wall, means = timed(lambda: KMeans(k, n_init=1, random_state=0).fit(some))
    means.cluster_centers_ = np.clip(np.round(means.cluster_centers_), 0, 255).astype(np.float32)
    more, labels = timed(lambda: means.predict(pixels))
    seconds["scikit-learn"] = (wall + more, None)
    found = means.cluster_centers_.astype(np.uint8)[labels].reshape(image.size[1], image.size[0], 3)
    save("scikit-learn", Image.fromarray(found))

    names = list(seconds)
    measured = subprocess.run([program, "errors", photo] + [f"{folder}/{name}.png" for name in names], env=env, check=True,
                              capture_output=True, text=True).stdout.splitlines()
    print(f"{pathlib.Path(photo).name}, {image.size[0]} x {image.size[1]}, {k} colors")
    print("| | seconds | of cores | mean squared error | DSSIM |\n|---|---|---|---|---|")
    for name, line in zip(names, measured):
        (wall, cpu), (squared, dssim) = seconds[name], map(float, line.split())
        print(f"| {name} | {wall:.3f} | {'' if cpu is None else f'{cpu:.3f}'} | {squared:.3f} | {dssim:.6f} |")
    for space in ("rgb", "oklab"):
        a, b = seconds["tersor " + space], seconds["quantette " + space]
        print(f"tersor / quantette, {space}: {a[0] / b[0]:.2f} of its time, {a[1] / b[1]:.2f} of its time of cores")
