//! Equal tensors of a file, stored once: `lm_head.weight` and `model.embed_tokens.weight`.

use crate::support::{CPU, noise, options, tersor, words_of, write_checkpoint};
use std::{fs, path::Path};
use tempfile::TempDir;
use tersor::{
    DType, Error,
    diff::diff,
    format::{Archive, Checkpoint},
    inspect::archived,
    pipeline::{Options, compress, decompress, plan, verify},
    recipe::Recipe,
    report::Report,
};

/// A tensor of a checkpoint.
type Of = (&'static str, DType, Vec<usize>, Vec<u32>);

/// The second of these is equal to the fourth: the format's own writer sorts by name.
const NAMES: [&str; 5] = ["a.norm", "b.embed", "c.layer", "d.head", "e.norm"];

/// A large matrix, seeded.
fn matrix(seed: u64) -> Vec<u32> {
    words_of(DType::BF16, &noise(seed, 256 * 160))
}

/// A model whose `d.head` is given.
fn model(head: Vec<u32>) -> Vec<Of> {
    let large = |name, words| (name, DType::BF16, vec![256, 160], words);
    let small = |name, seed| (name, DType::BF16, vec![64], words_of(DType::BF16, &noise(seed, 64)));
    vec![
        small(NAMES[0], 1),
        large(NAMES[1], matrix(2)),
        large(NAMES[2], matrix(3)),
        large(NAMES[3], head),
        small(NAMES[4], 1),
    ]
}

/// Ways to treat all matrices: kept, codes, tables, planes, by columns, survivors, coded.
const TREATMENTS: [&str; 6] = [
    "keep = true",
    "quantize = { kind = \"affine\", bits = 8 }",
    "axis = 1\nquantize = { kind = \"palette\", bits = 4 }",
    "prune = { kind = \"n:m\", n = 2, m = 4 }",
    "encode = \"auto\"",
    "prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", k = 4 }\nencode = \"ribbon\"",
];

fn recipe(treatment: &str) -> Recipe {
    Recipe::parse(&format!("version = 1\n[[rule]]\nmatch = \"*\"\nmin_dims = 2\n{treatment}\n[[rule]]\nmatch = \"*\"\nkeep = true\n")).unwrap()
}

struct Place {
    dir: TempDir,
}

impl Place {
    fn new(tensors: &[Of]) -> Self {
        let place = Self { dir: crate::support::memory_folder() };
        place.write("in", tensors);
        place
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("{name}.safetensors"))
    }

    fn write(&self, name: &str, tensors: &[Of]) {
        write_checkpoint(&self.at(name), tensors);
    }

    fn compress(&self, recipe: &Recipe) -> Report {
        let options = Options { force: true, ..options(&CPU) };
        let report = compress(&self.at("in"), &self.at("out"), recipe, &options).unwrap();
        let bytes = report.tensors.iter().map(|t| t.bytes).sum::<u64>();
        let overhead = report.overhead.iter().map(|c| c.bytes).sum::<u64>();
        assert_eq!(bytes + overhead, report.output_bytes, "every byte has its place");
        let checkpoint = Checkpoint::open(&self.at("in")).unwrap();
        let plan = plan(&checkpoint, recipe, &options).unwrap();
        assert!(report.output_bytes <= plan.output_bytes);
        report
    }

    fn ties(&self, recipe: &Recipe) -> Vec<(String, String)> {
        let tensors = self.compress(recipe).tensors.into_iter();
        tensors.filter_map(|t| Some((t.name.clone(), t.method.tied_to()?.to_owned()))).collect()
    }
}

/// Names and bytes of all tensors, in the order of the file.
fn read(path: &Path) -> Vec<(String, Vec<u8>)> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let bytes = |t: &tersor::TensorInfo| {
        let mut bytes = vec![0; t.bytes as usize];
        checkpoint.read_at(t.file, t.offset(), &mut bytes).unwrap();
        (t.name.clone(), bytes)
    };
    checkpoint.tensors.iter().map(bytes).collect()
}

/// The bytes of the data section.
fn data(path: &Path) -> u64 {
    Checkpoint::open(path).unwrap().tensors.iter().map(|t| t.bytes).sum()
}

#[test]
fn equal_tensors_are_stored_once_and_come_back_in_their_places() {
    for treatment in TREATMENTS {
        let place = Place::new(&model(matrix(2)));
        let (recipe, out, back) = (recipe(treatment), place.at("out"), place.at("back"));
        let report = place.compress(&recipe);
        let [_, embed, _, head, _] = &report.tensors[..] else { panic!("{treatment}") };
        assert_eq!(head.method.tied_to(), Some("b.embed"), "{treatment}");
        assert_eq!(head.method.as_str(), "tied to b.embed");
        assert!(!head.method.is_kept() && !head.method.is_treated());
        assert_eq!((&head.form, head.density), (&embed.form, embed.density));
        assert_eq!(head.error.rel_error, embed.error.rel_error);
        let parts: Vec<_> = head.components.iter().map(|c| (c.name, c.bytes)).collect();
        assert_eq!(parts, [("tied", 0), ("header", head.bytes)], "{treatment}");
        assert!(head.bytes < 150, "{treatment}: {}", head.bytes);
        assert!(report.tensors.iter().filter(|t| t.method.tied_to().is_some()).count() == 1);

        // Whole, with nothing else in the second's place.
        verify(&out, Some(&place.at("in")), &options(&CPU)).unwrap();
        decompress(&out, &back, &options(&CPU)).unwrap();
        let (source, restored) = (read(&place.at("in")), read(&back));
        assert!(restored.iter().map(|t| &*t.0).eq(NAMES), "{treatment}");
        assert_eq!(restored[1].1, restored[3].1, "{treatment}");
        if embed.method.is_kept() || embed.error.mse == Some(0.0) {
            assert_eq!(source, restored, "{treatment}");
        }
        let compared = diff(&out, &back, &options(&CPU)).unwrap();
        assert!(compared.equal && compared.tensors.len() == 5, "{treatment}");
        let listed = archived(&Archive::open(&out).unwrap());
        assert_eq!((listed[3].method.tied_to(), listed[3].bytes), (Some("b.embed"), head.bytes));

        // One bit that no sample sees.
        let (once, size) = (data(&out), report.output_bytes);
        let mut other = matrix(2);
        other[256 * 160 / 8] ^= 1;
        place.write("in", &model(other));
        let apart = place.compress(&recipe);
        assert!(apart.tensors.iter().all(|t| t.method.tied_to().is_none()), "{treatment}");
        let of_head: u64 = apart.tensors[3].components.iter().map(|c| c.bytes).sum::<u64>()
            - apart.tensors[3].components.last().unwrap().bytes;
        assert_eq!(data(&out) - once, of_head, "{treatment}: what the second took");
        assert!(size < apart.output_bytes - of_head + 200, "{treatment}");
        decompress(&out, &back, &Options { force: true, ..options(&CPU) }).unwrap();
        if embed.method.is_kept() {
            assert_eq!(read(&place.at("in")), read(&back));
        }
    }
}

#[test]
fn tensors_that_are_treated_otherwise_or_are_small_are_stored_twice() {
    let place = Place::new(&model(matrix(2)));
    let one = "version = 1\n[[rule]]\nmatch = \"d.head\"\nquantize = { kind = \"affine\", bits = 8 }\n[[rule]]\nmatch = \"*\"\n";
    let rest = |text: &str| Recipe::parse(&format!("{one}{text}")).unwrap();
    assert_eq!(place.ties(&rest("keep = true\n")), []);
    assert_eq!(place.ties(&rest("quantize = { kind = \"affine\", bits = 4 }\n")), []);
    let alike = rest("quantize = { kind = \"affine\", bits = 8 }\n");
    assert_eq!(place.ties(&alike), [("d.head".to_owned(), "b.embed".to_owned())]);
    // Of another shape or type, or less than 64 KiB; all three are the same bytes.
    let keep = Recipe::parse("version = 1\n[[rule]]\nmatch = \"*\"\nkeep = true\n").unwrap();
    let bytes = |dtype, shape: &[usize]| {
        let (shape, words) = (shape.to_vec(), vec![7; 1 << 14]);
        move |name| (name, dtype, shape.clone(), words.clone())
    };
    let of = bytes(DType::F32, &[128, 128]);
    for (other, ties) in [
        (bytes(DType::F32, &[128, 128])("b"), 1),
        (bytes(DType::F32, &[64, 256])("b"), 0),
        (bytes(DType::I32, &[128, 128])("b"), 0),
    ] {
        place.write("in", &[of("a"), other]);
        assert_eq!(place.ties(&keep).len(), ties);
    }
    let small = bytes(DType::F32, &[128, 127]);
    place.write("in", &[small("a"), small("b")]);
    assert_eq!(place.ties(&keep), []);
    // A mark that would have the name of another tensor.
    place.write("in", &[of("a"), of("b"), bytes(DType::F32, &[2])("b.tied")]);
    assert_eq!(place.ties(&keep), []);
    // Three of them, and what is kept since it cannot be treated: the second would be kept, too.
    let odd = |name| (name, DType::F32, vec![128, 128], vec![f32::NAN.to_bits(); 1 << 14]);
    place.write("in", &[odd("a"), odd("b"), odd("c")]);
    let report = place.compress(&recipe("quantize = { kind = \"affine\", bits = 8 }"));
    let to: Vec<_> = report.tensors.iter().map(|t| t.method.tied_to()).collect();
    assert_eq!(to, [None, Some("a"), Some("a")]);
    assert!(report.tensors[0].reason.as_deref().is_some_and(|why| why.contains("NaN")));
    assert!(report.tensors[0].method.is_kept() && report.tensors[2].form.kind == "kept");
    let back = place.at("back");
    decompress(&place.at("out"), &back, &options(&CPU)).unwrap();
    assert_eq!(read(&place.at("in")), read(&back));
}

#[test]
fn the_bytes_do_not_depend_on_threads() {
    let place = Place::new(&model(matrix(2)));
    for treatment in TREATMENTS {
        let bytes = [1, 2, 5].map(|threads| {
            let options = Options { threads, force: true, ..options(&CPU) };
            let (input, out) = (place.at("in"), place.at("out"));
            compress(&input, &out, &recipe(treatment), &options).unwrap();
            fs::read(out).unwrap()
        });
        assert!(bytes.iter().all(|b| *b == bytes[0]), "{treatment}");
    }
}

#[test]
fn a_source_in_which_the_two_differ_is_another() {
    let place = Place::new(&model(matrix(2)));
    let mut other = matrix(2);
    other[5] ^= 1;
    place.write("other", &model(other));
    for (treatment, what) in [
        (TREATMENTS[0], "kept tensor \"d.head\""),
        (TREATMENTS[1], "tensor \"d.head\" had other values"),
        (TREATMENTS[4], "tensor \"d.head\""),
    ] {
        place.compress(&recipe(treatment));
        let found = verify(&place.at("out"), Some(&place.at("other")), &options(&CPU)).unwrap_err();
        assert!(matches!(found, Error::Differs { .. } | Error::Unlike { .. }), "{found:?}");
        assert!(found.to_string().contains(what), "{treatment}: {found}");
        let args = ["verify", "out.safetensors", "--against", "other.safetensors"];
        let done = tersor().args(args).current_dir(place.dir.path()).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        assert!(String::from_utf8(done.stderr).unwrap().contains(what));
    }
}

#[test]
fn summaries_say_what_is_stored_once() {
    let place = Place::new(&model(matrix(2)));
    let args = ["compress", "in.safetensors", "-o", "out.safetensors", "--preset", "int8"];
    let args = args.into_iter().chain(["--device", "cpu"]);
    let done = tersor().args(args).current_dir(place.dir.path()).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let lines = ["stored once, being equal  to", "d.head                    b.embed"];
    assert!(lines.iter().all(|line| text.contains(line)), "{text}");
}
