//! Files of other formats under the name of a checkpoint: named by their content, never read.

#[test]
fn other_formats_are_named() {
    super::open_all(cases());
}

pub fn cases() -> Vec<(Vec<u8>, String)> {
    let pickle =
        |protocol: u8, then: &[u8]| [&[0x80, protocol], then, b"q\x00X\x01\0\0\0"].concat();
    let named = |bytes: &[u8], kind: &str, way: &str| {
        (bytes.to_vec(), format!("this is {kind}, expected a safetensors file; {way}"))
    };
    let python = |code: &str| {
        format!("this makes one: python3 -c '{code}' model.safetensors model.made.safetensors")
    };
    let with = |bytes: &[u8], kind: &str, code: &str| named(bytes, kind, &python(code));
    let command = |bytes: &[u8], kind: &str, command: &str| {
        named(bytes, kind, &format!("this helps: {command}"))
    };
    let zip = |first: &str| {
        let len = [first.len() as u8, 0, 0, 0];
        [&b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], &len, first.as_bytes()]
            .concat()
    };
    let load = "import sys, torch; from safetensors.torch import save_file; w = torch.load(sys.argv[1], map_location=\"cpu\", weights_only=True); w = w.get(\"state_dict\", w); save_file({k: t.clone().contiguous() for k, t in w.items() if torch.is_tensor(t)}, sys.argv[2])";
    let pickled = |bytes: &[u8]| with(bytes, "a Python pickle, as PyTorch writes them", load);
    let torch =
        |first: &str| with(&zip(first), "a PyTorch checkpoint, a zip archive of a pickle", load);
    let gguf = "import os, sys, torch; from safetensors.torch import save_file; from transformers import AutoModelForCausalLM; d, f = os.path.split(sys.argv[1]); m = AutoModelForCausalLM.from_pretrained(d or \".\", gguf_file=f); save_file({k: t.clone().contiguous() for k, t in m.state_dict().items()}, sys.argv[2])";
    let hdf5 = "import sys, h5py; from safetensors.numpy import save_file; w = {}; h5py.File(sys.argv[1]).visititems(lambda n, d: w.update({n: d[()]}) if isinstance(d, h5py.Dataset) else None); save_file(w, sys.argv[2])";
    let onnx = "import sys, onnx; from onnx.numpy_helper import to_array; from safetensors.numpy import save_file; save_file({t.name: to_array(t) for t in onnx.load(sys.argv[1]).graph.initializer}, sys.argv[2])";
    let text = |bytes: &[u8]| {
        let kind = "JSON text without the length that goes before it in a header";
        named(bytes, kind, "name the weights, or the folder that holds them")
    };
    let page = |bytes: &[u8]| {
        let way = "download it anew, with `hf download` for a model of the Hub";
        named(bytes, "an HTML or XML page, as a failed download leaves", way)
    };
    let keras = "a Keras archive, whose weights are an HDF5 file";
    let unzip = "unzip -p model.safetensors model.weights.h5 > model.weights.h5";
    let tar = [&b"a.safetensors"[..], &[0; 244], b"ustar\x0000", &[0; 250]].concat();
    vec![
        torch("model/data.pkl"),
        torch("archive/.format_version"),
        torch("archive/byteorder"),
        with(
            &zip("wte.weight.npy"),
            "a NumPy archive",
            "import sys, numpy; from safetensors.numpy import save_file; save_file(dict(numpy.load(sys.argv[1])), sys.argv[2])",
        ),
        command(&zip("metadata.json"), keras, unzip),
        command(&zip("notes.txt"), "a zip archive", "unzip model.safetensors"),
        command(
            b"PK\x05\x06\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "a zip archive",
            "unzip model.safetensors",
        ),
        pickled(&pickle(2, b"}")),
        pickled(&pickle(2, b"ccollections\n")),
        pickled(&pickle(2, &[0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46])),
        pickled(&pickle(3, b"]")),
        pickled(&pickle(4, &[0x95, 0, 0, 0, 0])),
        pickled(&pickle(5, b"(")),
        with(
            b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0",
            "a GGUF file, which is quantized already if it is not F32 or F16",
            gguf,
        ),
        with(b"\x89HDF\r\n\x1a\n\0\0\0\0", "an HDF5 file", hdf5),
        with(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "an ONNX file", onnx),
        named(
            b"\x1c\0\0\0TFL3\x14\0\x20\0",
            "a TensorFlow Lite file",
            "save the weights of the model that it was converted from",
        ),
        command(b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "a gzip file", "gunzip model.safetensors"),
        command(b"\x28\xb5\x2f\xfd\x04\0\x41\0", "a Zstandard file", "unzstd model.safetensors"),
        command(&tar, "a tar archive", "tar xf model.safetensors"),
        with(
            b"\x93NUMPY\x01\0v\0{'descr': '<f4'",
            "a NumPy array",
            "import sys, numpy; from safetensors.numpy import save_file; save_file({\"weight\": numpy.load(sys.argv[1])}, sys.argv[2])",
        ),
        command(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
            "a Git LFS pointer; the file itself was not fetched",
            "git lfs pull --include model.safetensors",
        ),
        page(b"<!DOCTYPE html><html><body>404</body></html>"),
        page(b"<html><body>Access denied</body></html>"),
        page(b"<?xml version=\"1.0\"?><Error/>"),
        text(br#"{"weight_map":{"a":"b.safetensors"}}"#),
        text(br#"{ "error": "Repository not found" }"#),
        text(b"[1, 2, 3, 4]"),
        (
            b"Entry not found: model.safetensors".to_vec(),
            "the header claims 8029390891631537733 bytes, expected at most 100000000".into(),
        ),
        (
            vec![0xff; 32],
            "the header claims 18446744073709551615 bytes, expected at most 100000000".into(),
        ),
        (vec![0; 32], "the header claims 0 bytes, expected 2 to the 24 that follow".into()),
    ]
}
