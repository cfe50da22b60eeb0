//! Headers of safetensors files.

use super::{entry, file};

#[test]
fn malformed_headers_are_refused_in_these_words() {
    super::open_all(cases());
}

/// A tensor of 16 bytes.
const A: &str = r#""a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#;

pub fn cases() -> Vec<(Vec<u8>, String)> {
    let of = |(bytes, said): (Vec<u8>, &str)| (bytes, said.to_owned());
    let mut all = lengths();
    all.extend(json().into_iter().map(of));
    all.extend(keys().into_iter().map(of));
    all.extend(names().into_iter().map(of));
    all.extend(sizes().into_iter().map(of));
    all.extend(limits().into_iter().map(of));
    all.extend(layouts());
    all
}

/// Lengths of files and of headers, on both sides of what types hold.
fn lengths() -> Vec<(Vec<u8>, String)> {
    let too_few = |n| {
        let said = format!("{n} bytes are too few for a safetensors file, expected at least 8");
        (vec![1; n], said)
    };
    let claimed = |length: u64| {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        let expected = match length {
            0..=100_000_000 => "2 to the 2 that follow",
            _ => "at most 100000000",
        };
        (bytes, format!("the header claims {length} bytes, expected {expected}"))
    };
    let lattice = [0, 1, 3, 7, 8, 10, 100_000_000, 100_000_001, u64::MAX];
    let powers = [31, 32, 63].into_iter().flat_map(|p| [(1 << p) - 1, 1 << p, (1 << p) + 1]);
    (0..8).map(too_few).chain(lattice.into_iter().chain(powers).map(claimed)).collect()
}

/// What is no JSON, or not an object of objects.
fn json() -> Vec<(Vec<u8>, &'static str)> {
    let plain = |text: &str| file(text, 0);
    let with_a = |text: &str| file(text.replace('A', A), 16);
    vec![
        (plain("[]"), "header, byte 1: '[', expected '{'"),
        (plain("  "), "header, byte 2: the end of the header, expected '{'"),
        (plain("null"), "header, byte 1: 'n', expected '{'"),
        (plain("\"a\""), r#"header, byte 1: '"', expected '{'"#),
        (plain("{ "), r#"header, byte 2: the end of the header, expected '"'"#),
        (plain("{}x"), "header, byte 3: 'x' after the end, expected spaces"),
        (plain("{}{}"), "header, byte 3: '{' after the end, expected spaces"),
        (plain("{}\0"), r#"header, byte 3: '\0' after the end, expected spaces"#),
        (plain("\u{feff}{}"), "header, byte 1: 'ï', expected '{'"),
        (plain("{,}"), r#"header, byte 2: ',', expected '"'"#),
        (plain("{a:1}"), r#"header, byte 2: 'a', expected '"'"#),
        (plain("{'a':1}"), r#"header, byte 2: '\'', expected '"'"#),
        (plain("{1:2}"), r#"header, byte 2: '1', expected '"'"#),
        (plain("{\"a\"}"), "header, byte 5: '}', expected ':'"),
        (plain("{\"a\":}"), "header, byte 6: '}', expected '{'"),
        (plain("{\"a\" 1}"), "header, byte 6: '1', expected ':'"),
        (plain("{\"a\":1}"), "header, byte 6: '1', expected '{'"),
        (plain("{\"a\":[]}"), "header, byte 6: '[', expected '{'"),
        (plain("{\"a\":null}"), "header, byte 6: 'n', expected '{'"),
        (plain("{\"a\":\"b\"}"), r#"header, byte 6: '"', expected '{'"#),
        (plain("{/* no */}"), r#"header, byte 2: '/', expected '"'"#),
        (plain("{\"a"), "header, byte 3: the header ends inside a string"),
        (plain("{\"a\\"), "header, byte 4: an unknown escape in a string"),
        (plain("{\"a\\u00"), r#"header, byte 7: \u, expected four hexadecimal digits"#),
        (with_a("{A,}"), r#"header, byte 56: '}', expected '"'"#),
        (with_a("{A A}"), r#"header, byte 56: '"', expected ',' or '}'"#),
        (with_a("{A;}"), "header, byte 55: ';', expected ',' or '}'"),
        (with_a("{A"), "header, byte 54: the end of the header, expected ',' or '}'"),
        (with_a("{A]"), "header, byte 55: ']', expected ',' or '}'"),
        (with_a("{A}}"), "header, byte 56: '}' after the end, expected spaces"),
        (with_a("{A},"), "header, byte 56: ',' after the end, expected spaces"),
        (plain(r#"{"a":{"dtype":"F32"#), "header, byte 18: the header ends inside a string"),
        (plain(r#"{"a":{"dtype":F32}}"#), r#"header, byte 15: 'F', expected '"'"#),
        (plain(r#"{"a":{"dtype":7}}"#), r#"header, byte 15: '7', expected '"'"#),
        (plain(r#"{"a":{"dtype":null}}"#), r#"header, byte 15: 'n', expected '"'"#),
        (plain(r#"{"a":{"shape":4}}"#), "header, byte 15: '4', expected '['"),
        (plain(r#"{"a":{"shape":{}}}"#), "header, byte 15: '{', expected '['"),
        (plain(r#"{"a":{"shape":[4}}"#), "header, byte 17: '}', expected ',' or ']'"),
        (
            plain(r#"{"a":{"shape":[,4]}}"#),
            r#"header, byte 15: tensor "a": "", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[4,]}}"#),
            r#"header, byte 17: tensor "a": "", expected a whole number below 2^64"#,
        ),
        (plain(r#"{"a":{"shape":[4 4]}}"#), "header, byte 18: '4', expected ',' or ']'"),
        (
            plain(r#"{"a":{"shape":[[4]]}}"#),
            r#"header, byte 15: tensor "a": "", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":["4"]}}"#),
            r#"header, byte 15: tensor "a": "", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[true]}}"#),
            r#"header, byte 15: tensor "a": "", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[-4]}}"#),
            r#"header, byte 17: tensor "a": "-4", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[-0]}}"#),
            r#"header, byte 17: tensor "a": "-0", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[+4]}}"#),
            r#"header, byte 17: tensor "a": "+4", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[4.0]}}"#),
            r#"header, byte 18: tensor "a": "4.0", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[4e0]}}"#),
            r#"header, byte 18: tensor "a": "4e0", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[04]}}"#),
            r#"header, byte 17: tensor "a": "04", expected a whole number below 2^64"#,
        ),
        (plain(r#"{"a":{"shape":[0x4]}}"#), "header, byte 17: 'x', expected ',' or ']'"),
        (
            plain(r#"{"a":{"shape":[18446744073709551616]}}"#),
            r#"header, byte 35: tensor "a": "18446744073709551616", expected a whole number below 2^64"#,
        ),
        (
            plain(r#"{"a":{"shape":[99999999999999999999999999999999]}}"#),
            r#"header, byte 40: tensor "a": "9999999999999999999999999", expected a whole number below 2^64"#,
        ),
    ]
}

/// Keys that are missing, not known, or there twice.
fn keys() -> Vec<(Vec<u8>, &'static str)> {
    let with = |text: &str| file(text.replace('A', A), 16);
    vec![
        // The first three are read by the reference reader, which takes the last of the two.
        (
            with(r#"{A,"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}"#),
            r#"tensor "a" appears twice, expected once"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},A}"#),
            r#"tensor "a" appears twice, expected once"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[25],"data_offsets":[77,177]},A}"#),
            r#"tensor "a" appears twice, expected once"#,
        ),
        (with("{A,A}"), r#"tensor "a" appears twice, expected once"#),
        (
            with(r#"{A,"\u0061":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}"#),
            r#"tensor "a" appears twice, expected once"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#),
            r#"header, byte 33: tensor "a": key "dtype" appears twice"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16]}}"#),
            r#"header, byte 43: tensor "a": key "shape" appears twice"#,
        ),
        (
            with(
                r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"data_offsets":[0,16]}}"#,
            ),
            r#"header, byte 75: tensor "a": key "data_offsets" appears twice"#,
        ),
        (
            with(r#"{"__metadata__":{},A,"__metadata__":{}}"#),
            "header, byte 88: __metadata__ appears twice, expected once",
        ),
        (
            with(r#"{"__metadata__":{"k":"1","k":"2"},A}"#),
            r#"header, byte 33: metadata key "k" appears twice, expected once"#,
        ),
        (
            with(r#"{"__metadata__":{"k":"1","\u006b":"1"},A}"#),
            r#"header, byte 38: metadata key "k" appears twice, expected once"#,
        ),
        (with(r#"{"__metadata__":{"k":1},A}"#), r#"header, byte 22: '1', expected '"'"#),
        (with(r#"{"__metadata__":{"k":null},A}"#), r#"header, byte 22: 'n', expected '"'"#),
        (with(r#"{"__metadata__":{"k":{}},A}"#), r#"header, byte 22: '{', expected '"'"#),
        (with(r#"{"__metadata__":{"k":["1"]},A}"#), r#"header, byte 22: '[', expected '"'"#),
        (with(r#"{"__metadata__":{"k"},A}"#), "header, byte 21: '}', expected ':'"),
        (with(r#"{"__metadata__":[],A}"#), "header, byte 17: '[', expected '{'"),
        (with(r#"{"__metadata__":"format",A}"#), r#"header, byte 17: '"', expected '{'"#),
        (with(r#"{"__metadata__":none,A}"#), "header, byte 20: 'n', expected '{' or null"),
        (
            with(r#"{"__metadata__":null,A,"__metadata__":{}}"#),
            "header, byte 90: __metadata__ appears twice, expected once",
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"extra":1}}"#),
            r#"header, byte 62: tensor "a": key "extra" is not known"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"":1}}"#),
            r#"header, byte 57: tensor "a": key "" is not known"#,
        ),
        (
            with(r#"{"a":{"DType":"F32","shape":[4],"data_offsets":[0,16]}}"#),
            r#"header, byte 14: tensor "a": key "DType" is not known"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"offsets":[0,16]}}"#),
            r#"header, byte 42: tensor "a": key "offsets" is not known"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4]}}"#),
            r#"header, byte 32: tensor "a": expected dtype, shape and data_offsets"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","data_offsets":[0,16]}}"#),
            r#"header, byte 42: tensor "a": expected dtype, shape and data_offsets"#,
        ),
        (
            with(r#"{"a":{"shape":[4],"data_offsets":[0,16]}}"#),
            r#"header, byte 40: tensor "a": expected dtype, shape and data_offsets"#,
        ),
        (
            with(r#"{"a":{}}"#),
            r#"header, byte 7: tensor "a": expected dtype, shape and data_offsets"#,
        ),
        (
            with(r#"{"a":{"dtype":"F128","shape":[4],"data_offsets":[0,16]}}"#),
            r#"header, byte 20: tensor "a": dtype "F128" is not known"#,
        ),
        (
            with(r#"{"a":{"dtype":"f32","shape":[4],"data_offsets":[0,16]}}"#),
            r#"header, byte 19: tensor "a": dtype "f32" is not known"#,
        ),
        (
            with(r#"{"a":{"dtype":"","shape":[4],"data_offsets":[0,16]}}"#),
            r#"header, byte 16: tensor "a": dtype "" is not known"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32\u0000","shape":[4],"data_offsets":[0,16]}}"#),
            r#"header, byte 25: tensor "a": dtype "F32\0" is not known"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[]}}"#),
            r#"header, byte 49: tensor "a": data_offsets, expected two numbers"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0]}}"#),
            r#"header, byte 50: tensor "a": data_offsets, expected two numbers"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16,32]}}"#),
            r#"header, byte 53: tensor "a": more than 2 numbers"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16.0]}}"#),
            r#"header, byte 54: tensor "a": "16.0", expected a whole number below 2^64"#,
        ),
        (
            with(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":{"0":16}}}"#),
            "header, byte 48: '{', expected '['",
        ),
    ]
}

/// Names of tensors that are no text, too long, or would do harm where they are shown.
fn names() -> Vec<(Vec<u8>, &'static str)> {
    let raw = |name: &[u8]| {
        let rest = br#"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        file([&b"{\""[..], name, rest].concat(), 1)
    };
    // A name that may be: what is wrong is the type, and the name is shown.
    let shown = |name: &str| file(format!("{{{}}}", entry(name, "X9", "[1]", "[0,1]")), 1);
    let ansi = "\\u001b[31m";
    vec![
        (raw(b"a\0b"), "header, byte 3: a control character in a string, expected an escape"),
        (raw(b"a\nb"), "header, byte 3: a control character in a string, expected an escape"),
        (raw(b"a\x1fb"), "header, byte 3: a control character in a string, expected an escape"),
        (raw(b"\x1b[31m"), "header, byte 2: a control character in a string, expected an escape"),
        (raw(br"a\u0000"), r#"header, byte 11: tensor name "a\0": expected no NUL"#),
        (raw(br"\x41"), "header, byte 4: an unknown escape in a string"),
        (raw(br"\q"), "header, byte 4: an unknown escape in a string"),
        (raw(br"\u12g4"), r#"header, byte 7: \u, expected four hexadecimal digits"#),
        (raw(br"\u+123"), r#"header, byte 5: \u, expected four hexadecimal digits"#),
        (raw(br"\ud800"), "header, byte 10: half a surrogate pair"),
        (raw(br"\ud800\n"), "header, byte 10: half a surrogate pair"),
        (raw(br"\ud800\u0041"), "header, byte 14: half a surrogate pair"),
        (raw(br"\ud800\ud800"), "header, byte 14: half a surrogate pair"),
        (raw(br"\udc00"), "header, byte 8: half a surrogate pair"),
        (raw(b"\xff\xff"), "header, byte 5: a string that is not UTF-8"),
        // Longer than need be, a half of a pair, beyond the last character, cut: no UTF-8.
        (raw(b"\xc0\x80"), "header, byte 5: a string that is not UTF-8"),
        (raw(b"\xed\xa0\x80"), "header, byte 6: a string that is not UTF-8"),
        (raw(b"\xf4\x90\x80\x80"), "header, byte 7: a string that is not UTF-8"),
        (raw(b"\xe2\x82"), "header, byte 5: a string that is not UTF-8"),
        (shown(""), r#"header, byte 17: tensor "": dtype "X9" is not known"#),
        (shown(" "), r#"header, byte 18: tensor " ": dtype "X9" is not known"#),
        (shown(ansi), r#"header, byte 27: tensor "\u{1b}[31m": dtype "X9" is not known"#),
        (shown("\\r\\n\\t"), r#"header, byte 23: tensor "\r\n\t": dtype "X9" is not known"#),
        (shown("\\u009b31m"), r#"header, byte 26: tensor "\u{9b}31m": dtype "X9" is not known"#),
        (shown("a\u{202e}b"), r#"header, byte 22: tensor "a\u{202e}b": dtype "X9" is not known"#),
        (
            shown("\u{2066}a\u{2069}"),
            r#"header, byte 24: tensor "\u{2066}a\u{2069}": dtype "X9" is not known"#,
        ),
        (shown("\u{200f}"), r#"header, byte 20: tensor "\u{200f}": dtype "X9" is not known"#),
        (shown("\u{7f}"), r#"header, byte 18: tensor "\u{7f}": dtype "X9" is not known"#),
        (
            shown("../../etc/passwd"),
            r#"header, byte 33: tensor "../../etc/passwd": dtype "X9" is not known"#,
        ),
        (shown("/etc/passwd"), r#"header, byte 28: tensor "/etc/passwd": dtype "X9" is not known"#),
        (shown("C:\\\\con"), r#"header, byte 24: tensor "C:\\con": dtype "X9" is not known"#),
        (
            shown("\\\"quoted\\\""),
            r#"header, byte 27: tensor "\"quoted\"": dtype "X9" is not known"#,
        ),
        (shown("e\u{301}"), r#"header, byte 20: tensor "e\u{301}": dtype "X9" is not known"#),
        (
            shown(&"n".repeat(1024)),
            r#"header, byte 1041: tensor "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…": dtype "X9" is not known"#,
        ),
        (
            shown("__metadata__ "),
            r#"header, byte 30: tensor "__metadata__ ": dtype "X9" is not known"#,
        ),
    ]
}

/// Shapes and types whose bytes are none, or others than the offsets say.
fn sizes() -> Vec<(Vec<u8>, &'static str)> {
    let one = |dtype: &str, shape: &str, end: u64| {
        file(format!("{{{}}}", entry("a", dtype, shape, &format!("[0,{end}]"))), end as usize)
    };
    vec![
        (
            one("F32", "[5]", 16),
            r#"header, byte 54: tensor "a": data_offsets [0, 16] hold 16 bytes, expected 20 for F32 [5]"#,
        ),
        (
            one("F32", "[3]", 16),
            r#"header, byte 54: tensor "a": data_offsets [0, 16] hold 16 bytes, expected 12 for F32 [3]"#,
        ),
        (
            one("F32", "[]", 0),
            r#"header, byte 52: tensor "a": data_offsets [0, 0] hold 0 bytes, expected 4 for F32 []"#,
        ),
        (
            one("F32", "[0]", 4),
            r#"header, byte 53: tensor "a": data_offsets [0, 4] hold 4 bytes, expected 0 for F32 [0]"#,
        ),
        (
            one("F64", "[2]", 8),
            r#"header, byte 53: tensor "a": data_offsets [0, 8] hold 8 bytes, expected 16 for F64 [2]"#,
        ),
        (
            one("C64", "[1]", 4),
            r#"header, byte 53: tensor "a": data_offsets [0, 4] hold 4 bytes, expected 8 for C64 [1]"#,
        ),
        (
            one("BOOL", "[2]", 1),
            r#"header, byte 54: tensor "a": data_offsets [0, 1] hold 1 bytes, expected 2 for BOOL [2]"#,
        ),
        (
            one("BF16", "[3,3]", 17),
            r#"header, byte 57: tensor "a": data_offsets [0, 17] hold 17 bytes, expected 18 for BF16 [3, 3]"#,
        ),
        (
            one("F32", "[4294967296,4294967296]", 16),
            r#"header, byte 74: tensor "a": data_offsets [0, 16] hold 16 bytes, expected a whole number of bytes below 2^61, which F32 [4294967296, 4294967296] is not"#,
        ),
        (
            one("U8", "[4294967296,4294967296]", 0),
            r#"header, byte 72: tensor "a": data_offsets [0, 0] hold 0 bytes, expected a whole number of bytes below 2^61, which U8 [4294967296, 4294967296] is not"#,
        ),
        (
            one("F32", "[4611686018427387904]", 0),
            r#"header, byte 71: tensor "a": data_offsets [0, 0] hold 0 bytes, expected a whole number of bytes below 2^61, which F32 [4611686018427387904] is not"#,
        ),
        (
            one("F64", "[2305843009213693952]", 0),
            r#"header, byte 71: tensor "a": data_offsets [0, 0] hold 0 bytes, expected a whole number of bytes below 2^61, which F64 [2305843009213693952] is not"#,
        ),
        (
            one("F32", "[18446744073709551615]", 16),
            r#"header, byte 73: tensor "a": data_offsets [0, 16] hold 16 bytes, expected a whole number of bytes below 2^61, which F32 [18446744073709551615] is not"#,
        ),
        (
            one("U8", "[2305843009213693952]", 0),
            r#"header, byte 70: tensor "a": data_offsets [0, 0] hold 0 bytes, expected a whole number of bytes below 2^61, which U8 [2305843009213693952] is not"#,
        ),
        // Where a dimension is 0 the others' product must still be a number, in the order they come: as the reference has it.
        (
            one("F32", "[4294967296,4294967296,0]", 0),
            r#"header, byte 75: tensor "a": data_offsets [0, 0] hold 0 bytes, expected a whole number of bytes below 2^61, which F32 [4294967296, 4294967296, 0] is not"#,
        ),
        (
            one("U8", "[18446744073709551615,2,0]", 0),
            r#"header, byte 75: tensor "a": data_offsets [0, 0] hold 0 bytes, expected a whole number of bytes below 2^61, which U8 [18446744073709551615, 2, 0] is not"#,
        ),
        (
            one("U8", "[18446744073709551615,18446744073709551615,0,1]", 0),
            r#"header, byte 96: tensor "a": data_offsets [0, 0] hold 0 bytes, expected a whole number of bytes below 2^61, which U8 [18446744073709551615, 18446744073709551615, 0, 1] is not"#,
        ),
        (
            one("F32", "[9223372036854775808,4,0]", 0),
            r#"header, byte 75: tensor "a": data_offsets [0, 0] hold 0 bytes, expected a whole number of bytes below 2^61, which F32 [9223372036854775808, 4, 0] is not"#,
        ),
        (
            one("F4", "[1]", 1),
            r#"header, byte 52: tensor "a": data_offsets [0, 1] hold 1 bytes, expected a whole number of bytes below 2^61, which F4 [1] is not"#,
        ),
        (
            one("F4", "[3]", 2),
            r#"header, byte 52: tensor "a": data_offsets [0, 2] hold 2 bytes, expected a whole number of bytes below 2^61, which F4 [3] is not"#,
        ),
        (
            one("F4", "[3,5]", 8),
            r#"header, byte 54: tensor "a": data_offsets [0, 8] hold 8 bytes, expected a whole number of bytes below 2^61, which F4 [3, 5] is not"#,
        ),
        (
            one("F4", "[4]", 4),
            r#"header, byte 52: tensor "a": data_offsets [0, 4] hold 4 bytes, expected 2 for F4 [4]"#,
        ),
        (
            one("F6_E2M3", "[1]", 1),
            r#"header, byte 57: tensor "a": data_offsets [0, 1] hold 1 bytes, expected a whole number of bytes below 2^61, which F6_E2M3 [1] is not"#,
        ),
        (
            one("F6_E2M3", "[2]", 2),
            r#"header, byte 57: tensor "a": data_offsets [0, 2] hold 2 bytes, expected a whole number of bytes below 2^61, which F6_E2M3 [2] is not"#,
        ),
        (
            one("F6_E3M2", "[3]", 3),
            r#"header, byte 57: tensor "a": data_offsets [0, 3] hold 3 bytes, expected a whole number of bytes below 2^61, which F6_E3M2 [3] is not"#,
        ),
        (
            one("F6_E3M2", "[5]", 4),
            r#"header, byte 57: tensor "a": data_offsets [0, 4] hold 4 bytes, expected a whole number of bytes below 2^61, which F6_E3M2 [5] is not"#,
        ),
        (
            one("F6_E3M2", "[4]", 4),
            r#"header, byte 57: tensor "a": data_offsets [0, 4] hold 4 bytes, expected 3 for F6_E3M2 [4]"#,
        ),
        (
            one("F8_E8M0", "[4]", 5),
            r#"header, byte 57: tensor "a": data_offsets [0, 5] hold 5 bytes, expected 4 for F8_E8M0 [4]"#,
        ),
    ]
}

/// More than there may be.
fn limits() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (
            file(format!("{{\"a\":{{\"dtype\":\"{}\"}}}}", "F".repeat(2000)), 0),
            "header, byte 2015: a string of more than 1024 bytes",
        ),
        (
            file(format!("{{\"a\":{{\"{}\":1}}}}", "k".repeat(2000)), 0),
            r#"header, byte 2009: tensor "a": key "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…" is not known"#,
        ),
    ]
}

/// Tensors that do not cover the data section once, in every order of their entries.
fn layouts() -> Vec<(Vec<u8>, String)> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let good = [("a", 0, 4), ("b", 4, 8), ("c", 8, 12)];
    let mut cases = Vec::new();
    for order in orders {
        // The entries with these positions, over so many bytes; and where the entry of b ends.
        let make = |tensors: [(&str, u64, u64); 3], data| {
            let text = order.map(|i| {
                let (name, start, end) = tensors[i];
                entry(name, "U8", "[4]", &format!("[{start},{end}]"))
            });
            let header = format!("{{{}}}", text.join(","));
            let b = header.find("\"b\"").unwrap();
            let end = b + header[b..].find('}').unwrap() + 1;
            (file(header, data), end)
        };
        let with_b = |start, end, data| make([good[0], ("b", start, end), good[2]], data);
        let mut add = |(bytes, end): (Vec<u8>, usize), said: &str| {
            cases.push((bytes, said.replace("END", &end.to_string())));
        };
        add(
            with_b(3, 7, 12),
            r#"tensor "b" overlaps what is before it: it starts at 3, expected 4"#,
        );
        add(with_b(5, 9, 12), r#"tensor "b" leaves a hole before it: it starts at 5, expected 4"#);
        add(
            with_b(8, 4, 12),
            r#"header, byte END: tensor "b": data_offsets [8, 4] hold -4 bytes, expected 4 for U8 [4]"#,
        );
        add(
            with_b(12, 16, 12),
            r#"tensor "c" leaves a hole before it: it starts at 8, expected 4"#,
        );
        add(
            with_b(u64::MAX - 4, u64::MAX, 12),
            r#"tensor "c" leaves a hole before it: it starts at 8, expected 4"#,
        );
        add(
            make(good, 13),
            "the data section has 13 bytes, expected the 12 that the header describes",
        );
        add(
            make(good, 11),
            "the data section has 11 bytes, expected the 12 that the header describes",
        );
    }
    let over = |header: String, data, said: &str| (file(header, data), said.to_owned());
    cases.extend([
        over("{}".into(), 3, "the data section has 3 bytes, expected the 0 that the header describes"),
        over(
            format!("{{{A}}}"),
            0,
            "the data section has 0 bytes, expected the 16 that the header describes",
        ),
        over(
            format!("{{{}}}", entry("a", "U8", "[4]", "[4,8]")),
            8,
            r#"tensor "a" leaves a hole before it: it starts at 4, expected 0"#,
        ),
        over(
            format!("{{{A},{}}}", entry("b", "U8", "[0]", "[8,8]")),
            16,
            r#"tensor "b" overlaps what is before it: it starts at 8, expected 16"#,
        ),
        over(
            format!("{{{A},{}}}", entry("b", "U8", "[0]", "[17,17]")),
            16,
            r#"tensor "b" leaves a hole before it: it starts at 17, expected 16"#,
        ),
        over(
            format!("{{{A},{}}}", entry("b", "F32", "[4]", "[0,16]")),
            16,
            r#"tensor "b" overlaps what is before it: it starts at 0, expected 16"#,
        ),
        over(
            beyond_64_bits(),
            0,
            "the data section has 0 bytes, expected the 18446744073709551608 that the header describes",
        ),
    ]);
    cases
}

/// Eight tensors of 2^61 - 1 bytes one after the other, and an empty one at their end.
fn beyond_64_bits() -> String {
    let size = (1u64 << 61) - 1;
    let tensor = |i: u64| {
        let n = if i < 8 { size } else { 0 };
        let offsets = format!("[{},{}]", i * size, i * size + n);
        entry(&i.to_string(), "U8", &format!("[{n}]"), &offsets)
    };
    format!("{{{}}}", (0..9).map(tensor).collect::<Vec<_>>().join(","))
}
