#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eventstream_core_fuzz::flash::read(data));
