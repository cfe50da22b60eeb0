//! Files of other formats under the name of a checkpoint: named by their content, never read.

#[test]
fn other_formats_are_named() {
    super::open_all(cases());
}

pub fn cases() -> Vec<(Vec<u8>, String)> {
    let pickle =
        |protocol: u8, then: &[u8]| [&[0x80, protocol], then, b"q\x00X\x01\0\0\0"].concat();
    let named = |bytes: &[u8], kind: &str| {
        (bytes.to_vec(), format!("this is {kind}, expected a safetensors file"))
    };
    let torch = "a zip archive, perhaps a PyTorch checkpoint";
    let text = "JSON text without the length that goes before it in a header";
    let page = "an HTML or XML page, perhaps of an error in downloading";
    vec![
        named(b"PK\x03\x04\x14\0\0\0\0\0model/data.pkl", torch),
        named(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", torch),
        named(&pickle(2, b"}"), "a Python pickle"),
        named(&pickle(2, b"ccollections\n"), "a Python pickle"),
        named(&pickle(2, &[0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46]), "a Python pickle"),
        named(&pickle(3, b"]"), "a Python pickle"),
        named(&pickle(4, &[0x95, 0, 0, 0, 0]), "a Python pickle"),
        named(&pickle(5, b"("), "a Python pickle"),
        named(b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0", "a GGUF file"),
        named(b"\x89HDF\r\n\x1a\n\0\0\0\0", "an HDF5 file"),
        named(b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "a gzip file"),
        named(b"\x93NUMPY\x01\0v\0{'descr': '<f4'", "a NumPy array"),
        named(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
            "a Git LFS pointer; the file itself was not fetched",
        ),
        named(b"<!DOCTYPE html><html><body>404</body></html>", page),
        named(b"<html><body>Access denied</body></html>", page),
        named(b"<?xml version=\"1.0\"?><Error/>", page),
        named(br#"{"weight_map":{"a":"b.safetensors"}}"#, text),
        named(br#"{ "error": "Repository not found" }"#, text),
        named(b"[1, 2, 3, 4]", text),
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
