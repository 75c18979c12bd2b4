#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ucaffeine::site::fuzzing::authorization(data));
