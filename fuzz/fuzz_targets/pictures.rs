#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tersor_fuzz::fuzz("pictures", data));
